-- Every page somebody looked at.
CREATE TABLE clicks (
  event_id STRING,
  session_id STRING,
  user_id STRING,
  page STRING,
  referrer STRING,
  device STRING,
  time_on_page_ms BIGINT,
  ts TIMESTAMP
) USING kafka OPTIONS (
  'kafka.bootstrap.servers' = '${bootstrap}',
  subscribe = 'web.page.viewed',
  startingOffsets = 'earliest',
  'value.format' = 'json'
);

-- What the pages are: a static table, read from the file beside this folder.
CREATE TABLE pages (page STRING, title STRING, section STRING)
USING csv OPTIONS (path = '${project.dir}/pages.csv', header = 'true');

-- Where the result goes: a table in an SQLite database.
CREATE SINK page_traffic USING sqlite OPTIONS (path = '${sqlite}', table = 'page_traffic');
