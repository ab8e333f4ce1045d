#!/usr/bin/env python3
"""Asks a real Spark 4.3 what streaming queries emit, batch by batch: the goldens of tests/oracle/streams/.

    python3 -m venv venv && venv/bin/pip install pyspark==4.3.0      (Java 17 or later)
    venv/bin/python streams.py                     writes streams/F.golden for every streams/F.txt
    venv/bin/python streams.py joins windows       these families only
    venv/bin/python streams.py --missing           cases and modes that have no answer yet
    venv/bin/python streams.py --only left joins   cases whose name contains `left`

A family is a text file of cases:

    # A comment.
    @table a (k STRING, v INT, ts TIMESTAMP)   a stream: in force for the cases that follow, as every line with @
    @static d (k STRING, n STRING): x Xaver    a table that is not a stream, and its rows
    @conf spark.sql.session.timeZone UTC       a setting
    @modes append update                       output modes to ask; all three if nothing is said
    @steps some                                steps to be used by name, up to the next line without '>' or indent
    > a: x 1 00:05; y 2 00:10

    === the name of a case
    @conf spark.sql.ansi.enabled false         the same, for this case alone
    @use some                                  steps of that name come first
    SELECT k, count(*) AS n FROM STREAM a GROUP BY k
    > a: x 1 00:05; y 2 00:10                  a step: the rows of one batch, by table
      b: x 7 00:07
    > b:                                       a batch without rows
    >                                          nothing new at all

`@boundaries` says that the answer depends on which rows come in which batch, and why. Rows are separated by `;`, cells by
blanks. A cell is null, JSON (if it starts with a quote, a bracket or a brace) or a word, taken as a string where the
column is not a number. `05:30` is 2024-01-01 12:05:30, in UTC for a TIMESTAMP.

An answer has the columns of the query and their types, then for each step the rows that came in its batch and in the
batches without rows that followed (in complete mode: the newest result, in its order if the query has one), every value
as CAST(... AS STRING) gives it. After the step's number stand the watermark of the last batch, the rows each stateful
operator holds and, where there are any, the rows each dropped as late. `refused` and `failed` are followed by Spark's
error condition, if it has one, and its first words.
"""
import json
import logging
import os
import re
import shutil
import sys
import tempfile
import time

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "streams")
MODES = ["append", "update", "complete"]
NUMBERS = ("TINYINT", "SMALLINT", "INT", "BIGINT", "FLOAT", "DOUBLE", "DECIMAL", "BOOLEAN")


class Scope:
    """What lines with @ have said so far."""

    def __init__(self, parent=None):
        self.tables = dict(parent.tables) if parent else {}
        self.static = dict(parent.static) if parent else {}
        self.conf = dict(parent.conf) if parent else {"spark.sql.session.timeZone": "UTC"}
        self.modes = list(parent.modes) if parent else MODES
        self.named = parent.named if parent else {}
        self.steps, self.query, self.name = [], [], ""


def columns(schema):
    """Names and types of `(a INT, b STRUCT<x: INT, y: INT>)`."""
    found, depth, start = [], 0, 1
    for at, c in enumerate(schema):
        depth += (c in "(<[") - (c in ")>]")
        if (c == "," and depth == 1) or depth == 0:
            name, kind = schema[start:at].strip().split(None, 1)
            found.append((name, kind.strip()))
            start = at + 1
    return found


def cells(text):
    """Rows of cells: words, or JSON up to the bracket or quote that ends it."""
    rows, row, at = [], [], 0
    decoder = json.JSONDecoder()
    while at < len(text):
        c = text[at]
        if c.isspace():
            at += 1
        elif c == ";":
            rows.append(row)
            row, at = [], at + 1
        elif c in "\"{[":
            _, end = decoder.raw_decode(text, at)
            row.append(text[at:end])
            at = end
        else:
            end = re.compile(r"[\s;]|$").search(text, at).start()
            row.append(text[at:end])
            at = end
    return rows + [row] if row else rows


def as_json(cell, kind):
    if cell == "null" or cell[0] in "\"{[":
        return cell
    base = re.match(r"\w+", kind).group().upper()
    if base in NUMBERS:
        return cell if re.fullmatch(r"-?[0-9.]+([eE]-?\d+)?|true|false", cell) else json.dumps(cell)
    short = re.fullmatch(r"(\d\d:\d\d)((\.\d+)?)", cell)
    if short and base.startswith("TIMESTAMP"):
        cell = f"2024-01-01T12:{cell}" + ("" if base == "TIMESTAMP_NTZ" else "Z")
    return json.dumps(cell)


def lines(schema, text):
    """The rows as lines of JSON."""
    found = []
    for row in cells(text):
        assert len(row) == len(columns(schema)), f"{row} is no row of {schema}"
        fields = (f"{json.dumps(name)}: {as_json(cell, kind)}" for cell, (name, kind) in zip(row, columns(schema)))
        found.append("{" + ", ".join(fields) + "}\n")
    return "".join(found)


