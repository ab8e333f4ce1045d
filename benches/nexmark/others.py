"""The queries of Nexmark as jobs for Apache Flink and Apache Spark (flink.py and spark.py beside run.py carry them out).

Spark has Highwater's own text. Flink has it where its SQL is the same, but for the words of streams and for the names it
keeps for itself, and else a file of its own in `flink/`. What an engine cannot do is in `REFUSED`, with its reason; nothing
is done in its place.
"""

import pathlib
import re
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import engines  # noqa: E402

QUERIES = sorted((path.stem for path in (HERE / "queries").glob("q*.sql")), key=lambda name: int(name[1:]))
HEADER = re.compile(
    r"CREATE STREAMING TABLE (?P<name>\w+) USING (?P<format>\w+)"
    r"(?: OPTIONS \(outputMode = '(?P<mode>\w+)'\))?(?: PARTITIONED BY \((?P<partitions>.*?)\))? AS\s"
)
# Rows that Flink changes after it has given them. No sink of files takes such, so that they go nowhere, as in the
# benchmark itself; it is spared the writing that Highwater and Spark do.
FLINK_CHANGES = {"q4", "q9", "q15", "q16", "q17", "q18", "q19"}
SPARK_SIDE_INPUT = (
    "CREATE TEMPORARY VIEW side_input (key BIGINT, value STRING) USING csv OPTIONS (path = '{scratch}/side_input.csv')"
)
REFUSED = {
    "flink": {
        "q6": "it is two queries, the second of which reads the rows of the first",
        "q12": "its source ends, and a window of the clock that is open then is never given",
        "q13": "its files are no source for lookups, and an ordinary join would keep all bids",
    },
    "spark": {
        "q4": "it is two queries, the second of which reads the rows of the first",
        "q5": "it takes no rank over the rows of a stream",
        "q6": "it is two queries, the second of which reads the rows of the first",
        "q7": "it does not resolve a stream with a watermark that is joined with itself",
        "q9": "it takes no row_number over the rows of a stream",
        "q15": "it takes no DISTINCT aggregates over a stream",
        "q16": "it takes no DISTINCT aggregates over a stream",
        "q18": "it takes no row_number over the rows of a stream",
        "q19": "it takes no row_number over the rows of a stream",
    },
}


def written(name):
    """The query of a file in `queries`, as it is there, and what its head says of the table."""
    text = (HERE / f"queries/{name}.sql").read_text()
    heads = list(HEADER.finditer(text))
    return text[heads[-1].end() :].strip().removesuffix(";"), heads[-1].groupdict()


def quoted(text):
    """Flink keeps these names for itself, here those of columns only."""
    return re.sub(r"\bdateTime\b|(?<=\bAS )(day|minute)\b", r"`\g<0>`", text)


def flink_query(name):
    """The SELECT of a query in Flink's SQL: a length is one of characters there, and the mean of whole numbers is whole."""
    own = HERE / f"flink/{name}.sql"
    if own.exists():
        return quoted(own.read_text())
    text = re.sub(r"\bSTREAM (\w)", r"\1", written(name)[0])
    return quoted(text.replace("length(", "char_length(").replace("avg(price)", "avg(CAST(price AS DOUBLE))"))


def flink_job(name, source, compared_in=None):
    """A job for flink.py: the rows go to files, or nowhere if they change; if they are to be compared, to a folder of JSON."""
    statements = quoted((HERE / "flink/tables.sql").read_text()).replace("${source}", source).split(";\n")
    partitions = written(name)[1]["partitions"]
    changes = name in FLINK_CHANGES
    files = "WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = '{}')"
    check = "SELECT count(*) FROM answer"
    if compared_in:
        sink, check = files.format(compared_in, "json', 'json.timestamp-format.standard' = 'ISO-8601"), None
    elif changes:
        sink, check = "WITH ('connector' = 'blackhole')", None
    elif partitions:
        sink = f"PARTITIONED BY ({partitions}) " + files.format("{out}", "csv")
    else:
        sink = files.format("{out}", "avro")
    return {
        "setup": [statement for statement in statements if statement.strip()],
        "query": f"CREATE TABLE answer {sink} AS\n{flink_query(name)}",
        "check": check,
        "batch": bool(compared_in) and changes,
    }


def spark_job(name, scratch):
    """A job for spark.py, over the same events in files."""
    tables = re.sub(r"--.*", "", (HERE / "tables.sql").read_text())
    events, *views = [statement.strip() for statement in tables.split(";\n") if statement.strip()]
    query, head = written(name)
    side_inputs = [SPARK_SIDE_INPUT.format(scratch=scratch)] if name == "q13" else []
    return {
        "schema": events[events.index("(") + 1 : events.rindex(")")],
        "files": f"{scratch}/events",
        "setup": views + side_inputs,
        "query": query,
        "mode": head["mode"] or "append",
        "format": "csv" if head["format"] == "csv" else "parquet",
        "partitions": head["partitions"].split(", ") if head["partitions"] else [],
        "check": "SELECT count(*) FROM answer",
    }


def text_of(name):
    """All that Highwater is told for a query."""
    return (HERE / "tables.sql").read_text() + (HERE / f"queries/{name}.sql").read_text()


def side_input(scratch):
    """The table of q13."""
    (scratch / "side_input.csv").write_text("".join(f"{key},value {key}\n" for key in range(10_000)))


def event_files(command, events, parts, scratch):
    """The events in so many files, one after the other, by what `datagen nexmark` is otherwise told."""
    (scratch / "events").mkdir()
    part = -(-events // parts)
    for index in range(parts):
        count = str(max(0, min(part, events - index * part)))
        output = ["--skip", str(index * part), "--count", count, "--output", f"{scratch}/events/part-{index:03}.json"]
        subprocess.run(command + output, check=True, stderr=subprocess.DEVNULL)
