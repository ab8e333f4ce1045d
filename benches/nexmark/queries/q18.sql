-- The last bid of each bidder for each auction, and of several at once the highest.
CREATE STREAMING TABLE q18 USING delta OPTIONS (outputMode = 'update') AS
SELECT auction, bidder, price, channel, url, dateTime, extra
FROM (
  SELECT *, row_number() OVER (PARTITION BY bidder, auction ORDER BY dateTime DESC, price DESC) AS rank_number
  FROM STREAM bid)
WHERE rank_number <= 1;
