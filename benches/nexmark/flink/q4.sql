-- The benchmark's text: an aggregate over an aggregate, both of which change as bids come.
SELECT category, AVG(CAST(final AS DOUBLE)) AS final, COUNT(*) AS auctions
FROM (
  SELECT MAX(B.price) AS final, A.id, A.category
  FROM auction AS A JOIN bid AS B ON A.id = B.auction AND B.dateTime BETWEEN A.dateTime AND A.expires
  GROUP BY A.id, A.category)
GROUP BY category
