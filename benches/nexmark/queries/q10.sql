-- All bids into files, a folder for each day and minute.
CREATE STREAMING TABLE q10 USING csv PARTITIONED BY (dt, hm) AS
SELECT
  auction, bidder, price, dateTime, extra, date_format(dateTime, 'yyyy-MM-dd') AS dt, date_format(dateTime, 'HH-mm') AS hm
FROM STREAM bid;
