-- Prices in another currency.
CREATE STREAMING TABLE q1 USING parquet AS
SELECT auction, bidder, 0.908 * price AS price, dateTime, extra FROM STREAM bid;
