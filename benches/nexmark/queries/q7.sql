-- The highest bids of each ten seconds.
CREATE STREAMING TABLE q7 USING parquet AS
SELECT B.auction, B.bidder, B.price, B.dateTime, B.extra
FROM STREAM bid AS B
JOIN (
  SELECT max(price) AS maxprice, window
  FROM STREAM bid
  GROUP BY window(dateTime, '10 seconds')) AS B1
ON B.price = B1.maxprice AND window(B.dateTime, '10 seconds') = B1.window;
