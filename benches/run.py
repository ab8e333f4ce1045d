"""Measures the three works of `works.py` on Highwater, and on Apache Flink and Apache Spark beside it.

    run.py [--events N] [--rounds N] [--work a,b,c] [--engines highwater,flink,spark] [--binary FILE] [--scratch DIR]

The same events lie in a topic of a broker of our own and in JSON files. Highwater reads both, Flink the topic, Spark the
files. What is printed are events a second, CPU seconds (user and system, start-up included; of Flink and Spark only the
work itself), events a CPU second, and the peak of resident memory: medians of the rounds. The results of all runs are
compared.
"""

import argparse
import datetime
import json
import os
import pathlib
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

import engines
import usage
from engines import note
from works import BATCHES, COLUMNS, EVENTS_PER_SECOND_OF_EVENT_TIME, FLINK_COLUMNS, WORKS

START = 1_767_225_600  # 2026-01-01T00:00:00Z


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    engines.add_measuring(parser, events=5_000_000)
    engines.add_names(parser, "--work", "work", tuple(WORKS))
    engines.add_names(parser, "--engines", "engine", engines.ENGINES)
    engines.add_binary(parser)
    given = parser.parse_args()
    engines.check_binary(parser, given)
    return given


def measured(command):
    """Runs a command to its end: wall and CPU seconds, peak bytes of memory."""
    began = time.time()
    with tempfile.TemporaryFile() as errors:
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode != 0:
            errors.seek(0)
            sys.exit(f"{' '.join(command)}\nended with {child.returncode}:\n{errors.read().decode()}")
    return {"wall": time.time() - began, "cpu": usage.ru_utime + usage.ru_stime, "memory": usage.ru_maxrss * 1024}


class Broker:
    """A broker of our own on a free port."""

    def __init__(self, binary, data):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"
        command = [binary, "broker", "--listen", self.address, "--data", data]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        host, port = self.address.split(":")
        for _ in range(300):
            try:
                socket.create_connection((host, int(port))).close()
                return
            except OSError:
                time.sleep(0.1)
        sys.exit(f"the broker did not listen on {self.address} within 30 s")

    def cpu_seconds(self):
        return usage.cpu_seconds(self.process.pid)

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        self.process.wait(30)


