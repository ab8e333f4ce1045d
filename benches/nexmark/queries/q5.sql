-- The auctions with most bids in the last ten seconds, every two seconds.
CREATE STREAMING TABLE q5 USING parquet AS
SELECT auction, num, starttime
FROM (
  SELECT auction, num, window.start AS starttime, rank() OVER (PARTITION BY window ORDER BY num DESC) AS place
  FROM (
    SELECT auction, window, count(*) AS num
    FROM STREAM bid
    GROUP BY window(dateTime, '10 seconds', '2 seconds'), auction))
WHERE place = 1;
