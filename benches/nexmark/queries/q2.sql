-- Bids for certain auctions.
CREATE STREAMING TABLE q2 USING parquet AS
SELECT auction, price FROM STREAM bid WHERE mod(auction, 123) = 0;
