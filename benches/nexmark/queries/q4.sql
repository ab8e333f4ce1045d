-- The mean of the winning prices of each category. Winning prices are final when no bid for the auction can come; no
-- auction is open for a minute (at 60 events a second and more), and the bound lets the watermark see it.
CREATE STREAMING TABLE q4_winning USING parquet AS
SELECT A.id, A.category, A.dateTime, max(B.price) AS final
FROM STREAM auction AS A
JOIN STREAM bid AS B
  ON A.id = B.auction AND B.dateTime BETWEEN A.dateTime AND A.expires
  AND B.dateTime <= A.dateTime + INTERVAL 1 MINUTE
GROUP BY A.id, A.category, A.dateTime;

CREATE STREAMING TABLE q4 USING delta OPTIONS (outputMode = 'complete') AS
SELECT category, avg(final) AS final, count(*) AS auctions FROM STREAM q4_winning GROUP BY category;
