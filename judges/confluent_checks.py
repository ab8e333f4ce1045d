"""What is asked of confluent-kafka; see `confluent_python.py`. Without arguments it names its checks.

    confluent_checks.py HOST:PORT NAME
"""

import json
import sys
import threading
import time

CHECKS = {}


def check(name):
    def add(function):
        CHECKS[name] = function
        return function

    return add


def expect(found, wanted, what):
    if found != wanted:
        raise AssertionError(f"{what}: expected {str(wanted)[:200]}, found {str(found)[:200]}")


class Kafka:
    """Clients of the broker, and what several checks do with them."""

    def __init__(self, address):
        from confluent_kafka.admin import AdminClient

        self.address = address
        self.admin = AdminClient(self.settings())
        self.unique = f"{time.monotonic_ns()}"

    def settings(self, **properties):
        named = {name.replace("_", "."): value for name, value in properties.items()}
        return {"bootstrap.servers": self.address, **named}

    def producer(self, **properties):
        from confluent_kafka import Producer

        return Producer(self.settings(**properties))

    def consumer(self, group, **properties):
        from confluent_kafka import Consumer

        return Consumer(self.settings(group_id=group, auto_offset_reset="earliest", **properties))

    def topic(self, name, partitions=1, **config):
        from confluent_kafka.admin import NewTopic

        name = f"{name}-{self.unique}"
        config = {key.replace("_", "."): value for key, value in config.items()}
        for future in self.admin.create_topics([NewTopic(name, partitions, 1, config=config)]).values():
            future.result(30)
        return name

    def send(self, topic, values, producer=None, **properties):
        """Sends values; what was delivered, by callback, in order."""
        producer = producer or self.producer(**properties)
        delivered = []
        for value in values:
            producer.produce(topic, value, on_delivery=lambda error, message: delivered.append((error, message)))
            producer.poll(0)
        expect(producer.flush(30), 0, "messages that were not delivered")
        expect([str(error) for error, _ in delivered if error], [], "errors of deliveries")
        return [message for _, message in delivered]

    def read(self, topic, count, group=None, seconds=30, **properties):
        """`count` messages of a topic by a group of their own, or fewer when no more come."""
        consumer = self.consumer(group or f"read-{time.monotonic_ns()}", **properties)
        consumer.subscribe([topic])
        try:
            return poll(consumer, count, seconds)
        finally:
            consumer.close()


def poll(consumer, count, seconds=30):
    found, deadline = [], time.monotonic() + seconds
    while len(found) < count and time.monotonic() < deadline:
        message = consumer.poll(0.5)
        if message is None:
            continue
        if message.error():
            raise AssertionError(f"consumer: {message.error()}")
        found.append(message)
    return found


def values(messages):
    return [message.value() for message in messages]


def numbers(count):
    return [b"%d" % number for number in range(count)]


def result(futures):
    """The one result of an admin call."""
    (future,) = futures.values()
    return future.result(30)


@check("producer: deliveries are reported with their offsets")
def deliveries(kafka):
    topic = kafka.topic("deliveries")
    messages = kafka.send(topic, numbers(1000))
    expect([message.offset() for message in messages], list(range(1000)), "offsets")
    expect(values(kafka.read(topic, 1000)), numbers(1000), "values")


for codec in ["gzip", "snappy", "lz4", "zstd"]:

    @check(f"producer: {codec}, idempotent")
    def codecs(kafka, codec=codec):
        topic = kafka.topic(codec)
        kafka.send(topic, numbers(5000), compression_type=codec, enable_idempotence=True, linger_ms=20)
        expect(values(kafka.read(topic, 5000)), numbers(5000), "values")


@check("producer: keys, headers, timestamps, null values")
def parts(kafka):
    topic, producer = kafka.topic("parts"), kafka.producer()
    producer.produce(topic, None, key=b"k", headers=[("a", b"1"), ("a", None)], timestamp=1_600_000_000_000)
    producer.flush(30)
    (message,) = kafka.read(topic, 1)
    expect((message.key(), message.value()), (b"k", None), "key and value")
    expect(message.headers(), [("a", b"1"), ("a", None)], "headers")
    expect(message.timestamp(), (1, 1_600_000_000_000), "timestamp")


