-- Traffic of each page every five seconds, with the page's title and section from the static table.
CREATE FLOW page_traffic_flow AS INSERT INTO page_traffic BY NAME
SELECT
  window.start AS window_start,
  c.page,
  p.title,
  p.section,
  count(*) AS views,
  approx_count_distinct(c.user_id) AS visitors,
  avg(c.time_on_page_ms) AS mean_time_on_page_ms
FROM STREAM clicks WATERMARK ts DELAY OF INTERVAL 2 SECONDS AS c
JOIN pages AS p ON c.page = p.page
GROUP BY window(c.ts, '5 seconds'), c.page, p.title, p.section;
