-- Bids with something looked up in a table that does not change.
CREATE TABLE side_input (key BIGINT, value STRING) USING csv OPTIONS (path = '${side_input}');

CREATE STREAMING TABLE q13 USING parquet AS
SELECT B.auction, B.bidder, B.price, B.dateTime, S.value
FROM STREAM bid AS B JOIN side_input AS S ON mod(B.auction, 10000) = S.key;
