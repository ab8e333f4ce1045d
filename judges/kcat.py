"""kcat, the command line of librdkafka, as Debian packages it: an old release (librdkafka 2.0) of a common client."""

import json
import time

from harness import Checks, NotRun, Program, expect, expect_in, file_name, tool

TITLE = "kcat"
VERSION = "1.7.1, librdkafka 2.0.2 (Debian 12)"
FAST = True
CHECKS = Checks()
check, is_fast = CHECKS.check, CHECKS.is_fast
LINES = [f"record {at} of the lot" for at in range(2000)]
TEXT = "".join(line + "\n" for line in LINES)


class Kcat(Program):
    def __call__(self, *arguments, **options):
        return self.call(["kcat", "-b", self.address, *arguments], merge=False, **options)

    def produce(self, topic, text, *arguments, **options):
        return self("-P", "-t", topic, *arguments, input=text, **options)

    def consume(self, topic, *arguments, **options):
        return self("-C", "-t", topic, "-e", "-q", *arguments, **options).splitlines()


def prepare(work):
    tool("kcat (apt-get install kcat)", ["kcat", "-V"], seconds=20)


def judge(_prepared, bench):
    with bench.broker() as address:
        yield from CHECKS.run(bench, lambda name: Kcat(bench.logs / file_name(name), address))


def topic(name):
    return f"kcat-{name}-{time.monotonic_ns()}"


@check("metadata: the broker, its controller and its topics", fast=True)
def metadata(kcat):
    name = topic("metadata")
    kcat.produce(name, "one\n")
    said = json.loads(kcat("-L", "-J"))
    expect(len(said["brokers"]), 1, "brokers")
    expect(said["brokers"][0]["name"], kcat.address, "address of the broker")
    expect(said["controllerid"], said["brokers"][0]["id"], "controller")
    mine = [found for found in said["topics"] if found["topic"] == name]
    expect(len(mine), 1, "topics of that name")
    partition = mine[0]["partitions"][0]
    expect(partition["leader"], said["brokers"][0]["id"], "leader")
    expect(partition["isrs"], partition["replicas"], "replicas in sync")


for codec in ["none", "gzip", "snappy", "lz4", "zstd"]:

    @check(f"produce and consume: {codec}", fast=True)
    def codecs(kcat, codec=codec):
        name = topic(codec)
        kcat.produce(name, TEXT, "-z", codec)
        expect(kcat.consume(name), LINES, "records")


@check("keys, headers, timestamps and absent values", fast=True)
def parts_of_a_record(kcat):
    name = topic("parts")
    before = int(time.time() * 1000)
    kcat.produce(name, "k1:v1\nk2:\n", "-K:", "-Z", "-H", "colour=blue", "-H", "empty=", "-H", "null")
    said = [json.loads(line) for line in kcat.consume(name, "-J")]
    expect([record["key"] for record in said], ["k1", "k2"], "keys")
    expect([record["payload"] for record in said], ["v1", None], "values")
    expect(said[0]["headers"], ["colour", "blue", "empty", "", "null", None], "headers")
    expect([record["offset"] for record in said], [0, 1], "offsets")
    expect(all(before <= record["ts"] <= before + 60_000 for record in said), True, "timestamps of now")


@check("offsets: beginning, end, from the end, exact, absent", fast=True)
def offsets(kcat):
    name = topic("offsets")
    kcat.produce(name, TEXT)
    expect(kcat.consume(name, "-o", "beginning", "-c", "3"), LINES[:3], "from the beginning")
    expect(kcat.consume(name, "-p", "0", "-o", "-5"), LINES[-5:], "five from the end")
    expect(kcat.consume(name, "-p", "0", "-o", "1500", "-c", "2"), LINES[1500:1502], "from an offset")
    expect(kcat.consume(name, "-o", "end"), [], "from the end")
    reset = ("-X", "auto.offset.reset=earliest")
    expect(kcat.consume(name, "-p", "0", "-o", "99999", "-c", "1", *reset), LINES[:1], "beyond the end")


@check("offsets by timestamp: queried and consumed between", fast=True)
def by_timestamp(kcat):
    name = topic("times")
    kcat.produce(name, "a\nb\n")
    time.sleep(0.05)
    middle = int(time.time() * 1000)
    time.sleep(0.05)
    kcat.produce(name, "c\nd\n")
    expect_in("[0] offset 2", kcat("-Q", "-t", f"{name}:0:{middle}"), "offset of a time")
    expect_in("[0] offset 0", kcat("-Q", "-t", f"{name}:0:-2"), "earliest")
    expect_in("[0] offset 4", kcat("-Q", "-t", f"{name}:0:-1"), "latest")
    expect(kcat.consume(name, "-o", f"s@{middle}"), ["c", "d"], "since a time")
    expect(kcat.consume(name, "-o", f"s@0", "-o", f"e@{middle}"), ["a", "b"], "until a time")


@check("a group goes on where it was, over two topics", fast=True)
def group(kcat):
    first, second = topic("group-a"), topic("group-b")
    kcat.produce(first, "a1\na2\n")
    kcat.produce(second, "b1\n")
    earliest = ("-X", "auto.offset.reset=earliest", "-e", "-q")
    read = lambda: sorted(kcat("-G", f"g-{first}", *earliest, first, second).splitlines())
    expect(read(), ["a1", "a2", "b1"], "first run")
    kcat.produce(second, "b2\n")
    expect(read(), ["b2"], "second run")


@check("an idempotent producer with all in-sync replicas", fast=True)
def idempotent(kcat):
    name = topic("idempotent")
    kcat.produce(name, TEXT, "-X", "enable.idempotence=true", "-X", "acks=all")
    expect(kcat.consume(name), LINES, "records")


@check("no acknowledgement asked for", fast=True)
def unacknowledged(kcat):
    name = topic("unacknowledged")
    kcat.produce(name, TEXT, "-X", "acks=0")
    kcat.produce(name, "last\n", "-X", "acks=1")
    found = kcat.consume(name)
    expect(found[-1], "last", "the acknowledged record behind them")
    expect(found[:-1], LINES[: len(found) - 1], "records, in order")


@check("a producer in a transaction, and readers of both isolation levels", fast=True)
def transaction(kcat):
    name = topic("transaction")
    kcat.produce(name, TEXT, "-X", f"transactional.id={name}")
    expect(kcat.consume(name, "-X", "isolation.level=read_committed"), LINES, "committed records")
    expect(kcat.consume(name, "-X", "isolation.level=read_uncommitted"), LINES, "all records")


@check("a record beyond the limit is refused by name")
def too_large(kcat):
    name = topic("large")
    kcat.produce(name, "x" * 900_000 + "\n")
    kcat.call(
        ["kcat", "-b", kcat.address, "-P", "-t", name, "-X", "message.max.bytes=10000000"],
        input="x" * 2_000_000 + "\n",
        fails=True,
    )
    expect([len(line) for line in kcat.consume(name)], [900_000], "sizes of the records")


@check("a topic that is not there, and one whose name is not allowed")
def unknown_topic(kcat):
    arguments = ["-X", "topic.metadata.propagation.max.ms=0", "-X", "allow.auto.create.topics=false"]
    command = ["kcat", "-b", kcat.address, "-C", "-e", *arguments, "-t"]
    expect_in("Unknown topic", kcat.call([*command, topic("absent")], fails=True))
    kcat.call(["kcat", "-b", kcat.address, "-P", "-t", "not allowed!"], input="x\n", fails=True)
