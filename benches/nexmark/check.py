"""Runs the queries of Nexmark to their end and compares their rows with DuckDB's, from the same events.

    check.py [--events N] [--rate N] [--seed N] [--queries q0,q5] [--engine NAME] [--binary FILE] [--golden] [--keep]

Events are made by `highwater datagen nexmark` as JSON lines. DuckDB (`pip install duckdb`) reads them and runs `ANSWERS`
as plain SQL: what a streaming query in append mode has not given when its events end (a window that the watermark has not
passed) is left out there by a condition on `final`: the newest time of a person, an auction, a bid, less four seconds.
The least one of those that a query reads is its watermark; the filter of a view stands before it, as in Spark.
`--engine flink` checks the text of Flink, from a topic, where a source that ends gives all its windows: nothing is left out
then. What changes rows it has given runs as a batch, so that there are files to compare.
`--golden` writes the answers for a few seeded events to tests/nexmark, where `cargo test` compares them without DuckDB.
"""

import argparse
import collections
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

import duckdb
import others
from others import HERE, REFUSED, engines
from run import Broker

GOLDEN = HERE.parent.parent / "tests/nexmark"
GOLDEN_EVENTS = {"events": 6000, "rate": 60, "seed": 7}
START = "2024-01-01T07:59:00Z"  # A minute later it is day for q14.
MOST_GOLDEN_ROWS = 120
FEWER_ROWS = {"q6": "seller % 5 = 1", "q11": "bidder % 5 = 1", "q16": "channel NOT LIKE '%-%'"}  # Of all others a few auctions.

EVENTS = """
CREATE TABLE events AS SELECT * FROM read_json('{file}', format = 'newline_delimited', columns = {{
  event_type: 'INT',
  person: 'STRUCT(id BIGINT, name VARCHAR, emailAddress VARCHAR, creditCard VARCHAR, city VARCHAR, state VARCHAR,
    dateTime TIMESTAMP, extra VARCHAR)',
  auction: 'STRUCT(id BIGINT, itemName VARCHAR, description VARCHAR, initialBid BIGINT, reserve BIGINT,
    dateTime TIMESTAMP, expires TIMESTAMP, seller BIGINT, category BIGINT, extra VARCHAR)',
  bid: 'STRUCT(auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, url VARCHAR, dateTime TIMESTAMP,
    extra VARCHAR)'}});
CREATE VIEW person AS SELECT unnest(person) FROM events WHERE event_type = 0;
CREATE VIEW auction AS SELECT unnest(auction) FROM events WHERE event_type = 1;
CREATE VIEW bid AS SELECT unnest(bid) FROM events WHERE event_type = 2;
CREATE VIEW final AS SELECT
  max(person.dateTime) - INTERVAL 4 SECONDS AS person_watermark,
  max(auction.dateTime) - INTERVAL 4 SECONDS AS auction_watermark,
  max(bid.dateTime) - INTERVAL 4 SECONDS AS bid_watermark
FROM events;
CREATE VIEW side_input AS SELECT range AS key, 'value ' || range AS value FROM range(10000);
CREATE MACRO unix_millis(t) AS epoch_ms(t);
CREATE MACRO ten_seconds(t) AS time_bucket(INTERVAL 10 SECONDS, t, TIMESTAMP '2000-01-01');
"""

# A source that ends, in Flink: there the watermark passes everything.
ENDLESS = "CREATE OR REPLACE VIEW final AS SELECT " + ", ".join(
    f"TIMESTAMP '9999-01-01' AS {kind}_watermark" for kind in ("person", "auction", "bid")
)

RANKS = """count(*) AS total_bids,
  count(*) FILTER (price < 10000) AS rank1_bids,
  count(*) FILTER (price >= 10000 AND price < 1000000) AS rank2_bids,
  count(*) FILTER (price >= 1000000) AS rank3_bids"""
