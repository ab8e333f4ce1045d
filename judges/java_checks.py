"""What is asked of Apache Kafka's tools; see `java.py`.

Each check begins with topics of its own, so that they run beside each other, and reads what the tools print.
"""

import contextlib
import json
import re
import signal
import subprocess
import time

from harness import Checks, expect, expect_in

CHECKS = Checks()
check = CHECKS.check
LINES = [f"line {at}" for at in range(500)]
TEXT = "".join(line + "\n" for line in LINES)


def topic(kafka, name, partitions=1, **settings):
    """A new topic; settings with underscores for dots."""
    name = f"{name}-{time.monotonic_ns()}"
    kafka("kafka-topics", "--create", "--topic", name, "--partitions", str(partitions), *repeated("--config", settings))
    return name


def repeated(option, properties):
    """`option name=value` for each of the properties, whose dots are written as underscores."""
    return [part for name, value in properties.items() for part in (option, f"{name.replace('_', '.')}={value}")]


def produce(kafka, name, text=TEXT, *arguments, **properties):
    options = repeated("--producer-property" if kafka.old else "--command-property", properties)
    return kafka("kafka-console-producer", "--topic", name, *options, *arguments, input=text)


def consume(kafka, name, count, *arguments, **properties):
    """Lines of `count` records from the beginning; fails when fewer come."""
    options = repeated("--consumer-property" if kafka.old else "--command-property", properties)
    limits = ["--from-beginning", "--max-messages", str(count), "--timeout-ms", "20000"]
    text = kafka("kafka-console-consumer", "--topic", name, *limits, *options, *arguments, merge=False)
    return text.splitlines()


@check("kafka-broker-api-versions: every API is named", fast=True)
def api_versions(kafka):
    said = kafka("kafka-broker-api-versions")
    for name in ["Produce(0)", "Fetch(1)", "Metadata(3)", "ApiVersions(18)", "CreateTopics(19)"]:
        expect_in(name, said)


@check("kafka-cluster cluster-id")
def cluster_id(kafka):
    said = kafka.call([kafka.folder / "bin/kafka-cluster.sh", "cluster-id", "--bootstrap-server", kafka.address])
    expect_in("Cluster ID: ", said)


@check("kafka-topics: create, list, describe, more partitions, delete", fast=True)
def topics(kafka):
    name = topic(kafka, "topics", 3, retention_ms=60000)
    expect_in(name, kafka("kafka-topics", "--list"))
    said = kafka("kafka-topics", "--describe", "--topic", name)
    expect_in("PartitionCount: 3", said)
    expect_in("ReplicationFactor: 1", said)
    expect_in("retention.ms=60000", said)
    expect(said.count("Leader: "), 3, "partitions with a leader")
    kafka("kafka-topics", "--alter", "--topic", name, "--partitions", "5")
    expect_in("PartitionCount: 5", kafka("kafka-topics", "--describe", "--topic", name))
    kafka("kafka-topics", "--delete", "--topic", name)
    expect(name in kafka("kafka-topics", "--list").splitlines(), False, "listed after deletion")


@check("kafka-topics: what is refused")
def topics_refused(kafka):
    name = topic(kafka, "refused", 2)
    create = lambda *arguments: kafka("kafka-topics", "--create", *arguments, fails=True)
    expect_in("exist", create("--topic", name))
    kafka("kafka-topics", "--create", "--if-not-exists", "--topic", name)
    expect_in("replica", create("--topic", name + "-3", "--replication-factor", "3"))
    expect_in("retention.ms", create("--topic", name + "-config", "--config", "retention.ms=soon"))
    fewer = kafka("kafka-topics", "--alter", "--topic", name, "--partitions", "1", fails=True)
    expect_in("partition", fewer)
    expect_in("does not exist", kafka("kafka-topics", "--describe", "--topic", name + "-absent", fails=True))


@check("kafka-topics: partitions under-replicated, unavailable, at and under minimum: none")
def topics_health(kafka):
    topic(kafka, "health", 2)
    for report in ["--under-replicated-partitions", "--unavailable-partitions", "--under-min-isr-partitions"]:
        expect(kafka("kafka-topics", "--describe", report, merge=False).strip(), "", report)


