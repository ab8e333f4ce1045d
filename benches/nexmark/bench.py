"""Measures the queries of Nexmark on Highwater, and on Apache Flink and Apache Spark beside it, exactly once.

    bench.py [--events N] [--rate N] [--rounds N] [--queries q0,q5] [--engines highwater,flink,spark] [--binary FILE]
             [--scratch DIR]

Highwater alone is what it measures if no engines are named. It and Flink read a topic of a broker of our own, Spark the
same events from ten files. Prints a table: events a second, CPU seconds of the query's process (start-up included; of Flink
and Spark only the query itself, cold and warm), events a CPU second, the peak of resident memory, the CPU seconds of the
broker, and how many rows the query wrote: medians of the rounds. What an engine cannot do is said below the table. That the
rows are right is what check.py is for.
"""

import argparse
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile

import others
from others import QUERIES, REFUSED, engines
from run import BATCHES, Broker, measured, median

START = "2026-01-01T00:00:00Z"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    engines.add_measuring(parser, events=2_000_000)
    parser.add_argument("--rate", type=int, default=10_000, help="events a second of event time, at least 60 (see q4)")
    engines.add_names(parser, "--queries", "query", QUERIES)
    engines.add_names(parser, "--engines", "engine", engines.ENGINES, default=["highwater"])
    engines.add_binary(parser)
    given = parser.parse_args()
    engines.check_binary(parser, given)
    return given


def generate(given, broker, scratch):
    """The events as a topic, and for Spark as files of a batch each; and the table of q13."""
    command = [given.binary, "datagen", "nexmark", "--padding", "--late-share", "0", "--start", START]
    command += ["--event-rate", str(given.rate)]
    topic = ["--count", str(given.events), "--topic", "nexmark", "--bootstrap", broker]
    subprocess.run(command + topic, check=True, stderr=subprocess.DEVNULL)
    others.side_input(scratch)
    if "spark" in given.engines:
        others.event_files(command, given.events, BATCHES, scratch)
    engines.note(f"{given.events:,} events are in the topic")


def highwater(given, name, broker, scratch):
    """One run from an empty storage folder to the end of the topic."""
    program, storage = scratch / f"{name}.sql", scratch / "storage"
    program.write_text(others.text_of(name))
    shutil.rmtree(storage, ignore_errors=True)
    source = (
        f"USING kafka OPTIONS ('kafka.bootstrap.servers' = '{broker.address}', subscribe = 'nexmark',"
        f" startingOffsets = 'earliest', 'value.format' = 'json', maxOffsetsPerTrigger = {-(-given.events // BATCHES)})"
    )
    command = [given.binary, "run", str(program), "--storage", str(storage), "--trigger", "available-now"]
    command += ["--param", f"source={source}", "--param", f"side_input={scratch}/side_input.csv"]
    before = broker.cpu_seconds()
    used = measured(command) | {"broker": broker.cpu_seconds() - before}
    count = [given.binary, "sql", f"SELECT count(*) AS n FROM {name}", "--storage", str(storage), "--output", "json"]
    # A Delta table is there when it has its first rows.
    rows = re.search(r'"n":\s*(\d+)', subprocess.run(count, capture_output=True, text=True).stdout)
    return used | {"result": [int(rows.group(1)) if rows else 0]}


def report(name, engine, events, rounds):
    one = median(rounds)
    broker = f"{statistics.median(one['broker'] for one in rounds):.2f}" if "broker" in rounds[0] else ""
    rows = f"{rounds[0]['result'][0]:,}" if rounds[0]["result"] else ""
    print(
        f"| {name} | {engine} | {events / one['wall']:,.0f} | {one['cpu']:.2f} | {events / one['cpu']:,.0f} |"
        f" {one['memory'] / 1e6:,.0f} | {broker} | {rows} |",
        flush=True,
    )


def measure(given, name, engine, broker, scratch):
    """The rows of the table for one query on one engine."""
    if engine == "highwater":
        report(name, "Highwater", given.events, [highwater(given, name, broker, scratch) for _ in range(given.rounds)])
        return
    if engine == "flink":
        rounds = engines.flink(others.flink_job(name, engines.flink_topic(broker.address, "nexmark")), scratch, given.rounds)
    else:
        rounds = engines.spark(others.spark_job(name, scratch), scratch, given.rounds)
    report(name, f"{engine.title()}, cold", given.events, rounds[:1])
    report(name, f"{engine.title()}, warm", given.events, rounds[1:])


def measure_all(given, broker, scratch):
    """The table, what is left out of it, and what failed; the others are measured all the same."""
    left_out, failed = [], []
    print("| query | engine | events/s | CPU s | events a CPU s | peak MB | broker CPU s | rows |")
    print("|---|---|---:|---:|---:|---:|---:|---:|")
    for name in given.queries:
        for engine in given.engines:
            if reason := REFUSED.get(engine, {}).get(name):
                left_out.append(f"{name} not on {engine.title()}: {reason}")
                continue
            try:
                measure(given, name, engine, broker, scratch)
            except engines.Refused as refused:
                failed.append(f"{name}: {refused}")
    for line in left_out + failed:
        print(f"\n{line}")
    return 1 if failed else 0


def main():
    given = arguments()
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="highwater-nexmark-", dir=given.scratch))
    broker = Broker(given.binary, str(scratch / "broker"))
    try:
        generate(given, broker.address, scratch)
        print(f"{os.cpu_count()} cores, {given.events:,} events, medians of {given.rounds} rounds\n")
        return measure_all(given, broker, scratch)
    finally:
        broker.stop()
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
