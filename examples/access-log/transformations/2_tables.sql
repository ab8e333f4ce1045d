-- What is asked for, and how much of it is sent.
CREATE STREAMING TABLE traffic_per_path AS
SELECT path, count(*) AS requests, sum(size_bytes) AS size_bytes
FROM STREAM requests
GROUP BY path;

-- Requests, visitors and the share of errors in each hour.
CREATE STREAMING TABLE traffic_per_hour AS
SELECT
  window.start AS hour,
  count(*) AS requests,
  approx_count_distinct(client) AS clients,
  sum(CASE WHEN status >= 400 THEN 1 ELSE 0 END) AS errors,
  avg(CASE WHEN status >= 400 THEN 1.0D ELSE 0.0D END) AS error_rate
FROM STREAM requests WATERMARK ts DELAY OF INTERVAL 10 MINUTES
GROUP BY window(ts, '1 hour');

-- What one client does within half an hour: a visit.
CREATE STREAMING TABLE visits AS
SELECT
  window.start AS visit_window,
  client,
  count(*) AS requests,
  min(ts) AS first_request,
  max(ts) AS last_request,
  approx_count_distinct(path) AS paths
FROM STREAM requests WATERMARK ts DELAY OF INTERVAL 10 MINUTES
GROUP BY window(ts, '30 minutes'), client;
