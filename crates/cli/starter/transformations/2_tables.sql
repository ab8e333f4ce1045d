-- How many ticks each 5 seconds had, even and odd. A window is written once, when the watermark has passed its end.
CREATE STREAMING TABLE ticks_per_window AS
SELECT window.start AS window_start, value % 2 AS parity, count(*) AS ticks
FROM STREAM ticks WATERMARK timestamp DELAY OF INTERVAL 2 SECONDS
GROUP BY window(timestamp, '5 seconds'), value % 2;
