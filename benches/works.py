"""The three works that are measured, as text for all engines, and the events they read.

    (a) filter and project to Parquet
    (b) count and sum of 1-minute windows by 8 types
    (c) count and sum of 1-minute windows by up to 1,000,000 users, state on disk

Nothing is late in these events, so that all engines must give the same rows, whatever their batches are. Spark reads the
text of Highwater. Flink has its own: windows are a table function there. And where its source ends, so do all its windows,
also those that the watermark has not passed; {closed} leaves these out, so that it writes what the others write. (Its
planner moves that condition before the aggregation, which spares it the events of the open windows.)
"""

COLUMNS = "event_id STRING, user_id BIGINT, event_type STRING, amount DOUBLE, ts TIMESTAMP, device STRING, country STRING"
EVENTS_PER_SECOND_OF_EVENT_TIME = 10_000
BATCHES = 10

FLINK_COLUMNS = COLUMNS.replace("ts TIMESTAMP", "ts TIMESTAMP_LTZ(3)")
FLINK_WINDOWS = (
    "SELECT window_start, {key}, count(*) AS events, sum(amount) AS amount"
    " FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '1' MINUTE))"
    " GROUP BY window_start, window_end, {key} HAVING window_end <= TIMESTAMP '{{closed}}'"
)

# The query, the watermark it needs, and what is compared: rows, and two totals over them.
WORKS = {
    "a": {
        "title": "filter + project to Parquet",
        "watermark": None,
        "query": "SELECT event_id, user_id, event_type, amount, ts FROM {events} WHERE amount >= 250.0",
        "flink": "SELECT event_id, user_id, event_type, amount, CAST(ts AS TIMESTAMP(3)) AS ts FROM events"
        " WHERE amount >= 250.0",
        "check": "SELECT count(*) AS n, sum(user_id) AS whole, round(sum(amount), 1) AS amount FROM {result}",
    },
    "b": {
        "title": "1-minute windows by 8 types",
        "watermark": "10 SECONDS",
        "query": "SELECT window.start AS window_start, event_type, count(*) AS events, sum(amount) AS amount"
        " FROM {events} GROUP BY window(ts, '1 minute'), event_type",
        "flink": FLINK_WINDOWS.format(key="event_type"),
        "check": "SELECT count(*) AS n, sum(events) AS whole, round(sum(amount), 1) AS amount FROM {result}",
    },
    "c": {
        "title": "1-minute windows by 1 M users",
        "watermark": "10 SECONDS",
        "query": "SELECT window.start AS window_start, user_id, count(*) AS events, sum(amount) AS amount"
        " FROM {events} GROUP BY window(ts, '1 minute'), user_id",
        "flink": FLINK_WINDOWS.format(key="user_id"),
        "check": "SELECT count(*) AS n, sum(events) AS whole, round(sum(amount), 1) AS amount FROM {result}",
    },
}
