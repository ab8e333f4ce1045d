-- Who sells in a category, and lives in one of three states: two streams, joined without a bound on time.
CREATE STREAMING TABLE q3 USING parquet AS
SELECT P.name, P.city, P.state, A.id
FROM STREAM auction AS A JOIN STREAM person AS P ON A.seller = P.id
WHERE A.category = 10 AND (P.state = 'OR' OR P.state = 'ID' OR P.state = 'CA');
