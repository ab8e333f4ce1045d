-- The last bid of each bidder for each auction, and of several at once the highest. A window function would need all
-- bids; the largest of (time, price, ...) is the same, and is a state of one row.
CREATE STREAMING TABLE q18 USING delta OPTIONS (outputMode = 'complete') AS
SELECT auction, bidder, last.price, last.channel, last.url, last.dateTime, last.extra
FROM (
  SELECT auction, bidder, max(struct(dateTime, price, channel, url, extra)) AS last
  FROM STREAM bid
  GROUP BY auction, bidder);
