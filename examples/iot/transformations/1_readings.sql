-- What the sensors measure.
CREATE TABLE readings (
  device_id STRING,
  site STRING,
  temperature DOUBLE,
  vibration DOUBLE,
  battery DOUBLE,
  ts TIMESTAMP
) USING kafka OPTIONS (
  'kafka.bootstrap.servers' = '${bootstrap}',
  subscribe = 'iot.sensor.measured',
  startingOffsets = 'earliest',
  'value.format' = 'json'
);
