-- Every payment that a card terminal or a shop has asked for.
CREATE TABLE payments (
  payment_id STRING,
  card_id STRING,
  merchant_id STRING,
  category STRING,
  amount DOUBLE,
  currency STRING,
  country STRING,
  channel STRING,
  ts TIMESTAMP
) USING kafka OPTIONS (
  'kafka.bootstrap.servers' = '${bootstrap}',
  subscribe = 'payments.card.authorized',
  startingOffsets = 'earliest',
  'value.format' = 'json'
);

-- Where alerts go: one JSON record each, exactly once for readers of committed records.
CREATE SINK fraud_alerts USING kafka OPTIONS (
  'kafka.bootstrap.servers' = '${bootstrap}',
  topic = 'payments.fraud.suspected',
  'value.format' = 'json'
);
