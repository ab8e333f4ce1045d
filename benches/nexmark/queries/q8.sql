-- Who came and sold something within the same ten seconds.
CREATE STREAMING TABLE q8 USING parquet AS
SELECT P.id, P.name, P.window.start AS starttime
FROM (
  SELECT id, name, window FROM STREAM person GROUP BY id, name, window(dateTime, '10 seconds')) AS P
JOIN (
  SELECT seller, window FROM STREAM auction GROUP BY seller, window(dateTime, '10 seconds')) AS A
ON P.id = A.seller AND P.window = A.window;
