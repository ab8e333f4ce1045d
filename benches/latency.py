"""From produce to read, Kafka to Kafka, through a running query: percentiles of milliseconds.

    latency.py [--rate N] [--seconds N] [--trigger TEXT] [--only NAME,..] [--binary FILE] [--tool FILE]

Starts a broker and, one after the other, the works below; `latency` (an example of the crate `highwater-connectors`)
sends events of 200 bytes and reads what comes out. Broker, query, sender and reader share the machine.

    cargo build --release --workspace --all-targets && python3 benches/latency.py
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

from run import Broker, note

RELEASE = pathlib.Path(__file__).resolve().parent.parent / "target/release"

EVENTS = """
CREATE TABLE events (seq BIGINT, k BIGINT, amount DOUBLE, at BIGINT) USING kafka OPTIONS (
  'kafka.bootstrap.servers' = '{servers}', subscribe = '{name}-{visibility}-in', startingOffsets = 'earliest', 'value.format' = 'json');
CREATE SINK results USING kafka OPTIONS (
  'kafka.bootstrap.servers' = '{servers}', topic = '{name}-{visibility}-out', 'value.format' = 'json', visibility = '{visibility}');
CREATE FLOW {name} AS INSERT INTO results BY NAME {query};
"""
# What the query does, and what `latency` takes its output for.
WORKS = {
    "rows": ("append", "SELECT seq, k, amount, at FROM STREAM events WHERE amount >= 0"),
    "counts": (
        "update",
        "SELECT k, unix_seconds(window.start) DIV 10 AS w, count(*) AS n, sum(amount) AS amount"
        " FROM (SELECT *, timestamp_micros(at) AS ts FROM STREAM events) WATERMARK ts DELAY OF INTERVAL 10 SECONDS"
        " GROUP BY k, window(ts, '10 seconds')",
    ),
}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=int, default=100_000, help="events a second")
    parser.add_argument("--seconds", type=int, default=30, help="how long; the first 5 are not counted")
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--trigger", default="real-time")
    parser.add_argument("--only", default="rows,counts", help="which works, with commas")
    parser.add_argument("--visibility", default="committed,immediate", help="which kinds, with commas")
    parser.add_argument("--binary", default=str(RELEASE / "highwater"))
    parser.add_argument("--tool", default=str(RELEASE / "examples/latency"))
    return parser.parse_args()


def project(folder, servers, name, visibility, trigger):
    mode, query = WORKS[name]
    folder.mkdir()
    (folder / "spark-pipeline.yml").write_text(
        f"name: {name}\nstorage: {folder / 'storage'}\nlibraries:\n  - glob:\n      include: transformations/**\n"
    )
    (folder / "highwater.yml").write_text(f"trigger: {trigger}\nflows:\n  {name}:\n    output_mode: {mode}\n")
    (folder / "transformations").mkdir()
    text = EVENTS.format(servers=servers, name=name, query=query, visibility=visibility)
    (folder / "transformations/work.sql").write_text(text)


def measure(given, broker, scratch, name, visibility):
    folder = scratch / f"{name}-{visibility}"
    project(folder, broker.address, name, visibility, given.trigger)
    for topic in (f"{name}-{visibility}-in", f"{name}-{visibility}-out"):
        command = [given.binary, "topic", "create", topic, "--partitions", str(given.partitions)]
        subprocess.run([*command, "--bootstrap", broker.address], capture_output=True, check=True)
    log = open(folder / "log", "w")
    query = subprocess.Popen([given.binary, "run", str(folder)], stdout=log, stderr=log)
    try:
        time.sleep(3)
        what = [f"{name}-{visibility}-in", f"{name}-{visibility}-out", name, visibility, str(given.rate), str(given.seconds)]
        done = subprocess.run([given.tool, broker.address, *what], capture_output=True, text=True)
        if done.returncode or query.poll() is not None:
            sys.exit(f"{done.stderr}\n{(folder / 'log').read_text()[-4000:]}")
        one = json.loads(done.stdout)
        print(
            f"  {name:<8}{visibility:<12}{one['rate']:>10,}{one['p50_ms']:>10}{one['p99_ms']:>10}"
            f"{one['p999_ms']:>10}{one['max_ms']:>10}",
            flush=True,
        )
    finally:
        query.terminate()
        query.wait()


def main():
    given = arguments()
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="highwater-latency-"))
    broker = Broker(given.binary, str(scratch / "broker"))
    try:
        note(f"{os.cpu_count()} cores, {given.seconds} s each, trigger {given.trigger}")
        print(f"  {'work':<8}{'visible':<12}{'events/s':>10}{'p50 ms':>10}{'p99 ms':>10}{'p99.9 ms':>10}{'max ms':>10}")
        for name in given.only.split(","):
            for visibility in given.visibility.split(","):
                measure(given, broker, scratch, name, visibility)
    finally:
        broker.stop()
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main()
