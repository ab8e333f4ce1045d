-- Pass through: what reading and writing cost.
CREATE STREAMING TABLE q0 USING parquet AS
SELECT auction, bidder, price, dateTime, extra FROM STREAM bid;