DISTINCT = ", ".join(
    f"""count(DISTINCT {name}) AS total_{name}s,
  count(DISTINCT {name}) FILTER (price < 10000) AS rank1_{name}s,
  count(DISTINCT {name}) FILTER (price >= 10000 AND price < 1000000) AS rank2_{name}s,
  count(DISTINCT {name}) FILTER (price >= 1000000) AS rank3_{name}s"""
    for name in ("bidder", "auction")
)
RANK_COLUMNS = ", ".join(f"{rank}_bids" for rank in ("total", "rank1", "rank2", "rank3"))
ALL_RANK_COLUMNS = ", ".join(
    f"{rank}_{name}" for name in ("bids", "bidders", "auctions") for rank in ("total", "rank1", "rank2", "rank3")
)

# An auction of Nexmark has no bid more than a minute after it began (q4, q9), so it is final a minute later.
WON = """SELECT A.*, B.auction, B.bidder, B.price, B.dateTime AS bid_dateTime, B.extra AS bid_extra
  FROM auction A JOIN bid B ON A.id = B.auction AND B.dateTime BETWEEN A.dateTime AND A.expires
    AND B.dateTime <= A.dateTime + INTERVAL 1 MINUTE, final
  WHERE A.dateTime + INTERVAL 1 MINUTE < least(final.auction_watermark, final.bid_watermark)"""

BID_COLUMNS = "auction, bidder, price, channel, url, unix_millis(dateTime) AS at, extra"

