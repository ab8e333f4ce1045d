-- The mean price of the last ten auctions of each seller that are over. For the bound of a minute see q4.
CREATE STREAMING TABLE q6_winning USING parquet AS
SELECT id, seller, price, bid_dateTime
FROM (
  SELECT *, row_number() OVER (PARTITION BY id, dateTime ORDER BY price DESC, bid_dateTime) AS place
  FROM (
    SELECT A.id, A.seller, A.dateTime, B.price, B.bid_dateTime
    FROM STREAM auction AS A
    JOIN (SELECT auction, price, dateTime AS bid_dateTime FROM STREAM bid) AS B
    ON A.id = B.auction AND B.bid_dateTime BETWEEN A.dateTime AND A.expires
      AND B.bid_dateTime <= A.dateTime + INTERVAL 1 MINUTE))
WHERE place = 1;

CREATE STREAMING TABLE q6 USING delta OPTIONS (outputMode = 'update') AS
SELECT seller, avg(price) AS mean, count(*) AS auctions
FROM (
  SELECT *, row_number() OVER (PARTITION BY seller ORDER BY bid_dateTime DESC, id DESC) AS place
  FROM STREAM q6_winning)
WHERE place <= 10
GROUP BY seller;
