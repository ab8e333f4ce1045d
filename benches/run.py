"""Measures the three works of `works.py` on Highwater, and on Apache Spark beside it.

    run.py [--events N] [--rounds N] [--work a,b,c] [--no-spark] [--binary FILE] [--scratch DIR]

The same events lie in a topic of a broker of our own and in JSON files. Highwater reads both, Spark the files. What is
printed are events a second, CPU seconds (user and system, start-up included; of Spark only the work itself), events a
CPU second, and the peak of resident memory: medians of the rounds. The results of all runs are compared.
"""

import argparse
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

from works import BATCHES, COLUMNS, EVENTS_PER_SECOND_OF_EVENT_TIME, WORKS

HERE = pathlib.Path(__file__).resolve().parent
SPARK = "pyspark==4.3.0"
START = 1_767_225_600  # 2026-01-01T00:00:00Z


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=5_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", default="a,b,c", help="which works, with commas")
    parser.add_argument("--no-spark", action="store_true", help="measure Highwater alone")
    parser.add_argument("--binary", default=str(HERE.parent / "target/release/highwater"))
    parser.add_argument("--scratch", help="where the folder of events, results and checkpoints is made and removed")
    given = parser.parse_args()
    unknown = [name for name in given.work.split(",") if name not in WORKS]
    if unknown:
        parser.error(f"no work '{unknown[0]}'; there are {', '.join(WORKS)}")
    if not os.access(given.binary, os.X_OK):
        parser.error(f"{given.binary} is no program: run `make build`, or name one by --binary")
    return given


def note(text):
    print(text, file=sys.stderr, flush=True)


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
        fields = open(f"/proc/{self.process.pid}/stat").read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

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


def spark_python():
    """A Python with Spark, made once."""
    home = pathlib.Path(os.environ.get("SPARK_DIR", pathlib.Path.home() / ".cache/highwater-spark"))
    python = home / "venv/bin/python"
    if not python.exists() or subprocess.run([python, "-c", "import pyspark"], capture_output=True).returncode:
        note(f"installing {SPARK} in {home} ...")
        subprocess.run([sys.executable, "-m", "venv", home / "venv"], check=True)
        subprocess.run([home / "venv/bin/pip", "install", "-q", SPARK], check=True)
    return str(python)


def spark(given, name, files, scratch):
    command = [spark_python(), HERE / "spark.py", name, files, scratch, str(given.rounds + 1)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"SPARK_LOCAL_IP": "127.0.0.1"})
    if done.returncode:
        sys.exit(f"Spark failed on work {name}:\n{done.stderr[-4000:]}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def median(rounds):
    return {field: statistics.median(one[field] for one in rounds) for field in ("wall", "cpu", "memory")}


def report(title, events, rounds):
    one = median(rounds)
    per_cpu = events / one["cpu"]
    line = f"  {title:<26}{events / one['wall']:>12,.0f}{one['cpu']:>10.2f}{per_cpu:>16,.0f}{one['memory'] / 1e6:>10,.0f}"
    if "broker" in rounds[0]:
        line += f"   broker {statistics.median(one['broker'] for one in rounds):.2f} s CPU"
    print(line, flush=True)
    return per_cpu


def measure(given, name, events, broker, files, scratch):
    print(f"({name}) {WORKS[name]['title']}")
    runs = {}
    for source in ("topic", "files"):
        using, runs[source] = table(source, broker.address, files, events // BATCHES), []
        for _ in range(given.rounds):
            before = broker.cpu_seconds()
            run = highwater(given, name, using, scratch)
            if source == "topic":
                run["broker"] = broker.cpu_seconds() - before
            runs[source].append(run)
    report("Highwater, from the topic", events, runs["topic"])
    ours = report("Highwater, from files", events, runs["files"])
    if not given.no_spark:
        runs["spark"] = spark(given, name, files, scratch)
        report("Spark, cold", events, runs["spark"][:1])
        theirs = report("Spark, warm", events, runs["spark"][1:])
        print(f"  per CPU second Highwater does {ours / theirs:.1f} times what warm Spark does, from the same files")
    results = {json.dumps(one["result"]) for rounds in runs.values() for one in rounds}
    if len(results) != 1:
        sys.exit(f"the results of work {name} differ: " + json.dumps({source: [one["result"] for one in rounds] for source, rounds in runs.items()}))
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
        for name in given.work.split(","):
            measure(given, name, events, broker, files, scratch)
    finally:
        broker.stop()
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main()
