"""Measures our broker beside a real Apache Kafka: one node each, the same clients, in turns, in one run.

    broker.py [--binary FILE] [--rounds N] [--megabytes N] [--rate N] [--seconds N] [--fsync MODE] [--work DIR]

Apache Kafka comes from Maven Central (KRaft, one node, its own default settings, heap of 1 GiB), the clients are
Kafka's `kafka-producer-perf-test` and `kafka-consumer-perf-test` (Java) and librdkafka's `rdkafka_performance` (C).
Both brokers leave flushing to the system, as Kafka does by default; with `--fsync always` both answer a producer when
its records are on the disk (Kafka: `log.flush.interval.messages=1`).

For records of 200 bytes and of 1 kB: records a second produced (acks=all, idempotence on) and consumed, the broker's
CPU seconds for a million records, the time from a producer's send to a consumer's receive at a fixed rate (p50, p99),
and the peak of the broker's resident memory over everything. Medians of the rounds.
"""

import argparse
import contextlib
import json
import os
import pathlib
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "judges"))

import java  # noqa: E402
import librdkafka  # noqa: E402
from harness import free_ports, run, stop  # noqa: E402

SIZES = [200, 1000]
TOPIC = "bench.records.produced"
PARTITIONS = 4
HEAP = "-Xms1g -Xmx1g"
SERVER_PROPERTIES = """process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={data}
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
"""
TICKS = os.sysconf("SC_CLK_TCK")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default=str(HERE.parent / "target/release/highwater"),
                        help="the program, or the example `serve` of crates/broker, which is built sooner")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--megabytes", type=int, default=600, help="of records in each measurement of throughput")
    parser.add_argument("--rate", type=int, default=20_000, help="records a second while latency is measured")
    parser.add_argument("--seconds", type=int, default=15, help="how long latency is measured")
    parser.add_argument("--fsync", default="os", choices=["os", "always"], help="when both brokers flush")
    parser.add_argument("--scratch", help="where logs and data are kept while it runs")
    parser.add_argument("--work", default=str(HERE.parent / "target/judges"), help="where Kafka and librdkafka are kept")
    parser.add_argument("--only", choices=["highwater", "kafka"], help="measure one of the two")
    return parser.parse_args()


def note(text):
    print(text, file=sys.stderr, flush=True)


class Server:
    """A broker under measurement."""

    def __init__(self, process, port, started):
        self.process, self.port, self.started = process, port, started

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def peak_megabytes(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+) kB", status).group(1)) / 1024


def answers(port):
    """Whether a broker answers a request: ApiVersions, version 0, correlation id 1, no client id."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        client.sendall(bytes.fromhex("0000000a 0012 0000 00000001 ffff"))
        return len(client.recv(8)) > 0
    return False


@contextlib.contextmanager
def served(command, port, log):
    began = time.monotonic()
    with open(log, "wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
    try:
        while True:
            if answers(port):
                break
            if process.poll() is not None or time.monotonic() - began > 60:
                sys.exit(f"{command[0]} does not listen: {log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.002)
        yield Server(process, port, time.monotonic() - began)
    finally:
        stop(process, seconds=30)


@contextlib.contextmanager
def highwater(options, folder):
    (port,) = free_ports(1)
    if pathlib.Path(options.binary).name.startswith("serve"):
        command = [options.binary, str(folder / "data"), f"127.0.0.1:{port}", f"fsync={options.fsync}"]
    else:
        command = [options.binary, "broker", "--listen", f"127.0.0.1:{port}", "--data", str(folder / "data")]
        command += ["--fsync", options.fsync]
    with served(command, port, folder / "log") as server:
        yield server


@contextlib.contextmanager
def kafka(options, tools, folder):
    port, controller = free_ports(2)
    properties = folder / "server.properties"
    flush = "log.flush.interval.messages=1\n" if options.fsync == "always" else ""
    properties.write_text(SERVER_PROPERTIES.format(port=port, controller=controller, data=folder / "data") + flush)
    java_command = ["java", "-cp", f"{tools}/libs/*"]
    cluster = "4L6g3nShT-eMCtK--X86sw"
    storage = run([*java_command, "kafka.tools.StorageTool", "format", "-t", cluster, "-c", properties], seconds=60)
    if storage.code != 0:
        sys.exit(f"Kafka's storage cannot be formatted:\n{storage.text}")
    # The options of Kafka's own start script, but for its logs.
    options = [*HEAP.split(), "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:+ExplicitGCInvokesConcurrent"]
    command = ["java", *options, "-cp", f"{tools}/libs/*", "kafka.Kafka", str(properties)]
    with served(command, port, folder / "log") as server:
        yield server


def checked(command, seconds, **given):
    ran = run(command, seconds=seconds, **given)
    if ran.code != 0:
        sys.exit(f"{' '.join(map(str, command))}\nended with {ran.code}:\n{ran.text[-3000:]}")
    return ran.text


def script(tools, name, *given, seconds=600):
    # The scripts beside the jars are made for programs that end at once; these work for a while.
    main_class = java.classes(java.VERSIONS[-1])[name]
    return checked(["java", "-Xmx512m", "-cp", f"{tools}/libs/*", main_class, *given], seconds)


def create(tools, server, topic):
    script(tools, "kafka-topics", "--bootstrap-server", server.address, "--create", "--topic", topic, "--partitions",
           PARTITIONS, "--replication-factor", 1)


def java_throughput(tools, server, topic, size, count):
    """Records a second produced and consumed by Kafka's own tools."""
    produced = script(tools, "kafka-producer-perf-test", "--topic", topic, "--num-records", count, "--record-size", size,
                      "--throughput", -1, "--producer-props", f"bootstrap.servers={server.address}", "acks=all",
                      "linger.ms=5", "batch.size=65536")
    produce = float(re.findall(r"([\d.]+) records/sec", produced)[-1])
    consumed = script(tools, "kafka-consumer-perf-test", "--bootstrap-server", server.address, "--topic", topic,
                      "--messages", count, "--timeout", 60_000)
    header, values = [line.split(", ") for line in consumed.strip().splitlines() if ", " in line][-2:]
    fetched = dict(zip((name.strip() for name in header), values))
    return produce, float(fetched["fetch.nMsg.sec"])