@check("producer: message.timestamp.type=LogAppendTime is the broker's time")
def append_time(kafka):
    topic, producer = kafka.topic("append-time", message_timestamp_type="LogAppendTime"), kafka.producer()
    producer.produce(topic, b"v", timestamp=1_600_000_000_000)
    producer.flush(30)
    kind, stamp = kafka.read(topic, 1)[0].timestamp()
    expect(kind, 2, "kind of timestamp")
    expect(abs(stamp - time.time() * 1000) < 60_000, True, "near to now")


@check("consumer: seek, pause, resume, position, watermarks, offsets for times")
def positions(kafka):
    from confluent_kafka import TopicPartition

    topic = kafka.topic("positions")
    stamps = [message.timestamp()[1] for message in kafka.send(topic, numbers(100))]
    consumer = kafka.consumer("positions-" + kafka.unique)
    consumer.assign([TopicPartition(topic, 0, 10)])
    expect(values(poll(consumer, 1)), [b"10"], "first")
    consumer.seek(TopicPartition(topic, 0, 50))
    expect(values(poll(consumer, 1)), [b"50"], "after seek")
    expect(consumer.position([TopicPartition(topic, 0)])[0].offset, 51, "position")
    expect(consumer.get_watermark_offsets(TopicPartition(topic, 0)), (0, 100), "watermarks")
    consumer.pause([TopicPartition(topic, 0)])
    expect(poll(consumer, 1, seconds=2), [], "while paused")
    consumer.resume([TopicPartition(topic, 0)])
    expect(values(poll(consumer, 1)), [b"51"], "after resume")
    (found,) = consumer.offsets_for_times([TopicPartition(topic, 0, stamps[30])])
    expect(stamps[found.offset] >= stamps[30] and found.offset <= 30, True, "offset of a time")
    consumer.close()


@check("consumer: synchronous and asynchronous commits, committed, metadata")
def commits(kafka):
    from confluent_kafka import TopicPartition

    topic, group = kafka.topic("commits"), "commits-" + kafka.unique
    kafka.send(topic, numbers(10))
    consumer = kafka.consumer(group, enable_auto_commit=False)
    consumer.subscribe([topic])
    messages = poll(consumer, 5)
    consumer.commit(message=messages[2], asynchronous=False)
    (committed,) = consumer.committed([TopicPartition(topic, 0)], 10)
    expect(committed.offset, 3, "committed offset")
    consumer.commit(offsets=[TopicPartition(topic, 0, 4, metadata="why")], asynchronous=False)
    (committed,) = consumer.committed([TopicPartition(topic, 0)], 10)
    expect((committed.offset, committed.metadata), (4, "why"), "committed offset and metadata")
    consumer.close()
    expect(values(kafka.read(topic, 6, group)), numbers(10)[4:], "after the commit")


@check("consumer group: members come and go, nothing is read twice (cooperative-sticky)")
def cooperative(kafka):
    members(kafka, partition_assignment_strategy="cooperative-sticky")


@check("consumer group: members come and go, nothing is read twice (range)")
def eager(kafka):
    members(kafka, partition_assignment_strategy="range")


@check("consumer group: members come and go, nothing is read twice (consumer protocol, KIP-848)")
def protocol_848(kafka):
    members(kafka, group_protocol="consumer")


def members(kafka, **properties):
    """Three members one after the other, the first leaves; records in all that time."""
    topic, group, stop = kafka.topic("members", 6), "members-" + kafka.unique, threading.Event()
    seen, failures, lock = [], [], threading.Lock()

    def member(leave_after=None):
        consumer = kafka.consumer(group, enable_auto_commit=False, **properties)
        # What was processed is committed before its partition goes to another member.
        consumer.subscribe([topic], on_revoke=lambda consumer, _partitions: commit_read(consumer))
        began = time.monotonic()
        try:
            while not stop.is_set() and (leave_after is None or time.monotonic() - began < leave_after):
                for message in consumer.consume(50, 0.2):
                    if message.error():
                        raise AssertionError(str(message.error()))
                    with lock:
                        seen.append(message.value())
            commit_read(consumer)
        except Exception as failure:
            failures.append(repr(failure))
        finally:
            consumer.close()

    threads = []
    for leave_after in [8, None, None]:
        threads.append(threading.Thread(target=member, args=(leave_after,)))
        threads[-1].start()
        kafka.send(topic, [b"%d-%d" % (len(threads), number) for number in range(300)])
        time.sleep(3)
    kafka.send(topic, [b"4-%d" % number for number in range(300)])
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline and len(set(seen)) < 1200:
        time.sleep(0.2)
    stop.set()
    for thread in threads:
        thread.join(30)
    expect(failures, [], "failures of members")
    expect(len(set(seen)), 1200, "records read")
    expect(len(seen) - len(set(seen)), 0, "records read twice")


