-- The ten highest bids of each auction. What stands above an aggregate in complete mode is an ordinary query, so the
-- bids are grouped by all they have: the state is all bids.
CREATE STREAMING TABLE q19 USING delta OPTIONS (outputMode = 'complete') AS
SELECT auction, bidder, price, channel, url, dateTime, extra, rank_number
FROM (
  SELECT
    *, row_number() OVER (PARTITION BY auction ORDER BY price DESC, dateTime, bidder) AS rank_number
  FROM (
    SELECT auction, bidder, price, channel, url, dateTime, extra
    FROM STREAM bid
    GROUP BY auction, bidder, price, channel, url, dateTime, extra))
WHERE rank_number <= 10;