@check("kafka-configs: a topic's settings", fast=True)
def topic_configs(kafka):
    name = topic(kafka, "configs")
    about = ("--entity-type", "topics", "--entity-name", name)
    kafka("kafka-configs", *about, "--alter", "--add-config", "retention.ms=90000,segment.bytes=2000000")
    said = kafka("kafka-configs", *about, "--describe")
    expect_in("retention.ms=90000", said)
    expect_in("DYNAMIC_TOPIC_CONFIG:retention.ms=90000", said)
    kafka("kafka-configs", *about, "--alter", "--delete-config", "retention.ms")
    said = kafka("kafka-configs", *about, "--describe")
    expect("retention.ms" in said, False, "deleted setting in the description")
    expect_in("segment.bytes=2000000", said)
    expect_in("cleanup.policy=delete", kafka("kafka-configs", *about, "--describe", "--all"))
    kafka("kafka-configs", *about, "--alter", "--add-config", "retention.ms=soon", fails=True)
    kafka("kafka-configs", *about, "--alter", "--add-config", "no.such.setting=1", fails=True)


@check("kafka-configs: every topic setting of Kafka that needs no second node is taken and told")
def all_topic_configs(kafka):
    settings = {
        "cleanup.policy": "compact,delete",
        "compression.type": "lz4",
        "delete.retention.ms": "70000",
        "file.delete.delay.ms": "1000",
        "flush.messages": "1000",
        "flush.ms": "1000",
        "index.interval.bytes": "8192",
        "max.compaction.lag.ms": "100000",
        "max.message.bytes": "2000000",
        "message.timestamp.after.max.ms": "3600000",
        "message.timestamp.before.max.ms": "3600000",
        "message.timestamp.type": "LogAppendTime",
        "min.cleanable.dirty.ratio": "0.1",
        "min.compaction.lag.ms": "1",
        "min.insync.replicas": "1",
        "preallocate": "false",
        "retention.bytes": "100000000",
        "retention.ms": "80000000",
        "segment.bytes": "2000000",
        "segment.index.bytes": "1000000",
        "segment.jitter.ms": "10",
        "segment.ms": "500000",
        "unclean.leader.election.enable": "false",
    }
    name = topic(kafka, "all-configs")
    about = ("--entity-type", "topics", "--entity-name", name)
    refused = []
    for setting, value in settings.items():
        try:
            kafka("kafka-configs", *about, "--alter", "--add-config", f"{setting}=[{value}]")
        except AssertionError:
            refused.append(setting)
    expect(refused, [], "settings refused")
    said = kafka("kafka-configs", *about, "--describe")
    for setting, value in settings.items():
        expect_in(f"{setting}={value}", said)


@check("kafka-configs: the broker's settings")
def broker_configs(kafka):
    said = kafka("kafka-configs", "--entity-type", "brokers", "--entity-name", "0", "--describe", "--all")
    for setting in ["log.retention.ms=", "auto.create.topics.enable=", "num.partitions=", "message.max.bytes="]:
        expect_in(setting, said)


@check("kafka-configs: the broker's settings, altered while it runs")
def altered_broker_configs(kafka):
    for about in (["--entity-name", "0"], ["--entity-default"]):
        about = ["--entity-type", "brokers", *about]
        kafka("kafka-configs", *about, "--alter", "--add-config", "background.threads=5,log.flush.interval.ms=70000")
        said = kafka("kafka-configs", *about, "--describe")
        expect_in("background.threads=5", said)
        expect_in("log.flush.interval.ms=70000", said)
        kafka("kafka-configs", *about, "--alter", "--delete-config", "background.threads,log.flush.interval.ms")
        expect("background.threads=5" in kafka("kafka-configs", *about, "--describe"), False, "set after its deletion")
        kafka("kafka-configs", *about, "--alter", "--add-config", "background.threads=none", fails=True)


@check("kafka-configs: client quotas")
def quotas(kafka):
    about = ("--entity-type", "clients", "--entity-name", "limited")
    kafka("kafka-configs", *about, "--alter", "--add-config", "producer_byte_rate=100000")
    expect_in("producer_byte_rate=100000", kafka("kafka-configs", *about, "--describe"))
    kafka("kafka-configs", *about, "--alter", "--delete-config", "producer_byte_rate")
    expect("producer_byte_rate" in kafka("kafka-configs", *about, "--describe"), False, "quota after its deletion")


