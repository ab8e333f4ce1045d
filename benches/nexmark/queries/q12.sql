-- How many bids somebody made in each ten seconds of the clock (not of event time).
CREATE STREAMING TABLE q12 USING delta OPTIONS (outputMode = 'complete') AS
SELECT bidder, count(*) AS bid_count, window.start AS starttime, window.end AS endtime
FROM (SELECT bidder, current_timestamp() AS p_time FROM STREAM bid)
GROUP BY bidder, window(p_time, '10 seconds');