# What is compared of the result, in both engines; and the same result in DuckDB's SQL.
ANSWERS = {
    "q0": ("auction, bidder, price, unix_millis(dateTime) AS at, extra", "SELECT * FROM bid"),
    "q1": (
        "auction, bidder, CAST(price * 1000 AS BIGINT) AS price, unix_millis(dateTime) AS at, extra",
        "SELECT * REPLACE (0.908 * price AS price) FROM bid",
    ),
    "q2": ("auction, price", "SELECT * FROM bid WHERE auction % 123 = 0"),
    "q3": (
        "name, city, state, id",
        "SELECT P.name, P.city, P.state, A.id FROM auction A JOIN person P ON A.seller = P.id"
        " WHERE A.category = 10 AND P.state IN ('OR', 'ID', 'CA')",
    ),
    "q4": (
        "category, auctions, CAST(round(final * 100) AS BIGINT) AS final",
        f"SELECT category, avg(final) AS final, count(*) AS auctions"
        f" FROM (SELECT id, category, max(price) AS final FROM ({WON}) GROUP BY id, category) GROUP BY category",
    ),
    "q5": (
        "auction, num, unix_millis(starttime) AS starttime",
        """SELECT auction, num, starttime FROM (
          SELECT auction, starttime, count(*) AS num, max(count(*)) OVER (PARTITION BY starttime) AS most
          FROM (SELECT auction, unnest([time_bucket(INTERVAL 2 SECONDS, dateTime, TIMESTAMP '2000-01-01') - to_seconds(2 * n)
            FOR n IN range(5)]) AS starttime FROM bid)
          GROUP BY auction, starttime), final
        WHERE num = most AND starttime + INTERVAL 10 SECONDS <= final.bid_watermark""",
    ),
    "q6": (
        "seller, auctions, CAST(round(mean * 100) AS BIGINT) AS mean",
        f"""SELECT seller, avg(price) AS mean, count(*) AS auctions FROM (
          FROM (FROM ({WON}) QUALIFY row_number() OVER (PARTITION BY id ORDER BY price DESC, bid_dateTime) = 1)
          QUALIFY row_number() OVER (PARTITION BY seller ORDER BY bid_dateTime DESC, id DESC) <= 10)
        GROUP BY seller""",
    ),
    "q7": (
        "auction, bidder, price, unix_millis(dateTime) AS at, extra",
        """SELECT * FROM bid, final
        WHERE price = (SELECT max(price) FROM bid b WHERE ten_seconds(b.dateTime) = ten_seconds(bid.dateTime))
          AND ten_seconds(dateTime) + INTERVAL 10 SECONDS <= final.bid_watermark""",
    ),
    "q8": (
        "id, name, unix_millis(starttime) AS starttime",
        """SELECT DISTINCT P.id, P.name, ten_seconds(P.dateTime) AS starttime
        FROM person P JOIN auction A ON P.id = A.seller AND ten_seconds(P.dateTime) = ten_seconds(A.dateTime), final
        WHERE ten_seconds(P.dateTime) + INTERVAL 10 SECONDS <= least(final.person_watermark, final.auction_watermark)""",
    ),
    "q9": (
        "id, itemName, description, initialBid, reserve, unix_millis(dateTime) AS at, unix_millis(expires) AS expires, seller,"
        " category, auction, bidder, price, unix_millis(bid_dateTime) AS bid_at, bid_extra",
        f"SELECT * FROM ({WON}) QUALIFY row_number() OVER (PARTITION BY id ORDER BY price DESC, bid_dateTime) = 1",
    ),
    "q10": (
        "auction, bidder, price, unix_millis(dateTime) AS at, dt, hm",
        "SELECT *, strftime(dateTime, '%Y-%m-%d') AS dt, strftime(dateTime, '%H-%M') AS hm FROM bid",
    ),
    "q11": (
        "bidder, bid_count, unix_millis(starttime) AS starttime, unix_millis(endtime) AS endtime",
        """SELECT bidder, count(*) AS bid_count, min(dateTime) AS starttime, max(dateTime) + INTERVAL 10 SECONDS AS endtime
        FROM (SELECT *, sum(first) OVER (PARTITION BY bidder ORDER BY dateTime) AS session
          FROM (SELECT *, CASE WHEN dateTime - lag(dateTime) OVER (PARTITION BY bidder ORDER BY dateTime)
            < INTERVAL 10 SECONDS THEN 0 ELSE 1 END AS first FROM bid)), final
        GROUP BY bidder, session, final.bid_watermark HAVING max(dateTime) + INTERVAL 10 SECONDS <= final.bid_watermark""",
    ),
    # When a bid is read is another time in each run, so the sums over all windows are compared.
    "q12": (
        "bidder, bids",
        "SELECT bidder, count(*) AS bids FROM bid GROUP BY bidder",
        "(SELECT bidder, sum(bid_count) AS bids FROM q12 GROUP BY bidder)",
    ),
    "q13": (
        "auction, bidder, price, unix_millis(dateTime) AS at, value",
        "SELECT * FROM bid JOIN side_input ON auction % 10000 = key",
    ),
    "q14": (
        "auction, bidder, CAST(price * 1000 AS BIGINT) AS price, bidTimeType, unix_millis(dateTime) AS at, extra, c_counts",
        """SELECT * REPLACE (0.908 * price AS price), CASE WHEN hour(dateTime) BETWEEN 8 AND 18 THEN 'dayTime'
          WHEN hour(dateTime) <= 6 OR hour(dateTime) >= 20 THEN 'nightTime' ELSE 'otherTime' END AS bidTimeType,
          len(list_filter(string_split(extra, ''), lambda letter : letter = 'c')) AS c_counts
        FROM bid WHERE 0.908 * price > 1000000 AND 0.908 * price < 50000000""",
    ),
    "q15": (
        f"day, {ALL_RANK_COLUMNS}",
        f"SELECT strftime(dateTime, '%Y-%m-%d') AS day, {RANKS}, {DISTINCT} FROM bid GROUP BY day",
    ),
    "q16": (
        f"channel, day, minute, {ALL_RANK_COLUMNS}",
        f"SELECT channel, strftime(dateTime, '%Y-%m-%d') AS day, max(strftime(dateTime, '%H:%M')) AS minute, {RANKS}, {DISTINCT}"
        " FROM bid GROUP BY channel, day",
    ),
    "q17": (
        f"auction, day, {RANK_COLUMNS}, min_price, max_price, sum_price, CAST(round(avg_price * 100) AS BIGINT) AS avg_price",
        f"SELECT auction, strftime(dateTime, '%Y-%m-%d') AS day, {RANKS}, min(price) AS min_price, max(price) AS max_price,"
        " avg(price) AS avg_price, sum(price) AS sum_price FROM bid GROUP BY auction, day",
    ),
    "q18": (
        BID_COLUMNS,
        "SELECT * FROM bid QUALIFY row_number() OVER (PARTITION BY auction, bidder ORDER BY dateTime DESC, price DESC) = 1",
    ),
    "q19": (
        f"{BID_COLUMNS}, rank_number",
        "SELECT *, row_number() OVER (PARTITION BY auction ORDER BY price DESC, dateTime, bidder) AS rank_number FROM bid"
        " QUALIFY rank_number <= 10",
    ),
    "q20": (
        "auction, bidder, price, channel, url, unix_millis(bid_dateTime) AS bid_at, bid_extra, itemName, description,"
        " initialBid, reserve, unix_millis(auction_dateTime) AS at, unix_millis(expires) AS expires, seller, category",
        "SELECT B.* EXCLUDE (dateTime, extra), B.dateTime AS bid_dateTime, B.extra AS bid_extra,"
        " A.* EXCLUDE (dateTime, extra), A.dateTime AS auction_dateTime"
        " FROM bid B JOIN auction A ON B.auction = A.id WHERE A.category = 10",
    ),
    "q21": (
        "auction, bidder, price, channel, channel_id",
        """SELECT *, CASE lower(channel) WHEN 'apple' THEN '0' WHEN 'google' THEN '1' WHEN 'facebook' THEN '2'
          WHEN 'baidu' THEN '3' ELSE regexp_extract(url, '(&|^)channel_id=([^&]*)', 2) END AS channel_id
        FROM bid WHERE channel_id <> ''""",
    ),
    "q22": (
        "auction, bidder, price, channel, dir1, dir2, dir3",
        "SELECT *, string_split(url, '/')[4] AS dir1, string_split(url, '/')[5] AS dir2, string_split(url, '/')[6] AS dir3"
        " FROM bid",
    ),
}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--rate", type=int, default=1000, help="events a second of event time, at least 60 (see q4)")
    parser.add_argument("--seed", type=int, default=1)
    engines.add_names(parser, "--queries", "query", tuple(ANSWERS))
    parser.add_argument("--engine", choices=["highwater", "flink"], default="highwater", help="whose rows")
    engines.add_binary(parser)
    parser.add_argument("--golden", action="store_true", help="write DuckDB's answers to tests/nexmark instead")
    parser.add_argument("--keep", action="store_true", help="leave the folder of events and results")
    given = parser.parse_args()
    engines.check_binary(parser, given)
    if given.golden:
        vars(given).update(GOLDEN_EVENTS)
    return given


