-- A card that pays often and much within ten seconds is looked at twice: windows of ten seconds, a new one every five.
CREATE FLOW suspected_fraud AS INSERT INTO fraud_alerts BY NAME
SELECT
  window.start AS window_start,
  window.end AS window_end,
  card_id,
  count(*) AS payments,
  round(sum(amount), 2) AS total_amount,
  max(amount) AS largest_amount,
  approx_count_distinct(country) AS countries
FROM STREAM payments WATERMARK ts DELAY OF INTERVAL 2 SECONDS
GROUP BY window(ts, '10 seconds', '5 seconds'), card_id
HAVING count(*) >= 4 AND sum(amount) >= 1500;
