-- The ten highest bids of each auction.
CREATE STREAMING TABLE q19 USING delta OPTIONS (outputMode = 'update') AS
SELECT auction, bidder, price, channel, url, dateTime, extra, rank_number
FROM (
  SELECT *, row_number() OVER (PARTITION BY auction ORDER BY price DESC, dateTime, bidder) AS rank_number
  FROM STREAM bid)
WHERE rank_number <= 10;
