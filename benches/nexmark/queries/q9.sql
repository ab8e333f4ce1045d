-- The winning bid of each auction: the highest, and of equal ones the first. For the bound of a minute see q4.
CREATE STREAMING TABLE q9 USING parquet AS
SELECT
  id, itemName, description, initialBid, reserve, dateTime, expires, seller, category, extra,
  auction, bidder, price, bid_dateTime, bid_extra
FROM (
  SELECT *, row_number() OVER (PARTITION BY id, dateTime ORDER BY price DESC, bid_dateTime) AS place
  FROM (
    SELECT A.*, B.auction, B.bidder, B.price, B.bid_dateTime, B.bid_extra
    FROM STREAM auction AS A
    JOIN (
      SELECT auction, bidder, price, dateTime AS bid_dateTime, extra AS bid_extra FROM STREAM bid) AS B
    ON A.id = B.auction AND B.bid_dateTime BETWEEN A.dateTime AND A.expires
      AND B.bid_dateTime <= A.dateTime + INTERVAL 1 MINUTE))
WHERE place = 1;