def commit_read(consumer):
    from confluent_kafka import KafkaException

    for attempt in range(20):
        try:
            return consumer.commit(asynchronous=False)
        except KafkaException as failure:
            name = failure.args[0].name()
            # Nothing was read since the last commit.
            if name == "_NO_OFFSET":
                return None
            # A rebalance is under way: until the member knows its new generation.
            if name not in ("ILLEGAL_GENERATION", "REBALANCE_IN_PROGRESS") or attempt == 19:
                raise
            time.sleep(0.2)


@check("consumer group: a static member that is back in time keeps its partitions")
def static_member(kafka):
    topic, group = kafka.topic("static", 4), "static-" + kafka.unique
    kafka.send(topic, numbers(40))
    revoked = []
    stays = kafka.consumer(group, group_instance_id="stays", session_timeout_ms=20000)
    stays.subscribe([topic], on_revoke=lambda _consumer, partitions: revoked.append(partitions))
    leaves = kafka.consumer(group, group_instance_id="leaves", session_timeout_ms=20000)
    leaves.subscribe([topic])
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and not (len(stays.assignment()) == 2 == len(leaves.assignment())):
        stays.poll(0.2), leaves.poll(0.2)
    mine = sorted(part.partition for part in leaves.assignment())
    expect(len(mine), 2, "partitions of the member that leaves")
    before = len(revoked)
    leaves.close()
    back = kafka.consumer(group, group_instance_id="leaves", session_timeout_ms=20000)
    back.subscribe([topic])
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and not back.assignment():
        stays.poll(0.2), back.poll(0.2)
    expect(sorted(part.partition for part in back.assignment()), mine, "partitions after it came back")
    expect(len(revoked), before, "revocations of the member that stayed")
    back.close(), stays.close()


@check("transactions: committed records are read, aborted ones are not")
def transactions(kafka):
    topic = kafka.topic("transactions", 3)
    producer = kafka.producer(transactional_id="t-" + kafka.unique)
    producer.init_transactions(30)
    for round_number in range(10):
        producer.begin_transaction()
        kafka.send(topic, [b"%d-%d" % (round_number, number) for number in range(50)], producer)
        if round_number % 2:
            producer.abort_transaction(30)
        else:
            producer.commit_transaction(30)
    committed = kafka.read(topic, 250, isolation_level="read_committed")
    wanted = {b"%d-%d" % (number, at) for number in range(0, 10, 2) for at in range(50)}
    expect(set(values(committed)) == wanted, True, "the committed records are those read")
    expect(len(kafka.read(topic, 500, isolation_level="read_uncommitted")), 500, "all records")


@check("transactions: an open one holds back readers of what is committed")
def open_transaction(kafka):
    topic = kafka.topic("open")
    producer = kafka.producer(transactional_id="t-" + kafka.unique)
    producer.init_transactions(30)
    producer.begin_transaction()
    kafka.send(topic, [b"in"], producer)
    kafka.send(topic, [b"behind"])
    expect(kafka.read(topic, 1, seconds=4, isolation_level="read_committed"), [], "while it is open")
    producer.commit_transaction(30)
    expect(values(kafka.read(topic, 2, isolation_level="read_committed")), [b"in", b"behind"], "after it")


