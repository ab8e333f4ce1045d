-- The auctions with most bids in the last ten seconds, every two seconds.
CREATE STREAMING TABLE q5 USING parquet AS
SELECT AuctionBids.auction, AuctionBids.num, AuctionBids.window.start AS starttime
FROM (
  SELECT auction, count(*) AS num, window
  FROM STREAM bid
  GROUP BY auction, window(dateTime, '10 seconds', '2 seconds')) AS AuctionBids
JOIN (
  SELECT max(num) AS maxn, window
  FROM (
    SELECT count(*) AS num, window
    FROM STREAM bid
    GROUP BY auction, window(dateTime, '10 seconds', '2 seconds')) AS CountBids
  GROUP BY window) AS MaxBids
ON AuctionBids.window = MaxBids.window AND AuctionBids.num >= MaxBids.maxn;