def datagen(given):
    command = [given.binary, "datagen", "nexmark", "--padding", "--seed", str(given.seed), "--start", START]
    return command + ["--event-rate", str(given.rate), "--late-share", "0"]


def compared(name, golden=False):
    """The query of what is compared of a result; of a long one a part is enough to keep."""
    columns, table = ANSWERS[name][0], (ANSWERS[name] + (name,))[2]
    return f"SELECT {columns} FROM {table}" + (f" WHERE {FEWER_ROWS.get(name, 'auction % 25 = 7')}" if golden else "")


def expected(database, name, query):
    return rows_of(database.execute(f"WITH {name} AS ({ANSWERS[name][1]}) {query}".replace(ANSWERS["q12"][2], "q12")))


def rows_of(result):
    columns = [column[0] for column in result.description]
    return sorted(
        json.dumps(dict(zip(columns, map(plain, row))), separators=(",", ":"), ensure_ascii=False) for row in result.fetchall()
    )


def plain(value):
    """Sums are HUGEINT in DuckDB, which Python shows as what they are; anything else would be a mistake in `ANSWERS`."""
    assert isinstance(value, (int, str)), f"{value!r} is neither a whole number nor a text"
    return value


def found(given, name, scratch):
    """The rows of a query that ran from an empty storage folder to its end, a file a batch."""
    storage = scratch / "storage" / name
    source = f"USING json OPTIONS (path = '{scratch}/events', maxFilesPerTrigger = 1)"
    program = scratch / f"{name}.sql"
    program.write_text(others.text_of(name))
    command = [given.binary, "run", str(program), "--storage", str(storage), "--trigger", "available-now"]
    command += ["--param", f"source={source}", "--param", f"side_input={scratch}/side_input.csv"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{name} failed:\n{done.stderr[-3000:]}")
    command = [given.binary, "sql", compared(name), "--storage", str(storage), "--output", "json"]
    rows = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    shutil.rmtree(storage)
    return sorted(rows)


def found_by_flink(given, database, name, scratch):
    """The rows of Flink, which writes them as JSON lines; DuckDB reads these by the types of its own answer."""
    out, topic = scratch / "flink" / name, f"{scratch}/broker"
    broker = Broker(given.binary, topic)
    try:
        source = engines.flink_topic(broker.address, "nexmark")
        engines.flink(others.flink_job(name, source, compared_in=out), scratch, 0)
    except engines.Refused as refused:
        sys.exit(f"{name}: {refused}")
    finally:
        broker.stop()
    described = database.execute(f"DESCRIBE {ANSWERS[name][1]}").fetchall()
    columns = ", ".join(f"'{column[0]}': '{column[1].replace('HUGEINT', 'BIGINT')}'" for column in described)
    rows = f"read_json('{out}/*', format = 'newline_delimited', columns = {{{columns}}})"
    database.execute(f"CREATE OR REPLACE TABLE found AS FROM {rows}")
    return rows_of(database.execute(f"WITH {name} AS (FROM found) {compared(name)}"))


def check(given, database, name, scratch):
    """Compares one query, and says how; true if both engines agree."""
    wanted = expected(database, name, compared(name))
    got = found_by_flink(given, database, name, scratch) if given.engine == "flink" else found(given, name, scratch)
    if wanted == got and wanted:
        print(f"{name}: {len(got):,} rows, equal", flush=True)
        return True
    more, missing = (collections.Counter(one) - collections.Counter(two) for one, two in ((got, wanted), (wanted, got)))
    print(f"{name}: {len(got):,} rows, DuckDB has {len(wanted):,}", flush=True)
    for title, rows in (("only here", more), ("only in DuckDB", missing)):
        for row in list(rows)[:3]:
            print(f"  {title}: {row}")
    return False


def write_golden(database):
    GOLDEN.mkdir(exist_ok=True)
    for name in (name for name in ANSWERS if name != "q12"):
        query = compared(name)
        rows = expected(database, name, query)
        if len(rows) > MOST_GOLDEN_ROWS:
            query = compared(name, golden=True)
            rows = expected(database, name, query)
        (GOLDEN / f"{name}.golden").write_text("\n".join([query, *rows]) + "\n")
        print(f"{name}: {len(rows)} rows")


def generate(given, scratch):
    """The events in four files; for Flink in a topic too. And the table of q13."""
    others.event_files(datagen(given), given.events, 4, scratch)
    others.side_input(scratch)
    if given.engine == "flink":
        broker = Broker(given.binary, f"{scratch}/broker")
        topic = ["--count", str(given.events), "--topic", "nexmark", "--bootstrap", broker.address]
        subprocess.run(datagen(given) + topic, check=True, stderr=subprocess.DEVNULL)
        broker.stop()


def main():
    given = arguments()
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="highwater-nexmark-"))
    try:
        generate(given, scratch)
        database = duckdb.connect()
        database.execute(EVENTS.format(file=f"{scratch}/events/*.json"))
        if given.golden:
            return write_golden(database)
        without = []
        if given.engine == "flink":
            database.execute(ENDLESS)
            without += REFUSED["flink"]
        queries = [name for name in given.queries if name not in without]
        agreed = [check(given, database, name, scratch) for name in queries]
        left_out = f"; left out: {', '.join(without)}" if without else ""
        print(f"{sum(agreed)} of {len(agreed)} queries agree on {given.events:,} events{left_out}")
        return 0 if all(agreed) else 1
    finally:
        if given.keep:
            print(f"left: {scratch}")
        else:
            shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
