"""Measures the queries of Nexmark on Highwater, from a topic of a broker of our own, exactly once.

    bench.py [--events N] [--rate N] [--rounds N] [--query q0,q5] [--binary FILE] [--scratch DIR]

Prints a table: events a second, CPU seconds of the query's process (start-up included), events a CPU second, the peak of
resident memory, and the CPU seconds of the broker: medians of the rounds. That the rows are right is what check.py is for.
"""

import argparse
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from run import BATCHES, Broker, measured, median, note  # noqa: E402

QUERIES = sorted((path.stem for path in (HERE / "queries").glob("q*.sql")), key=lambda name: int(name[1:]))


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--rate", type=int, default=10_000, help="events a second of event time, at least 60 (see q4)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--query", default=",".join(QUERIES), help="which queries, with commas")
    parser.add_argument("--binary", default=str(HERE.parent.parent / "target/release/highwater"))
    parser.add_argument("--scratch", help="where the folder of events, results and checkpoints is made and removed")
    given = parser.parse_args()
    unknown = [name for name in given.query.split(",") if name not in QUERIES]
    if unknown:
        parser.error(f"no query '{unknown[0]}'; there are {', '.join(QUERIES)}")
    if not os.access(given.binary, os.X_OK):
        parser.error(f"{given.binary} is no program: run `make build`, or name one by --binary")
    return given


def generate(given, broker, scratch):
    command = [given.binary, "datagen", "nexmark", "--padding", "--count", str(given.events), "--late-share", "0"]
    command += ["--start", "2026-01-01T00:00:00Z", "--event-rate", str(given.rate), "--topic", "nexmark", "--bootstrap", broker]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    (scratch / "side_input.csv").write_text("".join(f"{key},value {key}\n" for key in range(10_000)))
    note(f"{given.events:,} events are in the topic")


def run(given, name, broker, scratch):
    """One run from an empty storage folder to the end of the topic."""
    program, storage = scratch / f"{name}.sql", scratch / "storage"
    program.write_text((HERE / "tables.sql").read_text() + (HERE / f"queries/{name}.sql").read_text())
    shutil.rmtree(storage, ignore_errors=True)
    source = (
        f"USING kafka OPTIONS ('kafka.bootstrap.servers' = '{broker.address}', subscribe = 'nexmark',"
        f" startingOffsets = 'earliest', 'value.format' = 'json', maxOffsetsPerTrigger = {-(-given.events // BATCHES)})"
    )
    command = [given.binary, "run", str(program), "--storage", str(storage), "--trigger", "available-now"]
    command += ["--param", f"source={source}", "--param", f"side_input={scratch}/side_input.csv"]
    before = broker.cpu_seconds()
    return measured(command) | {"broker": broker.cpu_seconds() - before}


def report(name, events, rounds):
    one, broker = median(rounds), statistics.median(one["broker"] for one in rounds)
    print(
        f"| {name} | {events / one['wall']:,.0f} | {one['cpu']:.2f} | {events / one['cpu']:,.0f} |"
        f" {one['memory'] / 1e6:,.0f} | {broker:.2f} |",
        flush=True,
    )


def main():
    given = arguments()
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="highwater-nexmark-", dir=given.scratch))
    broker = Broker(given.binary, str(scratch / "broker"))
    try:
        generate(given, broker.address, scratch)
        print(f"{os.cpu_count()} cores, {given.events:,} events, medians of {given.rounds} rounds\n")
        print("| query | events/s | CPU s | events a CPU s | peak MB | broker CPU s |\n|---|---:|---:|---:|---:|---:|")
        for name in given.query.split(","):
            report(name, given.events, [run(given, name, broker, scratch) for _ in range(given.rounds)])
    finally:
        broker.stop()
        shutil.rmtree(scratch, ignore_errors=True)


main()