def rdkafka_throughput(program, server, topic, size, count):
    """Records a second produced and consumed by librdkafka's tool."""
    def rate(*given):
        text = checked([*program, "-b", server.address, "-t", topic, "-q", "-c", count, *given], 600)
        return float(re.findall(r"([\d.]+) msgs/s", text.replace("msg/s", "msgs/s"))[-1])

    common = ["-X", "linger.ms=5", "-X", "queue.buffering.max.messages=1000000"]
    produce = rate("-P", "-s", size, "-a", -1, "-X", "enable.idempotence=true", *common)
    # By default it stops fetching for a second whenever its queue is full: the faster the broker, the longer it takes.
    eager = ["-X", "fetch.queue.backoff.ms=1"]
    consume = rate("-G", f"bench-{time.monotonic_ns()}", "-X", "auto.offset.reset=earliest", "-o", "beginning", *eager)
    return produce, consume


def latency(program, server, topic, size, rate, seconds, folder):
    """Milliseconds from send to receive, p50 and p99, at a fixed rate."""
    file = folder / f"latency-{topic}"
    count = rate * seconds
    base = [*program, "-b", server.address, "-t", topic, "-l", "-q"]
    reader = subprocess.Popen(
        [str(part) for part in [*base, "-C", "-o", "end", "-p", 0, "-c", count, "-A", file, "-X", "fetch.wait.max.ms=100"]],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(2)
        checked([*base, "-P", "-p", 0, "-s", size, "-r", rate, "-c", count, "-a", -1, "-X", "linger.ms=1"], seconds + 60)
        reader.wait(30)
    finally:
        if reader.poll() is None:
            reader.terminate()
            reader.wait()
    # Microseconds, in the order they came. The first second is the clients' own start.
    found = sorted(int(line) for line in file.read_text().splitlines()[rate:])
    if len(found) < count / 2:
        sys.exit(f"{len(found)} of {count} latencies measured: {file}")
    return found[len(found) // 2] / 1000, found[len(found) * 99 // 100] / 1000


def measure(server, tools, program, options, folder):
    """One round on one broker."""
    result = {"start (ms)": server.started * 1000}
    for size in SIZES:
        count = options.megabytes * 1_000_000 // size
        for client, throughput, tool in [("Java", java_throughput, tools), ("librdkafka", rdkafka_throughput, program)]:
            topic = f"{TOPIC}-{size}-{client.lower()}"
            create(tools, server, topic)
            began = server.cpu_seconds()
            produce, consume = throughput(tool, server, topic, size, count)
            result[f"produce, {size} B, {client} (records/s)"] = produce
            result[f"consume, {size} B, {client} (records/s)"] = consume
            result[f"CPU, {size} B, {client} (s per million both ways)"] = (server.cpu_seconds() - began) / count * 1e6
        topic = f"{TOPIC}-{size}-latency"
        create(tools, server, topic)
        p50, p99 = latency(program, server, topic, size, options.rate, options.seconds, folder)
        result[f"latency p50, {size} B (ms)"], result[f"latency p99, {size} B (ms)"] = p50, p99
    result["peak memory (MB)"] = server.peak_megabytes()
    return result


def main():
    options = arguments()
    scratch = pathlib.Path(options.scratch or tempfile.mkdtemp(prefix="highwater-bench-"))
    work = pathlib.Path(options.work).resolve()
    work.mkdir(parents=True, exist_ok=True)
    tools = java.tools(work, java.VERSIONS[-1])
    program = librdkafka.performance(work)
    brokers = {"highwater": lambda folder: highwater(options, folder), "kafka": lambda folder: kafka(options, tools, folder)}
    rounds = {name: [] for name in brokers if options.only in (None, name)}
    for number in range(options.rounds):
        for name in rounds:
            folder = scratch / f"{name}-{number}"
            folder.mkdir(parents=True)
            with brokers[name](folder) as server:
                rounds[name].append(measure(server, tools, program, options, folder))
            note(f"round {number + 1}, {name}: {json.dumps(rounds[name][-1])}")
            shutil.rmtree(folder)
    medians = {
        name: {key: statistics.median(one[key] for one in results) for key in results[0]}
        for name, results in rounds.items()
    }
    keys = list(next(iter(medians.values())))
    titles = {"highwater": "Highwater", "kafka": f"Apache Kafka {java.VERSIONS[-1]}"}
    print("| | " + " | ".join(titles[name] for name in medians) + " | ratio |")
    print("|---|" + "---:|" * (len(medians) + 1))
    for key in keys:
        values = [result[key] for result in medians.values()]
        ratio = f"{values[0] / values[1]:.2f}" if len(values) == 2 else ""
        print(f"| {key} | " + " | ".join(f"{value:,.1f}" for value in values) + f" | {ratio} |")


if __name__ == "__main__":
    main()
