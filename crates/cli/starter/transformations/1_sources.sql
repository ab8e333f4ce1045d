-- Where the data comes from. `rate` makes rows (timestamp, value) at a steady pace, so that this runs without anything
-- else. For a topic, write instead:
--
--   CREATE TABLE ticks (timestamp TIMESTAMP, value BIGINT) USING kafka
--   OPTIONS ('kafka.bootstrap.servers' = '127.0.0.1:9092', subscribe = 'ticks', 'value.format' = 'json');
CREATE TABLE ticks USING rate OPTIONS (rowsPerSecond = '${rows_per_second}');