def generate(given, broker, files):
    """The events as JSON files and as a topic, byte for byte the same, one part after the other."""
    part = given.events // BATCHES
    for index in range(BATCHES):
        start = START + index * part // EVENTS_PER_SECOND_OF_EVENT_TIME
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(start))
        common = [given.binary, "datagen", "events", "--count", str(part), "--seed", str(index), "--start", when]
        common += ["--event-rate", str(EVENTS_PER_SECOND_OF_EVENT_TIME), "--late-share", "0", "--disorder", "1s"]
        for target in (["--output", f"{files}/part-{index:03}.json"], ["--topic", "events", "--bootstrap", broker]):
            subprocess.run(common + target, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    size = sum(path.stat().st_size for path in files.iterdir())
    note(f"{part * BATCHES:,} events of {size / part / BATCHES:.0f} bytes, in {BATCHES} files and in a topic")
    return part * BATCHES


def table(source, broker, files, part):
    if source == "files":
        return f"USING json OPTIONS (path = '{files}', maxFilesPerTrigger = 1)"
    return (
        f"USING kafka OPTIONS ('kafka.bootstrap.servers' = '{broker}', subscribe = 'events',"
        f" startingOffsets = 'earliest', 'value.format' = 'json', maxOffsetsPerTrigger = {part})"
    )


def highwater(given, name, using, scratch):
    """One run from an empty storage folder, and what it wrote."""
    work, storage = WORKS[name], scratch / "highwater-storage"
    shutil.rmtree(storage, ignore_errors=True)
    watermark = f" WATERMARK ts DELAY OF INTERVAL {work['watermark']}" if work["watermark"] else ""
    query = work["query"].format(events=f"STREAM events{watermark}")
    program = f"CREATE TABLE events ({COLUMNS}) {using};\nCREATE STREAMING TABLE result USING parquet AS {query};"
    command = [given.binary, "run", "-e", program, "--storage", str(storage), "--trigger", "available-now"]
    run = measured(command)
    check = work["check"].format(result="result")
    command = [given.binary, "sql", check, "--storage", str(storage), "--output", "json"]
    row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    row = row[0] if isinstance(row, list) else row
    return run | {"result": [row["n"], row["whole"], row["amount"]]}


def spark(given, name, files, scratch):
    work = WORKS[name]
    job = {
        "schema": COLUMNS,
        "files": str(files),
        "watermark": ["ts", work["watermark"]] if work["watermark"] else None,
        "query": work["query"].format(events="events"),
        "mode": "append",
        "format": "parquet",
        "check": work["check"].format(result="answer"),
    }
    return engines.spark(job, scratch, given.rounds)


def closed(files):
    """The end of the last minute that the watermark has passed when all events are read."""
    times = (line.split('"ts":"', 1)[1][:23] for path in files.iterdir() for line in path.open())
    newest = datetime.datetime.fromisoformat(max(times)) - datetime.timedelta(seconds=10)
    return newest.strftime("%Y-%m-%d %H:%M:00")


def flink(given, name, broker, files, scratch):
    work = WORKS[name]
    watermark = ", WATERMARK FOR ts AS ts - INTERVAL '10' SECOND" if work["watermark"] else ""
    job = {
        "setup": [f"CREATE TABLE events ({FLINK_COLUMNS}{watermark}) WITH ({engines.flink_topic(broker, 'events')})"],
        "query": "CREATE TABLE answer WITH ('connector' = 'filesystem', 'path' = '{out}', 'format' = 'avro',"
        " 'avro.timestamp_mapping.legacy' = 'false') AS " + work["flink"].format(closed=closed(files)),
        "check": work["check"].format(result="answer"),
    }
    return engines.flink(job, scratch, given.rounds)


def median(rounds):
    return {field: statistics.median(one[field] for one in rounds) for field in ("wall", "cpu", "memory")}


def report(title, events, rounds):
    one = median(rounds)
    per_cpu = events / one["cpu"]
    line = f"  {title:<26}{events / one['wall']:>12,.0f}{one['cpu']:>10.2f}{per_cpu:>16,.0f}{one['memory'] / 1e6:>10,.0f}"
    if "broker" in rounds[0]:
        line += f"   broker {statistics.median(one['broker'] for one in rounds):.2f} s CPU"
    if "checkpoints" in rounds[0]:
        line += f"   {statistics.median(one['checkpoints'] for one in rounds):.0f} checkpoints"
    print(line, flush=True)
    return per_cpu


def measure(given, name, events, broker, files, scratch):
    print(f"({name}) {WORKS[name]['title']}")
    runs, speeds = {}, {}
    if "highwater" in given.engines:
        for source in ("topic", "files"):
            using, runs[source] = table(source, broker.address, files, events // BATCHES), []
            for _ in range(given.rounds):
                before = broker.cpu_seconds()
                run = highwater(given, name, using, scratch)
                if source == "topic":
                    run["broker"] = broker.cpu_seconds() - before
                runs[source].append(run)
            speeds[source] = report(f"Highwater, from {'the topic' if source == 'topic' else 'files'}", events, runs[source])
    others = {
        "flink": ("topic", lambda: flink(given, name, broker.address, files, scratch)),
        "spark": ("files", lambda: spark(given, name, files, scratch)),
    }
    for engine in (engine for engine in others if engine in given.engines):
        (source, measure_other), title = others[engine], engine.title()
        runs[engine] = measure_other()
        report(f"{title}, {source}, cold", events, runs[engine][:1])
        theirs = report(f"{title}, {source}, warm", events, runs[engine][1:])
        if source in speeds:
            print(f"  per CPU second Highwater does {speeds[source] / theirs:.1f} times what warm {title} does, {source} both")
    results = {json.dumps(one["result"]) for rounds in runs.values() for one in rounds}
    if len(results) != 1:
        by_engine = {engine: [one["result"] for one in rounds] for engine, rounds in runs.items()}
        sys.exit(f"the results of work {name} differ: {json.dumps(by_engine)}")
    print(f"  the same result in all runs: {results.pop()}\n", flush=True)


def main():
    given = arguments()
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="highwater-benches-", dir=given.scratch))
    files = scratch / "events"
    files.mkdir()
    broker = Broker(given.binary, str(scratch / "broker"))
    try:
        events = generate(given, broker.address, files)
        print(f"{os.cpu_count()} cores, {events:,} events, medians of {given.rounds} rounds\n")
        print(f"  {'':<26}{'events/s':>12}{'CPU s':>10}{'events/CPU s':>16}{'peak MB':>10}")
        for name in given.work:
            measure(given, name, events, broker, files, scratch)
    except engines.Refused as refused:
        sys.exit(str(refused))
    finally:
        broker.stop()
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main()
