-- What all queries read: one table of events, and a view of each kind. ${source} is USING and its options.
CREATE TABLE events (
  event_type INT,
  person STRUCT<
    id: BIGINT, name: STRING, emailAddress: STRING, creditCard: STRING, city: STRING, state: STRING,
    dateTime: TIMESTAMP, extra: STRING>,
  auction STRUCT<
    id: BIGINT, itemName: STRING, description: STRING, initialBid: BIGINT, reserve: BIGINT, dateTime: TIMESTAMP,
    expires: TIMESTAMP, seller: BIGINT, category: BIGINT, extra: STRING>,
  bid STRUCT<
    auction: BIGINT, bidder: BIGINT, price: BIGINT, channel: STRING, url: STRING, dateTime: TIMESTAMP, extra: STRING>
) ${source};

-- The time of an event is that of whatever kind it is. The filter of a view is applied before the watermark sees the
-- rows, as in Spark: a view's watermark is that of its kind.
CREATE TEMPORARY VIEW person AS
SELECT
  person.id, person.name, person.emailAddress, person.creditCard, person.city, person.state, dateTime, person.extra
FROM STREAM events
  WATERMARK coalesce(bid.dateTime, auction.dateTime, person.dateTime) AS dateTime DELAY OF INTERVAL 4 SECONDS
WHERE event_type = 0;

CREATE TEMPORARY VIEW auction AS
SELECT
  auction.id, auction.itemName, auction.description, auction.initialBid, auction.reserve, dateTime, auction.expires,
  auction.seller, auction.category, auction.extra
FROM STREAM events
  WATERMARK coalesce(bid.dateTime, auction.dateTime, person.dateTime) AS dateTime DELAY OF INTERVAL 4 SECONDS
WHERE event_type = 1;

CREATE TEMPORARY VIEW bid AS
SELECT bid.auction, bid.bidder, bid.price, bid.channel, bid.url, dateTime, bid.extra
FROM STREAM events
  WATERMARK coalesce(bid.dateTime, auction.dateTime, person.dateTime) AS dateTime DELAY OF INTERVAL 4 SECONDS
WHERE event_type = 2;