@check("kafka-configs: SCRAM credentials")
def scram(kafka):
    about = ("--entity-type", "users", "--entity-name", "somebody")
    kafka("kafka-configs", *about, "--alter", "--add-config", "SCRAM-SHA-256=[iterations=8192,password=secret]")
    expect_in("SCRAM-SHA-256=iterations=8192", kafka("kafka-configs", *about, "--describe"))
    kafka("kafka-configs", *about, "--alter", "--delete-config", "SCRAM-SHA-256")


@check("kafka-console-producer and -consumer: lines come back in order", fast=True)
def console(kafka):
    name = topic(kafka, "console")
    produce(kafka, name)
    expect(consume(kafka, name, len(LINES)), LINES, "records")


for codec in ["gzip", "snappy", "lz4", "zstd"]:

    @check(f"kafka-console-producer and -consumer: {codec}")
    def console_codec(kafka, codec=codec):
        name = topic(kafka, codec)
        produce(kafka, name, TEXT, "--compression-codec", codec)
        expect(consume(kafka, name, len(LINES)), LINES, "records")


@check("kafka-console-producer and -consumer: keys, headers, partitions, timestamps")
def console_parts(kafka):
    name = topic(kafka, "parts", 4)
    parse = {"parse_key": "true", "parse_headers": "true", "key_separator": ":"}
    options = repeated("--property" if kafka.old else "--reader-property", parse)
    produce(kafka, name, "colour:blue\tk1:v1\ncolour:red\tk2:v2\n", *options)
    shown = {f"print_{part}": "true" for part in ["key", "headers", "partition", "offset", "timestamp"]}
    said = consume(kafka, name, 2, *repeated("--property" if kafka.old else "--formatter-property", shown))
    expect(sorted(line.split("\t")[-2:] for line in said), [["k1", "v1"], ["k2", "v2"]], "keys and values")
    expect(all("CreateTime:" in line for line in said), True, "create times")
    expect(sorted("blue" in line for line in said), [False, True], "headers")


@check("kafka-console-producer: not idempotent, one acknowledgement and none")
def acks(kafka):
    name = topic(kafka, "acks")
    produce(kafka, name, "one\n", acks="1", enable_idempotence="false")
    produce(kafka, name, "none\n", acks="0", enable_idempotence="false")
    expect(consume(kafka, name, 2), ["one", "none"], "records")


@check("kafka-console-consumer: a topic that is created by asking for it")
def auto_create(kafka):
    name = f"auto-{time.monotonic_ns()}"
    produce(kafka, name, "first\n")
    expect(consume(kafka, name, 1), ["first"], "records")


@check("kafka-consumer-groups: list, describe, members, state, reset, delete offsets, delete", fast=True)
def groups(kafka):
    group_of(kafka, "classic")


@check("kafka-consumer-groups: the same with the consumer protocol of KIP-848")
def groups_848(kafka):
    group_of(kafka, "consumer")


def group_of(kafka, protocol):
    name = topic(kafka, "groups", 2)
    group = f"group-{name}"
    tool = lambda *arguments, **options: kafka("kafka-consumer-groups", *arguments, **options)
    produce(kafka, name)
    read = consume(kafka, name, len(LINES), "--group", group, group_protocol=protocol)
    expect(sorted(read), sorted(LINES), "records read in the group")
    expect_in(group, tool("--list"))
    said = tool("--describe", "--group", group)
    lags = re.findall(rf"{name}\s+\d+\s+(\d+)\s+(\d+)\s+(\d+)", said)
    expect(sum(int(current) for current, _, _ in lags), len(LINES), "committed offsets")
    expect({lag for _, _, lag in lags}, {"0"}, "lags")
    expect_in("Empty", tool("--describe", "--group", group, "--state"))
    tool("--describe", "--group", group, "--members")
    tool("--group", group, "--reset-offsets", "--to-earliest", "--topic", name, "--execute")
    said = tool("--describe", "--group", group)
    expect({current for current in re.findall(rf"{name}\s+\d+\s+(\d+)", said)}, {"0"}, "offsets after the reset")
    tool("--group", group, "--delete-offsets", "--topic", f"{name}:0")
    said = tool("--describe", "--group", group)
    expect(re.findall(rf"{name}\s+(\d+)", said), ["1"], "partitions with offsets after one was deleted")
    tool("--delete", "--group", group)
    expect(group in tool("--list").splitlines(), False, "group listed after its deletion")


