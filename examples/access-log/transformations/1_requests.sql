-- Lines of an access log in Apache's combined format:
--   83.149.9.216 - - [17/May/2015:10:05:03 +0000] "GET /a.png HTTP/1.1" 200 203023 "http://from/" "Mozilla/5.0 ..."
CREATE TABLE lines (value STRING) USING text OPTIONS (path = '${path}');

-- The parts of a line. A size of - (nothing was sent) is null.
CREATE TEMPORARY VIEW requests AS
SELECT
  regexp_extract(value, '^([^ ]+)', 1) AS client,
  to_timestamp(regexp_extract(value, '([0-9]{2}/[A-Za-z]{3}/[0-9]{4}:[0-9:]{8} [+-][0-9]{4})', 1), 'dd/MMM/yyyy:HH:mm:ss Z') AS ts,
  regexp_extract(value, '"([A-Z]+) ', 1) AS method,
  regexp_extract(value, '"[A-Z]+ ([^ ?"]+)', 1) AS path,
  CAST(regexp_extract(value, '" ([0-9]{3}) ', 1) AS INT) AS status,
  TRY_CAST(regexp_extract(value, '" [0-9]{3} ([0-9]+)', 1) AS BIGINT) AS size_bytes
FROM STREAM lines;