@check("transactions: consumed offsets are committed with the records, or not at all")
def offsets_in_transactions(kafka):
    source, target = kafka.topic("from"), kafka.topic("to")
    kafka.send(source, numbers(20))
    group = "etl-" + kafka.unique
    consumer = kafka.consumer(group, enable_auto_commit=False)
    consumer.subscribe([source])
    producer = kafka.producer(transactional_id="t-" + kafka.unique)
    producer.init_transactions(30)
    for ending in [producer.abort_transaction, producer.commit_transaction]:
        messages = poll(consumer, 10)
        producer.begin_transaction()
        kafka.send(target, values(messages), producer)
        positions = consumer.position(consumer.assignment())
        producer.send_offsets_to_transaction(positions, consumer.consumer_group_metadata(), 30)
        ending(30)
        if ending == producer.abort_transaction:
            (committed,) = consumer.committed(consumer.assignment(), 10)
            expect(committed.offset, -1001, "offset committed by an aborted transaction")
    (committed,) = consumer.committed(consumer.assignment(), 10)
    expect(committed.offset, 20, "offset committed")
    consumer.close()
    expect(values(kafka.read(target, 10, isolation_level="read_committed")), numbers(20)[10:], "records")


@check("transactions: a newer producer of the same id fences the older")
def fencing(kafka):
    from confluent_kafka import KafkaException

    topic, name = kafka.topic("fencing"), "t-" + kafka.unique
    old, new = kafka.producer(transactional_id=name), kafka.producer(transactional_id=name)
    old.init_transactions(30)
    old.begin_transaction()
    old.produce(topic, b"old")
    old.flush(30)
    new.init_transactions(30)
    try:
        old.commit_transaction(30)
    except KafkaException as refused:
        expect(refused.args[0].fatal(), True, "fatal for the older producer")
    else:
        raise AssertionError("the older producer committed")
    new.begin_transaction()
    kafka.send(topic, [b"new"], new)
    new.commit_transaction(30)
    expect(values(kafka.read(topic, 1, isolation_level="read_committed")), [b"new"], "records")


@check("admin: topics are created, listed, described, grown, deleted")
def admin_topics(kafka):
    from confluent_kafka import KafkaException, TopicCollection
    from confluent_kafka.admin import NewPartitions, NewTopic

    topic = kafka.topic("admin", 2)
    expect(len(kafka.admin.list_topics(topic, 10).topics[topic].partitions), 2, "partitions")
    described = result(kafka.admin.describe_topics(TopicCollection([topic])))
    expect((described.name, len(described.partitions)), (topic, 2), "description")
    result(kafka.admin.create_partitions([NewPartitions(topic, 4)]))
    expect(len(kafka.admin.list_topics(topic, 10).topics[topic].partitions), 4, "partitions after growing")
    try:
        result(kafka.admin.create_topics([NewTopic(topic, 1, 1)]))
    except KafkaException as refused:
        expect(refused.args[0].name(), "TOPIC_ALREADY_EXISTS", "error")
    else:
        raise AssertionError("a topic was created twice")
    result(kafka.admin.delete_topics([topic]))
    expect(topic in kafka.admin.list_topics(timeout=10).topics, False, "listed after deletion")


@check("admin: settings of topics are described, altered, and of brokers described")
def admin_configs(kafka):
    from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource

    topic = kafka.topic("configs", retention_ms="70000")
    resource = lambda *entries: ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=list(entries))
    described = result(kafka.admin.describe_configs([resource()]))
    expect((described["retention.ms"].value, described["retention.ms"].is_default), ("70000", False), "retention.ms")
    expect(described["segment.bytes"].is_default, True, "segment.bytes is a default")
    change = ConfigEntry("retention.ms", "80000", incremental_operation=AlterConfigOpType.SET)
    result(kafka.admin.incremental_alter_configs([resource(change)]))
    expect(result(kafka.admin.describe_configs([resource()]))["retention.ms"].value, "80000", "after the change")
    change = ConfigEntry("retention.ms", None, incremental_operation=AlterConfigOpType.DELETE)
    result(kafka.admin.incremental_alter_configs([resource(change)]))
    expect(result(kafka.admin.describe_configs([resource()]))["retention.ms"].is_default, True, "after its deletion")
    node = str(next(iter(kafka.admin.list_topics(timeout=10).brokers)))
    described = result(kafka.admin.describe_configs([ConfigResource(ConfigResource.Type.BROKER, node)]))
    expect("num.partitions" in described, True, "num.partitions among the broker's settings")