@check("kafka-consumer-groups: a group at work cannot be deleted, its members are told")
def live_group(kafka):
    name = topic(kafka, "live", 2)
    group = f"group-{name}"
    with background(kafka, "kafka-verifiable-consumer", "--topic", name, "--group-id", group) as consumer:
        wait_for(consumer, "partitions_assigned")
        said = kafka("kafka-consumer-groups", "--describe", "--group", group, "--members", "--verbose")
        expect_in("(0,1)" if kafka.old else f"{name}:0,1", said)
        expect_in("Stable", kafka("kafka-consumer-groups", "--describe", "--group", group, "--state"))
        refused = kafka("kafka-consumer-groups", "--delete", "--group", group, fails=None)
        expect_in("GroupNotEmpty", refused)


@check("kafka-groups: lists groups of every type", since="4")
def all_groups(kafka):
    name = topic(kafka, "types")
    produce(kafka, name, "x\n")
    consume(kafka, name, 1, "--group", f"group-{name}")
    expect_in(f"group-{name}", kafka("kafka-groups", "--list"))


@check("kafka-console-share-consumer, kafka-share-groups: read, list, describe, reset, delete offsets, delete", since="4")
def share_groups(kafka):
    name = topic(kafka, "share", 2)
    group = share_group(kafka, name)
    tool = lambda *arguments, **options: kafka("kafka-share-groups", *arguments, **options)
    produce(kafka, name)
    limits = ["--max-messages", str(len(LINES)), "--timeout-ms", "20000"]
    read = kafka("kafka-console-share-consumer", "--topic", name, "--group", group, *limits, merge=False)
    expect(sorted(read.splitlines()), sorted(LINES), "records read in the group")
    expect_in(group, tool("--list"))
    starts = lambda: sum(map(int, re.findall(rf"{name}\s+\d+\s+(\d+)", tool("--describe", "--group", group))))
    expect(starts(), len(LINES), "where the group begins")
    expect_in("Empty", tool("--describe", "--group", group, "--state"))
    tool("--group", group, "--reset-offsets", "--to-earliest", "--topic", name, "--execute")
    expect(starts(), 0, "where the group begins after the reset")
    tool("--group", group, "--delete-offsets", "--topic", name)
    expect_in("no offset information", tool("--describe", "--group", group))
    tool("--delete", "--group", group)
    expect(group in tool("--list").splitlines(), False, "group listed after its deletion")


def share_group(kafka, name):
    """A share group that begins at the first record."""
    group = f"group-{name}"
    setting = ["--add-config", "share.auto.offset.reset=earliest"]
    kafka("kafka-configs", "--alter", "--entity-type", "groups", "--entity-name", group, *setting)
    return group


@check("kafka-verifiable-share-consumer: two members read what was sent, and say so", since="4")
def verifiable_share_consumer(kafka):
    name = topic(kafka, "verifiable-share", 3)
    group = share_group(kafka, name)
    options = ["--topic", name, "--group-id", group, "--acknowledgement-mode", "sync"]
    with (
        background(kafka, "kafka-verifiable-share-consumer", *options) as one,
        background(kafka, "kafka-verifiable-share-consumer", *options) as other,
    ):
        wait_for(one, "startup_complete")
        wait_for(other, "startup_complete")
        produce(kafka, name)
        logs = lambda: one.read_text(errors="replace") + other.read_text(errors="replace")
        acknowledged = lambda: sum(e["count"] for e in events(logs()) if e["name"] == "offsets_acknowledged")
        deadline = time.monotonic() + 60
        while acknowledged() < len(LINES) and time.monotonic() < deadline:
            time.sleep(0.1)
    told = events(logs())
    expect({e["success"] for e in told if e["name"] == "offsets_acknowledged"}, {True}, "acknowledgements")
    expect(acknowledged(), len(LINES), "records acknowledged")
    expect(sum(e["count"] for e in told if e["name"] == "records_consumed"), len(LINES), "records read, each once")