def directive(scope, line):
    word, _, rest = line.partition(" ")
    rest = rest.strip()
    if word == "@table":
        name, schema = rest.split(None, 1)
        scope.tables[name] = schema
    elif word == "@static":
        name, schema, rows = re.fullmatch(r"(\w+) (\(.*\)):(.*)", rest).groups()
        scope.static[name] = (schema, rows)
    elif word == "@conf":
        key, value = rest.split(None, 1)
        scope.conf[key] = value
    elif word == "@modes":
        scope.modes = rest.split()
    elif word == "@steps":
        scope.named[rest] = []
        return scope.named[rest]
    elif word == "@use":
        scope.steps += [list(step) for step in scope.named[rest]]
    else:
        assert word in ("@boundaries",), line
    return None


def cases(path):
    head, scope, steps = Scope(), None, None
    for line in open(path, encoding="utf-8"):
        line = line.rstrip("\n")
        here = scope or head
        if line.startswith("#") or not line.strip():
            continue
        if line.startswith("=== "):
            if scope:
                yield scope
            scope, steps = Scope(head), None
            scope.name = line[4:].strip()
        elif line.startswith("@"):
            steps = directive(here, line)
        elif line.startswith(">"):
            steps = here.steps if steps is None else steps
            steps.append([])
            if line[1:].strip():
                steps[-1].append(line[1:].strip())
        elif steps and line.startswith(" ") and re.match(r"\s+\w+:( |$)", line):
            steps[-1].append(line.strip())
        else:
            steps = None
            here.query.append(line)
    if scope:
        yield scope


def escape(text):
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r").replace(" | ", " \\| ")


def condition(error):
    """Spark's name for an error, and its first words."""
    text = re.sub(r"^\[STREAM_FAILED\] Query \[.*?\] terminated with exception: ", "", str(error).strip())
    name = re.match(r"\[([A-Z][A-Z0-9_]*(?:\.[A-Z0-9_]+)*)\]", text)
    words = re.sub(r"#\d+L?|\[[A-Z0-9_.]+\] ", "", text.split("\n")[0].split(";")[0])
    return f"{name[1] if name else '-'} {escape(' '.join(words.split())[:160].strip())}"


class Run:
    """One case in one output mode."""

    def __init__(self, spark, case, mode, folder):
        self.spark, self.case, self.mode, self.folder = spark, case, mode, folder
        self.rows, self.newest, self.files, self.error = [], None, 0, None

    def table(self, name, schema):
        path = os.path.join(self.folder, name)
        os.makedirs(path)
        self.spark.sql(f"DROP TABLE IF EXISTS {name}")
        self.spark.sql(f"CREATE TABLE {name} {schema} USING json OPTIONS (path '{path}')")

    def put(self, name, schema, text):
        """A file that is there whole or not at all."""
        self.files += 1
        part = os.path.join(self.folder, f".part{self.files}")
        with open(part, "w", encoding="utf-8") as file:
            file.write(lines(schema, text) or "\n")
        os.rename(part, os.path.join(self.folder, name, f"{self.files:04}.json"))

    def take(self, frame, batch):
        plain = frame.toDF(*[f"c{at}" for at in range(len(frame.columns))])
        try:
            rows = plain.selectExpr(*[f"CAST(c{at} AS STRING)" for at in range(len(frame.columns))]).collect()
        except Exception as error:
            self.error = error
            raise
        texts = [" | ".join("NULL" if value is None else escape(value) for value in row) for row in rows]
        self.newest = texts
        self.rows += texts

    def step(self, query, step):
        self.rows = []
        seen = max((p["batchId"] for p in query.recentProgress), default=-1)
        lock = query._jsq.streamingQuery().awaitProgressLock()
        lock.lock()
        try:
            for part in step:
                name, _, text = part.partition(":")
                self.put(name, self.case.tables[name], text)
        finally:
            lock.unlock()
        query.processAllAvailable()
        progress = [p for p in query.recentProgress if p["batchId"] > seen]
        data = [p for p in progress if any(s["startOffset"] != s["endOffset"] for s in p["sources"])]
        assert len(data) == (1 if step else 0), f"{self.case.name}: {len(data)} batches with data in a step"
        return progress

    def note(self, progress, before):
        """Watermark, state and late rows after a step."""
        last = progress[-1] if progress else before
        parts = []
        if last and last["eventTime"].get("watermark"):
            parts.append("watermark " + last["eventTime"]["watermark"].replace(".000Z", "Z"))
        if last and last["stateOperators"]:
            parts.append("state " + " ".join(str(s["numRowsTotal"]) for s in last["stateOperators"]))
            # An operator over nothing may be optimised away in a batch.
            dropped = [sum(p["stateOperators"][at]["numRowsDroppedByWatermark"]
                           for p in progress if at < len(p["stateOperators"]))
                       for at in range(len(last["stateOperators"]))]
            if any(dropped):
                parts.append("dropped " + " ".join(map(str, dropped)))
        return "".join(", " + part for part in parts), last

    def answer(self):
        from pyspark.errors.exceptions.captured import StreamingQueryException
        for name, schema in self.case.tables.items():
            self.table(name, schema)
        for name, (schema, rows) in self.case.static.items():
            self.table(name, schema)
            self.put(name, schema, rows)
        frame = self.spark.sql("\n".join(self.case.query))
        kinds = ", ".join(f"{escape(f.name)} {f.dataType.simpleString()}" for f in frame.schema.fields)
        writer = frame.writeStream.outputMode(self.mode).foreachBatch(self.take)
        query = writer.option("checkpointLocation", os.path.join(self.folder, "checkpoint")).start()
        out, last = [f"columns {kinds}"], None
        try:
            for number, step in enumerate(self.case.steps, 1):
                try:
                    note, last = self.note(self.step(query, step), last)
                except StreamingQueryException as error:
                    # What fails before a row is computed is a plan that cannot be.
                    if self.error is None:
                        return [f"refused {condition(error)}"]
                    return [*out, f"{number} failed {condition(self.error)}"]
                out.append(f"{number}{note}")
                rows = (self.newest or []) if self.mode == "complete" else self.rows
                out += [f"  {row}" for row in (rows if self.ordered() else sorted(rows))]
        finally:
            query.stop()
        return out

    def ordered(self):
        return self.mode == "complete" and "ORDER BY" in " ".join(self.case.query)


