-- As the benchmark has it: sliding windows joined with their own largest count. A rank of windows Flink does not take.
WITH counts AS (
  SELECT auction, COUNT(*) AS num, window_start AS starttime, window_end AS endtime
  FROM TABLE(HOP(TABLE bid, DESCRIPTOR(dateTime), INTERVAL '2' SECOND, INTERVAL '10' SECOND))
  GROUP BY auction, window_start, window_end)
SELECT counts.auction, counts.num, counts.starttime
FROM counts
JOIN (SELECT MAX(num) AS most, starttime, endtime FROM counts GROUP BY starttime, endtime) AS best
ON counts.starttime = best.starttime AND counts.endtime = best.endtime AND counts.num = best.most