@check("kafka-share-consumer-perf-test", since="4")
def share_performance(kafka):
    name = topic(kafka, "share-performance")
    group = share_group(kafka, name)
    produce(kafka, name)
    limits = ["--num-records", str(len(LINES)), "--group", group]
    said = kafka("kafka-share-consumer-perf-test", "--topic", name, *limits, merge=False)
    expect_in(str(len(LINES)), said.strip().splitlines()[-1])


@check("kafka-get-offsets: earliest, latest, of the greatest timestamp, of a time", fast=True)
def get_offsets(kafka):
    name = topic(kafka, "offsets")
    produce(kafka, name, "a\nb\nc\n")
    at = lambda when: kafka("kafka-get-offsets", "--topic", name, "--time", when, merge=False).strip()
    expect(at("earliest"), f"{name}:0:0", "earliest")
    expect(at("latest"), f"{name}:0:3", "latest")
    expect(at("-1"), f"{name}:0:3", "-1")
    expect(at("max-timestamp").startswith(f"{name}:0:"), True, "of the greatest timestamp")
    expect(at("0"), f"{name}:0:0", "since the beginning of time")
    expect(at(str(int(time.time() * 1000) + 100_000)), "", "of a time to come")


@check("kafka-delete-records: the beginning moves")
def delete_records(kafka):
    name = topic(kafka, "deleted")
    produce(kafka, name)
    file = kafka.log.with_name(f"{name}.json")
    file.write_text(json.dumps({"version": 1, "partitions": [{"topic": name, "partition": 0, "offset": 100}]}))
    expect_in("low_watermark: 100", kafka("kafka-delete-records", "--offset-json-file", str(file)))
    expect(consume(kafka, name, 400), LINES[100:], "records left")


@check("kafka-log-dirs: sizes of partitions")
def log_dirs(kafka):
    name = topic(kafka, "dirs")
    produce(kafka, name)
    said = kafka("kafka-log-dirs", "--describe", "--topic-list", name, merge=False)
    found = json.loads(said.strip().splitlines()[-1])["brokers"][0]["logDirs"][0]["partitions"]
    expect([entry["partition"] for entry in found], [f"{name}-0"], "partitions")
    expect(found[0]["size"] > 1000, True, "size beyond that of its records")


@check("kafka-producer-perf-test and kafka-consumer-perf-test")
def performance(kafka):
    name = topic(kafka, "performance", 3)
    limits = ["--num-records", "20000", "--throughput", "-1", "--record-size", "100"]
    properties = ["--producer-props", f"bootstrap.servers={kafka.address}", "batch.size=16384"]
    said = kafka.call([kafka.folder / "bin/kafka-producer-perf-test.sh", "--topic", name, *limits, *properties])
    expect_in("20000 records sent", said)
    said = kafka("kafka-consumer-perf-test", "--topic", name, "--messages", "20000", merge=False)
    expect(int(said.strip().splitlines()[-1].split(", ")[4]) >= 20000, True, "records read")


@check("kafka-producer-perf-test: in transactions")
def transactional_performance(kafka):
    name = topic(kafka, "transactional", 3)
    limits = ["--num-records", "5000", "--throughput", "-1", "--record-size", "100"]
    transactions = ["--transactional-id", name, "--transaction-duration-ms", "50"]
    properties = ["--producer-props", f"bootstrap.servers={kafka.address}"]
    kafka.call([kafka.folder / "bin/kafka-producer-perf-test.sh", "--topic", name, *limits, *transactions, *properties])
    read = consume(kafka, name, 5000, "--isolation-level", "read_committed")
    expect(len(read), 5000, "committed records")


