-- The benchmark's text, but for the order of equal prices.
SELECT *
FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY auction ORDER BY price DESC, dateTime, bidder) AS rank_number FROM bid)
WHERE rank_number <= 10
