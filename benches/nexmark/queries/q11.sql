-- How many bids somebody made before pausing for ten seconds.
CREATE STREAMING TABLE q11 USING parquet AS
SELECT bidder, count(*) AS bid_count, session_window.start AS starttime, session_window.end AS endtime
FROM STREAM bid
GROUP BY bidder, session_window(dateTime, '10 seconds');