@check("kafka-verifiable-producer: every send is acknowledged at its offset", fast=True)
def verifiable_producer(kafka):
    name = topic(kafka, "verifiable")
    said = kafka("kafka-verifiable-producer", "--topic", name, "--max-messages", "1000", merge=False)
    sent = [event for event in events(said) if event["name"] == "producer_send_success"]
    expect([event["offset"] for event in sent], list(range(1000)), "offsets")
    expect([event["value"] for event in sent], [str(value) for value in range(1000)], "values")
    total = [event for event in events(said) if event["name"] == "tool_data"][0]
    expect((total["sent"], total["acked"]), (1000, 1000), "sent and acknowledged")


@check("kafka-verifiable-consumer: what it commits and reads is what was sent", fast=True)
def verifiable_consumer(kafka):
    verified(kafka, "classic")


@check("kafka-verifiable-consumer: the same with the consumer protocol of KIP-848")
def verifiable_consumer_848(kafka):
    verified(kafka, "consumer")


def verified(kafka, protocol):
    name = topic(kafka, "verified", 2)
    kafka("kafka-verifiable-producer", "--topic", name, "--max-messages", "1000")
    chosen = ["--group-protocol", "consumer"] if protocol == "consumer" else []
    said = kafka(
        "kafka-verifiable-consumer", "--topic", name, "--group-id", name, "--max-messages", "1000",
        "--reset-policy", "earliest", *chosen, merge=False,
    )  # fmt: skip
    told = events(said)
    expect(sum(event["count"] for event in told if event["name"] == "records_consumed"), 1000, "records read")
    assigned = [event for event in told if event["name"] == "partitions_assigned"]
    expect(sorted(part["partition"] for event in assigned for part in event["partitions"]), [0, 1], "partitions assigned")
    commits = [event for event in told if event["name"] == "offsets_committed"]
    expect(all(event["success"] for event in commits), True, "commits")
    last = {part["partition"]: part["offset"] for event in commits for part in event["offsets"]}
    expect(sum(last.values()), 1000, "offsets committed")


@check("kafka-verifiable-consumer: members come and go, partitions follow")
def rebalance(kafka):
    name = topic(kafka, "rebalance", 4)
    arguments = ["--topic", name, "--group-id", name, "--reset-policy", "earliest"]
    with background(kafka, "kafka-verifiable-consumer", *arguments) as first:
        wait_for(first, "partitions_assigned")
        with background(kafka, "kafka-verifiable-consumer", *arguments) as second:
            wait_for(second, "partitions_assigned")
            kafka("kafka-verifiable-producer", "--topic", name, "--max-messages", "400", "--repeating-keys", "7")
            said = kafka("kafka-consumer-groups", "--describe", "--group", name, "--members")
            members = re.findall(rf"^{name}\s.*\s(\d+)\s*$", said, re.M)
            expect(sorted(members), ["2", "2"], "partitions of each member")
        wait_for(first, "partitions_assigned", times=3)
        deadline = time.monotonic() + 20
        while True:
            lags = re.findall(rf"{name}\s+\d+\s+\S+\s+\d+\s+(\S+)", kafka("kafka-consumer-groups", "--describe", "--group", name))
            if lags and set(lags) == {"0"} or time.monotonic() > deadline:
                break
        expect(set(lags), {"0"}, "lags in the end")


@check("transactional-message-copier: every record once, with its offsets")
def copier(kafka):
    copied(kafka)


@check("transactional-message-copier: in a group, with its metadata")
def copier_group(kafka):
    copied(kafka, "--group-mode", "--use-group-metadata")


@check("transactional-message-copier: transactions aborted at random")
def copier_aborts(kafka):
    copied(kafka, "--enable-random-aborts", "--use-group-metadata")


def copied(kafka, *arguments):
    source, target = topic(kafka, "copy-from"), topic(kafka, "copy-to")
    kafka("kafka-verifiable-producer", "--topic", source, "--max-messages", "2000")
    said = kafka(
        "transactional-message-copier", "--input-topic", source, "--input-partition", "0", "--output-topic", target,
        "--transactional-id", f"copier-{source}", "--transaction-size", "100", "--consumer-group", source, *arguments,
        server="--broker-list", merge=False,
    )  # fmt: skip
    expect(events(said)[-1]["consumed"], 2000, "records copied")
    read = consume(kafka, target, 2000, "--isolation-level", "read_committed")
    expect(read, [str(value) for value in range(2000)], "records in the target")
    offset = kafka("kafka-consumer-groups", "--describe", "--group", source)
    expect(re.findall(rf"{source}\s+0\s+(\d+)", offset), ["2000"], "offset committed")