@check("admin: groups are listed, described, their offsets altered and deleted")
def admin_groups(kafka):
    from confluent_kafka import ConsumerGroupState, ConsumerGroupTopicPartitions, TopicPartition

    topic, group = kafka.topic("groups"), "admin-" + kafka.unique
    kafka.send(topic, numbers(5))
    consumer = kafka.consumer(group)
    consumer.subscribe([topic])
    poll(consumer, 5)
    described = result(kafka.admin.describe_consumer_groups([group]))
    expect(described.state, ConsumerGroupState.STABLE, "state with a member")
    expect([part.topic for part in described.members[0].assignment.topic_partitions], [topic], "assignment")
    consumer.commit(asynchronous=False)
    consumer.close()
    listed = kafka.admin.list_consumer_groups().result(30)
    expect([found.state for found in listed.valid if found.group_id == group], [ConsumerGroupState.EMPTY], "listed")
    of = lambda *parts: [ConsumerGroupTopicPartitions(group, list(parts) or None)]
    offsets = lambda: result(kafka.admin.list_consumer_group_offsets(of())).topic_partitions
    expect([part.offset for part in offsets()], [5], "offsets")
    result(kafka.admin.alter_consumer_group_offsets(of(TopicPartition(topic, 0, 2))))
    expect([part.offset for part in offsets()], [2], "altered offsets")
    result(kafka.admin.delete_consumer_groups([group]))
    listed = kafka.admin.list_consumer_groups().result(30)
    expect(group in [found.group_id for found in listed.valid], False, "listed after deletion")


@check("admin: offsets are listed, records deleted")
def admin_offsets(kafka):
    from confluent_kafka import TopicPartition
    from confluent_kafka.admin import OffsetSpec

    topic = kafka.topic("offsets")
    kafka.send(topic, numbers(10))
    part = TopicPartition(topic, 0)
    listed = lambda spec: result(kafka.admin.list_offsets({part: spec})).offset
    expect((listed(OffsetSpec.earliest()), listed(OffsetSpec.latest())), (0, 10), "earliest and latest")
    expect(listed(OffsetSpec.max_timestamp()) <= 9, True, "of the greatest timestamp")
    deleted = result(kafka.admin.delete_records([TopicPartition(topic, 0, 4)]))
    expect(deleted.low_watermark, 4, "low watermark")
    expect(listed(OffsetSpec.earliest()), 4, "earliest afterwards")


@check("admin: the cluster")
def admin_cluster(kafka):
    described = kafka.admin.describe_cluster().result(30)
    expect(len(described.nodes), 1, "nodes")
    expect(described.controller.id, described.nodes[0].id, "controller")
    expect(bool(described.cluster_id), True, "there is a cluster id")


@check("admin: leaders need no election")
def admin_leaders(kafka):
    from confluent_kafka import ElectionType, TopicPartition

    part = TopicPartition(kafka.topic("leaders"), 0)
    answers = kafka.admin.elect_leaders(ElectionType.PREFERRED, [part]).result(30)
    expect(answers[part].name(), "ELECTION_NOT_NEEDED", "error")


@check("admin: access rules are created, described, deleted")
def admin_acls(kafka):
    from confluent_kafka.admin import (
        AclBinding, AclBindingFilter, AclOperation, AclPermissionType, ResourcePatternType, ResourceType,
    )  # fmt: skip

    what = ["acls-" + kafka.unique, ResourcePatternType.LITERAL, "User:alice", "*", AclOperation.READ, AclPermissionType.ALLOW]
    rule, rules = AclBinding(ResourceType.TOPIC, *what), AclBindingFilter(ResourceType.TOPIC, *what)
    result(kafka.admin.create_acls([rule]))
    expect(kafka.admin.describe_acls(rules).result(30), [rule], "rules")
    expect(result(kafka.admin.delete_acls([rules])), [rule], "rules deleted")
    expect(kafka.admin.describe_acls(rules).result(30), [], "rules left")


def main():
    if len(sys.argv) == 1:
        print(json.dumps(list(CHECKS)))
        return
    try:
        CHECKS[sys.argv[2]](Kafka(sys.argv[1]))
    except Exception as failure:
        sys.exit(" ".join(f"{type(failure).__name__}: {failure}".split()))


if __name__ == "__main__":
    main()
