"""The three works that are measured, as text for both engines, and the events they read.

    (a) filter and project to Parquet
    (b) count and sum of 1-minute windows by 8 types
    (c) count and sum of 1-minute windows by up to 1,000,000 users, state on disk

Nothing is late in these events, so that both engines must give the same rows, whatever their batches are.
"""

COLUMNS = "event_id STRING, user_id BIGINT, event_type STRING, amount DOUBLE, ts TIMESTAMP, device STRING, country STRING"
EVENTS_PER_SECOND_OF_EVENT_TIME = 10_000
BATCHES = 10

# The query, the watermark it needs, and what is compared: rows, and two totals over them.
WORKS = {
    "a": {
        "title": "filter + project to Parquet",
        "watermark": None,
        "query": "SELECT event_id, user_id, event_type, amount, ts FROM {events} WHERE amount >= 250.0",
        "check": "SELECT count(*) AS n, sum(user_id) AS whole, round(sum(amount), 1) AS amount FROM {result}",
    },
    "b": {
        "title": "1-minute windows by 8 types",
        "watermark": "10 SECONDS",
        "query": "SELECT window.start AS window_start, event_type, count(*) AS events, sum(amount) AS amount"
        " FROM {events} GROUP BY window(ts, '1 minute'), event_type",
        "check": "SELECT count(*) AS n, sum(events) AS whole, round(sum(amount), 1) AS amount FROM {result}",
    },
    "c": {
        "title": "1-minute windows by 1 M users",
        "watermark": "10 SECONDS",
        "query": "SELECT window.start AS window_start, user_id, count(*) AS events, sum(amount) AS amount"
        " FROM {events} GROUP BY window(ts, '1 minute'), user_id",
        "check": "SELECT count(*) AS n, sum(events) AS whole, round(sum(amount), 1) AS amount FROM {result}",
    },
}