def ask(spark, case, mode):
    from pyspark.errors import PySparkException
    folder = tempfile.mkdtemp(prefix="streams-")
    old = {key: spark.conf.get(key, None) for key in case.conf}
    try:
        for key, value in case.conf.items():
            spark.conf.set(key, value)
        return Run(spark, case, mode, folder).answer()
    except PySparkException as error:
        return [f"refused {condition(error)}"]
    finally:
        for key, value in old.items():
            spark.conf.unset(key) if value is None else spark.conf.set(key, value)
        for name in [*case.tables, *case.static]:
            spark.sql(f"DROP TABLE IF EXISTS {name}")
        shutil.rmtree(folder, ignore_errors=True)


def session():
    from pyspark.sql import SparkSession
    conf = {
        "spark.sql.shuffle.partitions": "2", "spark.ui.enabled": "false", "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1", "spark.sql.streaming.noDataProgressEventInterval": "1h",
        "spark.sql.warehouse.dir": tempfile.mkdtemp(prefix="warehouse-"), "spark.ui.showConsoleProgress": "false",
        # The queries are small: interpreting them takes a tenth of the time that compiling them would.
        "spark.sql.codegen.wholeStage": "false", "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    }
    # A short life: the second compiler would never pay.
    conf["spark.driver.extraJavaOptions"] = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
    builder = SparkSession.builder.master("local[2]")
    for key, value in conf.items():
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("OFF")
    logging.disable(logging.CRITICAL)
    return spark


def known(path):
    """The answers there are: title to lines."""
    found = {}
    if os.path.exists(path):
        for block in re.split(r"^=== ", open(path, encoding="utf-8").read(), flags=re.M)[1:]:
            title, *rest = block.rstrip("\n").split("\n")
            found[title] = rest
    return found


def family(spark, name, wanted):
    """Asks the cases that are wanted; the others keep the answers they have."""
    started, titles, count = time.time(), [], 0
    golden = os.path.join(HERE, f"{name}.golden")
    answers = known(golden)
    try:
        for case in cases(os.path.join(HERE, f"{name}.txt")):
            for mode in case.modes:
                title = f"{case.name} [{mode}]"
                assert title not in titles, f"two cases are called {title}"
                titles.append(title)
                if wanted(case.name, title in answers):
                    answers[title] = ask(spark, case, mode)
                    count += 1
    finally:
        blocks = ("\n".join([f"=== {title}", *answers[title]]) for title in titles if title in answers)
        with open(golden, "w", encoding="utf-8") as file:
            file.write("\n\n".join(blocks) + "\n")
    print(f"{name}: {count} answers in {time.time() - started:.0f} s", file=sys.stderr, flush=True)


def main():
    arguments = sys.argv[1:]
    only, missing = "", "--missing" in arguments
    if "--only" in arguments:
        at = arguments.index("--only")
        only = arguments[at + 1]
        del arguments[at:at + 2]
    names = [argument for argument in arguments if argument != "--missing"]
    spark = session()
    for name in names or sorted(file[:-4] for file in os.listdir(HERE) if file.endswith(".txt")):
        family(spark, name, lambda case, is_known: only in case and not (missing and is_known))
    spark.stop()
    os._exit(0)


if __name__ == "__main__":
    main()
