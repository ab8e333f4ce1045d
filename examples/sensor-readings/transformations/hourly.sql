-- A folder of CSV files, one a sensor, with a header `timestamp,value`. `_file` is the path of the row's file.
CREATE TABLE readings (timestamp TIMESTAMP, value DOUBLE, _file STRING)
USING csv OPTIONS (path = '${path}', header = 'true', pathGlobFilter = '*.csv');

-- Statistics of each sensor for each hour; the sensor's name is its file's.
CREATE STREAMING TABLE hourly AS
SELECT
  window.start AS hour,
  regexp_extract(_file, '([^/]+)[.]csv$', 1) AS sensor,
  count(*) AS readings,
  avg(value) AS mean,
  min(value) AS min,
  max(value) AS max,
  stddev(value) AS deviation
FROM STREAM readings WATERMARK timestamp DELAY OF INTERVAL 1 HOUR
GROUP BY window(timestamp, '1 hour'), regexp_extract(_file, '([^/]+)[.]csv$', 1);
