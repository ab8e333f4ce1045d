-- What all queries read in Flink: one table of events, and a view of each kind. ${source} is the connector and its options.
-- The watermark is that of all events: Flink has it before the filter of a view, at the source.
CREATE TABLE events (
  event_type INT,
  person ROW<
    id BIGINT, name STRING, emailAddress STRING, creditCard STRING, city STRING, state STRING,
    dateTime TIMESTAMP_LTZ(3), extra STRING>,
  auction ROW<
    id BIGINT, itemName STRING, description STRING, initialBid BIGINT, reserve BIGINT, dateTime TIMESTAMP_LTZ(3),
    expires TIMESTAMP_LTZ(3), seller BIGINT, category BIGINT, extra STRING>,
  bid ROW<
    auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, url STRING, dateTime TIMESTAMP_LTZ(3), extra STRING>,
  dateTime AS CAST(COALESCE(bid.dateTime, auction.dateTime, person.dateTime) AS TIMESTAMP(3)),
  WATERMARK FOR dateTime AS dateTime - INTERVAL '4' SECOND
) WITH (${source});

CREATE VIEW person AS
SELECT
  person.id, person.name, person.emailAddress, person.creditCard, person.city, person.state, dateTime, person.extra
FROM events
WHERE event_type = 0;

CREATE VIEW auction AS
SELECT
  auction.id, auction.itemName, auction.description, auction.initialBid, auction.reserve, dateTime,
  CAST(auction.expires AS TIMESTAMP(3)) AS expires, auction.seller, auction.category, auction.extra
FROM events
WHERE event_type = 1;

CREATE VIEW bid AS
SELECT bid.auction, bid.bidder, bid.price, bid.channel, bid.url, dateTime, bid.extra
FROM events
WHERE event_type = 2;