@check("kafka-transactions: list, describe, producers, none hanging")
def transactions(kafka):
    name = topic(kafka, "transactions")
    limits = ["--num-records", "100", "--throughput", "-1", "--record-size", "10", "--transactional-id", name, "--transaction-duration-ms", "10"]
    properties = ["--producer-props", f"bootstrap.servers={kafka.address}"]
    kafka.call([kafka.folder / "bin/kafka-producer-perf-test.sh", "--topic", name, *limits, *properties])
    expect_in(name, kafka("kafka-transactions", "list"))
    said = kafka("kafka-transactions", "describe", "--transactional-id", name)
    expect_in("CompleteCommit", said)
    said = kafka("kafka-transactions", "describe-producers", "--topic", name, "--partition", "0")
    expect(len(said.strip().splitlines()) >= 2, True, "producers of the partition")
    kafka("kafka-transactions", "find-hanging", "--broker-id", "0")


@check("kafka-acls: add, list, remove")
def acls(kafka):
    name = topic(kafka, "acls")
    kafka("kafka-acls", "--add", "--allow-principal", "User:alice", "--operation", "Read", "--topic", name)
    expect_in("User:alice", kafka("kafka-acls", "--list", "--topic", name))
    kafka("kafka-acls", "--remove", "--force", "--allow-principal", "User:alice", "--operation", "Read", "--topic", name)
    expect("User:alice" in kafka("kafka-acls", "--list", "--topic", name), False, "rule after its removal")


@check("kafka-features: what the broker supports")
def features(kafka):
    expect_in("SupportedMinVersion", kafka("kafka-features", "describe"))


@check("client-compatibility-test: what a client of this release may expect")
def compatibility(kafka):
    name = topic(kafka, "compatibility")
    kafka(
        "client-compatibility-test", "--topic", name, "--offsets-for-times-supported", "True",
        "--cluster-id-supported", "True", "--expect-record-too-large-exception", "False", "--num-cluster-nodes", "1",
        "--create-topics-supported", "True", "--describe-acls-supported", "True",
        "--describe-configs-supported", "True", "--idempotent-producer-supported", "True",
    )  # fmt: skip


@check("kafka-e2e-latency: each record is read before the next is sent")
def latency(kafka):
    name = topic(kafka, "latency")
    tool = kafka.folder / "bin/kafka-e2e-latency.sh"
    if kafka.old:
        said = kafka.call([tool, kafka.address, name, "200", "all", "100"])
    else:
        limits = ["--num-records", "200", "--producer-acks", "all", "--record-size", "100"]
        said = kafka("kafka-e2e-latency", "--topic", name, *limits)
    expect_in("Percentiles", said)


@check("log-compaction-tester: the newest of each key is left", since="4")
def compaction(kafka):
    kafka("log-compaction-tester", "--messages", "20000", "--percent-deletes", "20", "--sleep", "20", seconds=240)


def events(said):
    """The JSON objects among the lines of a verifiable tool."""
    return [json.loads(line) for line in said.splitlines() if line.startswith("{")]


@contextlib.contextmanager
def background(kafka, tool, *arguments):
    """A tool that runs until the end of the block and tells what it does into a file, which is yielded."""
    kafka.calls += 1
    log = kafka.log.with_name(f"{kafka.log.name}-{kafka.calls}.log")
    command = [kafka.folder / "bin" / f"{tool}.sh", "--bootstrap-server", kafka.address, *arguments]
    with open(log, "wb") as out:
        process = subprocess.Popen(list(map(str, command)), stdout=out, stderr=out, stdin=subprocess.DEVNULL)
    try:
        yield log
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(log, text, times=1, seconds=60):
    """Until a tool in the background has told something so often."""
    deadline = time.monotonic() + seconds
    while log.read_text(errors="replace").count(text) < times:
        if time.monotonic() > deadline:
            raise AssertionError(f"{log.name}: {text} not told {times} times within {seconds} s")
        time.sleep(0.1)
