-- Each device every five seconds. A streaming table is stored in the project's storage, as Delta unless it says else.
CREATE STREAMING TABLE device_windows AS
SELECT
  window.start AS window_start,
  device_id,
  site,
  count(*) AS readings,
  avg(temperature) AS mean_temperature,
  min(temperature) AS min_temperature,
  max(temperature) AS max_temperature,
  max(vibration) AS max_vibration,
  min(battery) AS min_battery
FROM STREAM readings WATERMARK ts DELAY OF INTERVAL 2 SECONDS
GROUP BY window(ts, '5 seconds'), device_id, site;
