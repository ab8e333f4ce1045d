//! Every rule over a cluster that is well, and over one that is not in a single thing.

use kafka_protocol::messages::ApiKey;

use super::facts::{Broker, Configs, Facts, Group, Growth, Lag, Partition, Topic};
use super::report::examine;
use super::rules::{Limits, RULES};

fn configs(pairs: &[(&str, &str)]) -> Configs {
    Configs(pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
}

fn broker(id: i32) -> Broker {
    let settings = [
        ("default.replication.factor", "3"),
        ("offsets.topic.replication.factor", "3"),
        ("transaction.state.log.replication.factor", "3"),
        ("transaction.state.log.min.isr", "2"),
        ("unclean.leader.election.enable", "false"),
        ("message.max.bytes", "1048588"),
        ("replica.fetch.max.bytes", "1048576"),
        ("replica.fetch.response.max.bytes", "10485760"),
        ("num.network.threads", "3"),
        ("num.io.threads", "8"),
        ("auto.create.topics.enable", "false"),
        ("transaction.max.timeout.ms", "900000"),
        ("offsets.retention.minutes", "10080"),
    ];
    let apis = [(ApiKey::Fetch as i16, (4, 17)), (ApiKey::DescribeQuorum as i16, (0, 2))].into();
    Broker { id, configs: configs(&settings), apis, metadata_level: Some((27, 27)) }
}

fn topic(name: &str, policy: &str) -> Topic {
    let partition = |id: i32| Partition {
        id,
        leader: Some(id % 3 + 1),
        replicas: vec![id % 3 + 1, (id + 1) % 3 + 1, (id + 2) % 3 + 1],
        in_sync: vec![1, 2, 3],
        size_bytes: Some(100 << 20),
        growth: Some(Growth { records_per_s: 10_000.0, bytes_per_s: Some(2e6) }),
    };
    let settings = [
        ("cleanup.policy", policy),
        ("min.insync.replicas", "2"),
        ("unclean.leader.election.enable", "false"),
        ("retention.ms", "604800000"),
        ("retention.bytes", "-1"),
        ("segment.bytes", "1073741824"),
        ("segment.ms", "604800000"),
        ("compression.type", "producer"),
        ("max.message.bytes", "1048588"),
    ];
    Topic {
        name: name.to_owned(),
        internal: name.starts_with("__"),
        partitions: (0..6).map(partition).collect(),
        configs: configs(&settings),
    }
}

fn group(records: i64, seconds: i64) -> Group {
    let lag = Lag { topic: "shop.order.created".to_owned(), records, seconds: Some(seconds) };
    Group { name: "readers".to_owned(), state: "Stable".to_owned(), lags: vec![lag.clone(), lag] }
}

/// A cluster that is well.
fn healthy() -> Facts {
    Facts {
        address: "k:9092".to_owned(),
        controller: Some(2),
        brokers: (1..=3).map(broker).collect(),
        topics: vec![
            topic("__consumer_offsets", "compact"),
            topic("shop.order.created", "delete"),
            topic("shop.customer.state", "compact"),
        ],
        groups: vec![group(1000, 10)],
        unanswered: Vec::new(),
    }
}

fn limits() -> Limits {
    Limits { parallelism: 4, max_lag_records: 100_000, max_lag_s: 300, names: true, state_topics: Vec::new() }
}

/// The findings of one rule: object, found, expected, and the command.
fn findings(facts: &Facts, limits: &Limits, rule: &str) -> Vec<[String; 4]> {
    let report = examine(facts, limits, &[]);
    let verdict = report.rules.into_iter().find(|verdict| verdict.rule == rule).unwrap();
    let text = |finding: super::rules::Finding| {
        assert!(!finding.change.is_empty());
        [finding.object, finding.found, finding.expected, finding.command.unwrap_or_default()]
    };
    verdict.findings.into_iter().map(text).collect()
}

/// What a rule says of a cluster that is well but for `spoil`; no other rule of those `alone` may say anything.
fn check(rule: &str, spoil: impl FnOnce(&mut Facts), expected: &[[&str; 4]]) {
    let mut facts = healthy();
    spoil(&mut facts);
    assert_eq!(findings(&facts, &limits(), rule), expected, "{rule}");
}

/// A setting of the topic that everybody reads.
fn set(key: &'static str, value: &'static str) -> impl FnOnce(&mut Facts) {
    move |facts| {
        facts.topics[1].configs.0.insert(key.to_owned(), value.to_owned());
    }
}

fn set_broker(key: &'static str, value: &'static str) -> impl FnOnce(&mut Facts) {
    move |facts| {
        facts.brokers[0].configs.0.insert(key.to_owned(), value.to_owned());
        facts.brokers[2].configs.0.insert(key.to_owned(), value.to_owned());
    }
}

const TOPIC: &str = "topic shop.order.created";

#[test]
fn a_cluster_that_is_well_breaks_no_rule() {
    let report = examine(&healthy(), &limits(), &[]);
    let broken: Vec<_> = report.rules.iter().filter(|rule| rule.outcome != "ok").collect();
    assert!(broken.is_empty(), "{broken:?}");
    assert_eq!((report.failures, report.warnings), (0, 0));
}

#[test]
fn the_state_of_a_cluster() {
    let quorum = "kafka-metadata-quorum.sh --bootstrap-server k:9092 describe --status";
    let no_controller = [["cluster", "no active controller", "one of the controllers is active", quorum]];
    check("controller", |facts| facts.controller = None, &no_controller);
    let look = "highwater topic describe shop.order.created --bootstrap k:9092";
    let offline = |facts: &mut Facts| {
        facts.topics[1].partitions[4].leader = None;
    };
    let no_leader = [[TOPIC, "partition 4: no leader; copies on brokers 2, 3, 1", "a leader", look]];
    check("offline-partitions", offline, &no_leader);
    let behind = |facts: &mut Facts| facts.topics[1].partitions.iter_mut().for_each(|one| one.in_sync = vec![1, 3]);
    let found = "partitions 0, 1, 2, 3, 4, 5: not up to date on broker 2";
    check("under-replicated", behind, &[[TOPIC, found, "all copies up to date", look]]);
    check("under-min-isr", behind, &[]);
    let alone = |facts: &mut Facts| facts.topics[1].partitions[0].in_sync = vec![1];
    let found = "partition 0: 1 up to date, brokers 2, 3 are not";
    check("under-min-isr", alone, &[[TOPIC, found, "2 or more", look]]);
    let moved = |facts: &mut Facts| {
        facts.topics.iter_mut().flat_map(|topic| &mut topic.partitions).for_each(|one| one.leader = Some(1));
    };
    let elect = "kafka-leader-election.sh --bootstrap-server k:9092 --election-type preferred --all-topic-partitions";
    let spread = "kafka-reassign-partitions.sh --bootstrap-server k:9092 --topics-to-move-json-file topics.json --broker-list \
                  1,2,3 --generate";
    check(
        "leader-balance",
        moved,
        &[
            ["cluster", "12 of 18 partitions are not led by their preferred leaders", "a tenth at most", elect],
            ["broker 1", "leads 18 partitions of 18", "about 6", spread],
        ],
    );
    let sized = |facts: &mut Facts| facts.topics[1].partitions[3].size_bytes = Some(1 << 30);
    let keys = "highwater topic consume shop.order.created --bootstrap k:9092 -e -f '%k\\n' | sort | uniq -c | sort -rn | head";
    let skewed = [[TOPIC, "partition 3 has 1.1 GB of 1.6 GB", "about 266.3 MB, twice that at most", keys]];
    check("partition-skew", sized, &skewed);
}

#[test]
fn copies() {
    check("broker-count", |facts| facts.brokers.truncate(2), &[["cluster", "2 brokers", "3 or more", ""]]);
    let one_copy = |facts: &mut Facts| {
        facts.topics[1].partitions.truncate(2);
        facts.topics[1].partitions.iter_mut().for_each(|one| one.replicas.truncate(1));
    };
    let json = r#"{"version":1,"partitions":[{"topic":"shop.order.created","partition":0,"replicas":[1,2,3]},{"topic":"shop.order.created","partition":1,"replicas":[2,3,1]}]}"#;
    let run = format!(
        "echo '{json}' > copies.json && kafka-reassign-partitions.sh --bootstrap-server k:9092 --reassignment-json-file \
         copies.json --execute"
    );
    check("replication-factor", one_copy, &[[TOPIC, "1 copy", "3", &run]]);
    let one = "default.replication.factor=1";
    check("default-replication", set_broker("default.replication.factor", "1"), &[["brokers 1, 3", one, "3", ""]]);
    let alter = |what: &str| format!("highwater topic alter shop.order.created --config {what} --bootstrap k:9092");
    let two = alter("min.insync.replicas=2");
    let acknowledged_alone = [[TOPIC, "min.insync.replicas=1", "2 or more", two.as_str()]];
    check("min-insync", set("min.insync.replicas", "1"), &acknowledged_alone);
    let trap = [[TOPIC, "min.insync.replicas=3", "2 at most, with 3 copies", two.as_str()]];
    check("min-insync-trap", set("min.insync.replicas", "3"), &trap);
    check("min-insync-trap", set("min.insync.replicas", "1"), &[]);
    let internal = |facts: &mut Facts| {
        facts.topics[0] = topic("__consumer_offsets", "delete");
        facts.brokers[1].configs.0.insert("transaction.state.log.min.isr".to_owned(), "1".to_owned());
    };
    let compact = "kafka-configs.sh --bootstrap-server k:9092 --alter --entity-type topics --entity-name __consumer_offsets \
                   --add-config cleanup.policy=compact";
    check(
        "internal-topics",
        internal,
        &[
            ["broker 2", "transaction.state.log.min.isr=1", "2", ""],
            ["topic __consumer_offsets", "cleanup.policy=delete", "compact", compact],
        ],
    );
    let dynamic = "kafka-configs.sh --bootstrap-server k:9092 --alter --entity-type brokers --entity-default --add-config \
                   unclean.leader.election.enable=false";
    let unclean = "unclean.leader.election.enable";
    let on = "unclean.leader.election.enable=true";
    check("unclean-election", set_broker(unclean, "true"), &[["brokers 1, 3", on, "false", dynamic]]);
    let off = alter("unclean.leader.election.enable=false");
    check("unclean-election", set(unclean, "true"), &[[TOPIC, on, "false", &off]]);
}

#[test]
fn settings_of_topics() {
    let alter = |what: &str| format!("highwater topic alter shop.order.created {what} --bootstrap k:9092");
    let setting = |rule: &str, key: &'static str, value: &'static str, found: &str, expected: &str, to: &str| {
        let run = alter(&format!("--config {to}"));
        check(rule, set(key, value), &[[TOPIC, found, expected, &run]]);
    };
    setting(
        "retention",
        "retention.ms",
        "-1",
        "retention.ms=-1 without retention.bytes",
        "a time, or retention.bytes",
        "retention.ms=604800000",
    );
    setting(
        "retention",
        "retention.ms",
        "3600000",
        "retention.ms=3600000",
        "a day (86400000) or more",
        "retention.ms=604800000",
    );
    setting(
        "segment-size",
        "segment.bytes",
        "4096",
        "segment.bytes=4096",
        "1048576 or more",
        "segment.bytes=1073741824",
    );
    setting(
        "segment-size",
        "retention.bytes",
        "1000000000",
        "segment.bytes=1073741824",
        "half of retention.bytes=1000000000 at most",
        "segment.bytes=250000000",
    );
    setting(
        "segment-size",
        "retention.ms",
        "86400000",
        "segment.ms=604800000",
        "retention.ms=86400000 at most",
        "segment.ms=21600000",
    );
    setting(
        "compression",
        "compression.type",
        "uncompressed",
        "compression.type=uncompressed",
        "producer, lz4 or zstd",
        "compression.type=producer",
    );
    let state = |facts: &mut Facts| facts.topics[2] = topic("app-store-changelog", "delete");
    let run = "highwater topic alter app-store-changelog --config cleanup.policy=compact --bootstrap k:9092";
    check("compaction", state, &[["topic app-store-changelog", "cleanup.policy=delete", "compact", run]]);
    // Events about states and tables are none.
    for name in ["order.state.changed", "restaurant.table.reserved", "shop.table-compacted.done"] {
        check("compaction", |facts| facts.topics[2] = topic(name, "delete"), &[]);
    }
    let mut facts = healthy();
    let named = Limits { state_topics: vec![glob::Pattern::new("*.order.*").unwrap()], ..limits() };
    assert_eq!(findings(&facts, &named, "compaction")[0][0], TOPIC);
    // A topic is busy by its rate, and idle ones may have as few partitions as they like.
    facts.topics[1].partitions.truncate(1);
    facts.topics[1].partitions[0].growth = Some(Growth { records_per_s: 250_000.0, bytes_per_s: Some(52e6) });
    let run = alter("--partitions 6");
    let few = [[TOPIC, "1 partition for 250,000 records/s, 52.0 MB/s", "6 (4 workers; 10 MB/s a partition)", &run]];
    assert_eq!(findings(&facts, &limits(), "partition-count"), few);
    facts.topics[1].partitions[0].growth = Some(Growth { records_per_s: 100.0, bytes_per_s: Some(20_000.0) });
    assert!(findings(&facts, &limits(), "partition-count").is_empty());
    let large =
        [["brokers 1, 2, 3", "replica.fetch.max.bytes=1048576", "5000000 or more, the largest max.message.bytes", ""]];
    check("message-size", set("max.message.bytes", "5000000"), &large);
    check(
        "topic-names",
        |facts| facts.topics[1].name = "shop.customer_state".to_owned(),
        &[
            [
                "topic shop.customer_state",
                "'_', which is '.' in metrics; 2 parts, expected 3",
                "shop.customer.state",
                "",
            ],
            [
                "topic shop.customer_state",
                "one with 'shop.customer.state' in metrics: shop_customer_state",
                "names that differ in more than . and _",
                "",
            ],
            [
                "topic shop.customer.state",
                "one with 'shop.customer_state' in metrics: shop_customer_state",
                "names that differ in more than . and _",
                "",
            ],
        ],
    );
}

#[test]
fn settings_of_brokers() {
    let dynamic = |what: &str| {
        format!(
            "kafka-configs.sh --bootstrap-server k:9092 --alter --entity-type brokers --entity-default --add-config {what}"
        )
    };
    let run = dynamic("num.io.threads=8");
    let few = [["brokers 1, 3", "num.io.threads=2", "8 or more", run.as_str()]];
    check("threads", set_broker("num.io.threads", "2"), &few);
    let run = dynamic("num.network.threads=3");
    check(
        "threads",
        set_broker("num.network.threads", "1"),
        &[["brokers 1, 3", "num.network.threads=1", "3 or more", &run]],
    );
    let automatic = [["brokers 1, 3", "auto.create.topics.enable=true", "false", ""]];
    check("auto-create", set_broker("auto.create.topics.enable", "true"), &automatic);
    let short = [["brokers 1, 3", "transaction.max.timeout.ms=60000", "300000 or more", ""]];
    check("transaction-timeout", set_broker("transaction.max.timeout.ms", "60000"), &short);
    let day = [["brokers 1, 3", "offsets.retention.minutes=1440", "10080 or more", ""]];
    check("offsets-retention", set_broker("offsets.retention.minutes", "1440"), &day);
    let upgraded = |facts: &mut Facts| {
        facts.brokers[1].apis.insert(ApiKey::Fetch as i16, (4, 18));
        facts.brokers[1].metadata_level = Some((27, 30));
    };
    let mixed = [["broker 2", "other versions of requests than broker 1", "all brokers of one version", ""]];
    check("broker-versions", upgraded, &mixed);
    let level = |facts: &mut Facts| facts.brokers.iter_mut().for_each(|one| one.metadata_level = Some((27, 30)));
    let raise = "kafka-features.sh --bootstrap-server k:9092 upgrade --feature metadata.version=30";
    check("broker-versions", level, &[["cluster", "metadata.version 27", "30, which all brokers know", raise]]);
    let old = |facts: &mut Facts| {
        for broker in &mut facts.brokers {
            broker.apis.remove(&(ApiKey::DescribeQuorum as i16));
            broker.metadata_level = None;
        }
    };
    let kraft = "brokers that know no KRaft (Kafka before 3.3, or on ZooKeeper)";
    check("broker-versions", old, &[["cluster", kraft, "Kafka 3.9 or newer, on KRaft", ""]]);
}

#[test]
fn groups_that_are_behind() {
    let run = "highwater topic describe shop.order.created --section groups --bootstrap k:9092";
    let expected = "100,000 records and 300 s at most";
    let object = "group readers of topic shop.order.created";
    let behind = |facts: &mut Facts| facts.groups = vec![group(75_000, 20)];
    check("consumer-lag", behind, &[[object, "150,000 records behind, the oldest 20 s old", expected, run]]);
    let abandoned = |facts: &mut Facts| {
        facts.groups = vec![Group { state: "Empty".to_owned(), ..group(5, 301) }];
    };
    let found = "10 records behind, the oldest 301 s old, and nobody reads";
    check("consumer-lag", abandoned, &[[object, found, expected, run]]);
}

#[test]
fn what_is_not_told_is_not_known() {
    let mut facts = healthy();
    for broker in &mut facts.brokers {
        (broker.configs, broker.apis) = (Configs::default(), std::collections::BTreeMap::new());
    }
    for topic in &mut facts.topics {
        topic.configs = Configs::default();
        topic.partitions.iter_mut().for_each(|one| one.size_bytes = None);
    }
    let report = examine(&facts, &Limits { names: false, ..limits() }, &["controller".to_owned()]);
    let with = |outcome: &str| {
        report.rules.iter().filter(|rule| rule.outcome == outcome).map(|rule| rule.rule).collect::<Vec<_>>()
    };
    assert_eq!(with("skipped"), ["controller"]);
    assert_eq!(
        with("unknown"),
        [
            "default-replication",
            "unclean-election",
            "partition-skew",
            "message-size",
            "threads",
            "auto-create",
            "transaction-timeout",
            "offsets-retention",
            "broker-versions",
            "topic-names",
        ]
    );
    assert_eq!(with("broken"), [""; 0]);
}

#[test]
fn the_report_is_as_it_is_shown() {
    let mut facts = healthy();
    set("min.insync.replicas", "1")(&mut facts);
    facts.brokers.truncate(2);
    facts.unanswered = vec!["sizes on broker 1: ClusterAuthorizationFailed".to_owned()];
    let skip: Vec<String> =
        RULES.iter().map(|rule| rule.id.to_owned()).filter(|id| id != "min-insync" && id != "controller").collect();
    let report = examine(&facts, &limits(), &skip);
    let expected = "Kafka at k:9092: 2 brokers, 3 topics, 18 partitions, 1 group\n\n\
        failure  min-insync: min.insync.replicas is 2 or more where there are three copies\n\
        \x20        with 1, acks=all is acknowledged by a leader alone, and lost with it\n\
        \x20 topic shop.order.created\n\
        \x20   found     min.insync.replicas=1\n\
        \x20   expected  2 or more\n\
        \x20   change    set min.insync.replicas=2\n\
        \x20   run       highwater topic alter shop.order.created --config min.insync.replicas=2 --bootstrap k:9092\n\n\
        ok       controller\n";
    let text = report.text();
    assert!(text.starts_with(expected), "{text}");
    assert!(text.ends_with("no answer to sizes on broker 1: ClusterAuthorizationFailed\n"), "{text}");
    assert_eq!(report.summary(), format!("1 failure and 0 warnings in {} rules", RULES.len()));
}

#[test]
fn the_reference_has_the_table_of_the_rules() {
    let document = include_str!("../../../../docs/operations/kafka-doctor.md");
    let rows = |rule: &super::rules::Rule| {
        format!("| `{}` | {} | {} | {} |", rule.id, rule.severity.name(), rule.what, rule.why)
    };
    let expected: Vec<String> = RULES.iter().map(rows).collect();
    let rules = document.lines().skip_while(|line| *line != "## Rules");
    let found: Vec<&str> = rules.filter(|line| line.starts_with("| `")).collect();
    assert!(found == expected, "docs/operations/kafka-doctor.md should have these rows:\n{}", expected.join("\n"));
}
