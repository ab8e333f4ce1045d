//! `highwater topic create | alter | describe`: what is chosen, what is refused, and what is told; word for word.

use serde_json::Value;

use crate::broker::TestBroker;
use crate::program::{Finished, run, run_with_input, succeed};

/// Runs a verb of `topic` against `broker`.
fn topic(broker: &TestBroker, arguments: &[&str]) -> Finished {
    let folder = tempfile::tempdir().unwrap();
    let all: Vec<&str> =
        ["topic"].into_iter().chain(arguments.iter().copied()).chain(["--bootstrap", &broker.address]).collect();
    run(folder.path(), &all)
}

#[test]
fn a_dry_run_shows_the_plan_and_creates_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let broker = TestBroker::start(folder.path());
    let check = |arguments: &[&str], expected: &str| {
        let all: Vec<&str> = ["create", "shop.order.created", "--dry-run"].iter().chain(arguments).copied().collect();
        let finished = topic(&broker, &all);
        assert_eq!((finished.code, finished.stdout.as_str()), (0, expected), "{}", finished.stderr);
        assert!(finished.stderr.contains("dry run: the topic would be created"), "{}", finished.stderr);
    };
    check(&["--output", "csv"], "setting,value,reason\npartitions,1,default\n");
    check(
        &["--for", "events", "--retention", "3d"],
        "\
+--------------+---------+------------------------------------+
|setting       |value    |reason                              |
+--------------+---------+------------------------------------+
|partitions    |4        |events: up to 4 readers side by side|
|cleanup.policy|delete   |events: old ones are deleted        |
|retention.ms  |259200000|--retention                         |
+--------------+---------+------------------------------------+
3 rows
",
    );
    check(
        &["--throughput", "50k/s", "--record-size", "500", "--output", "csv"],
        "setting,value,reason\npartitions,5,50000 records/s of 500 B = 25.0 MB/s x 2 for growth / 10.0 MB/s a \
         partition\n",
    );
    assert_eq!(topic(&broker, &["list", "--output", "csv"]).stdout, "topic,partitions,records\n");
}

#[test]
fn purposes_tell_what_they_chose() {
    let folder = tempfile::tempdir().unwrap();
    let broker = TestBroker::start(folder.path());
    let created = topic(&broker, &["create", "shop.order.created.dlq", "--for", "dead-letters"]);
    assert_eq!(created.code, 0, "{}", created.stderr);
    assert!(!created.stderr.contains("WARN"), "{}", created.stderr);
    for told in ["partitions = 1 (dead-letters: few", "retention.ms = 2592000000 (dead-letters: 30 days"] {
        assert!(created.stderr.contains(told), "{}", created.stderr);
    }
    let odd = topic(&broker, &["create", "shop.order.failed", "--for", "dead-letters", "--lint", "error"]);
    assert_eq!(
        (odd.code, odd.stderr.as_str()),
        (
            2,
            "error: topic 'shop.order.failed': names of dead letters end in '.dlq', better: shop.order.failed.dlq\nhelp: \
             name it so, or add --lint off; a topic cannot be renamed later\n"
        )
    );
}

#[test]
fn a_topic_of_state_is_compacted() {
    let folder = tempfile::tempdir().unwrap();
    let broker = TestBroker::start(folder.path());
    let asked = topic(&broker, &["create", "shop.customer.changed", "--for", "state", "--dry-run", "--output", "csv"]);
    assert_eq!(
        asked.stdout,
        "setting,value,reason\npartitions,4,state: up to 4 readers side by side\ncleanup.policy,compact,state: the newest \
         record of each key stays\ndelete.retention.ms,86400000,state: readers less than 1 day behind see \
         deletions\nmin.compaction.lag.ms,3600000,state: readers less than 1 hour behind see every change\n",
        "{}",
        asked.stderr
    );
    let create =
        ["create", "shop.customer.changed", "--for", "state", "--min-compaction-lag", "0s", "--retention", "7d"];
    let created = topic(&broker, &[&create[..], &["--compact"]].concat());
    assert_eq!(created.code, 0, "{}", created.stderr);
    assert_eq!(
        topic(&broker, &["describe", "shop.customer.changed", "--section", "configs", "--output", "csv"]).stdout,
        "name,value,source\ncleanup.policy,\"compact,delete\",topic\ndelete.retention.ms,86400000,topic\n\
         min.compaction.lag.ms,0,topic\nretention.ms,604800000,topic\n"
    );
    let at = ["-b", broker.address.as_str()];
    let send = |lines: &str| {
        let arguments = ["topic", "produce", "shop.customer.changed", at[0], at[1], "-K", ":", "-Z", "-p", "0"];
        run_with_input(folder.path(), &arguments, lines)
    };
    assert_eq!(send("a:1\na:\n").code, 0);
    let keyless = run_with_input(folder.path(), &["topic", "produce", "shop.customer.changed", at[0], at[1]], "x\n");
    assert_eq!(keyless.code, 1, "a record without a key has no place in a compacted topic: {}", keyless.stderr);
    assert!(keyless.stderr.contains("1 record to topic 'shop.customer.changed' was refused"), "{}", keyless.stderr);
}

#[test]
fn names_are_kept_to_the_convention() {
    let folder = tempfile::tempdir().unwrap();
    let broker = TestBroker::start(folder.path());
    let refused = |arguments: &[&str], code: i32, stderr: &str| {
        let finished = topic(&broker, arguments);
        assert_eq!((finished.code, finished.stderr.as_str()), (code, stderr));
    };
    refused(
        &["create", "ShopOrderPlaced", "--lint", "error"],
        2,
        "error: topic name 'ShopOrderPlaced' does not follow domain.entity.action: found upper-case letters; 1 part, \
         expected 3\nhelp: name it shop.order.placed, or add --lint off; a topic cannot be renamed later\n",
    );
    refused(
        &["create", "shop order"],
        2,
        "error: topic name 'shop order' has ' ', expected letters of ASCII, digits, '.', '_' and '-'\n",
    );
    let warned = topic(&broker, &["create", "shop_orders"]);
    assert_eq!(warned.code, 0);
    assert!(
        warned.stderr.contains("WARN") && warned.stderr.contains("better: <domain>.shop.orders"),
        "{}",
        warned.stderr
    );
    let quiet = topic(&broker, &["create", "Orders", "--lint", "off"]);
    assert!(quiet.code == 0 && !quiet.stderr.contains("WARN"), "{}", quiet.stderr);
    refused(
        &["create", "shop.orders"],
        1,
        &format!(
            "error: topic 'shop.orders' collides with 'shop_orders' on {}\nhelp: both are 'shop_orders' in Kafka's metrics: \
             choose a name that differs in more than '.' and '_'\n",
            broker.address
        ),
    );
}

#[test]
fn wishes_that_cannot_be_granted_say_why() {
    let folder = tempfile::tempdir().unwrap();
    let broker = TestBroker::start(folder.path());
    let refused = |arguments: &[&str], code: i32, expected: &str| {
        let finished = topic(&broker, arguments);
        assert_eq!(finished.code, code, "{}", finished.stderr);
        assert!(finished.stderr.contains(expected), "{}", finished.stderr);
    };
    let name = "shop.order.created";
    // The broker's own words come through.
    refused(&["create", name, "--config", "retention.ms=soon"], 1, "topic 'shop.order.created' cannot be created: ");
    refused(&["create", name, "--config", "retention.ms=soon"], 1, "soon");
    refused(&["create", name, "--throughput", "1k/s"], 2, "add --record-size");
    refused(&["create", name, "--throughput", "fast"], 2, "'fast' is not a rate above 0 such as 20MB/s");
    let twice = "error: 'retention.ms' is set twice: by --retention and by --config\nhelp: keep one of the two\n";
    refused(&["create", name, "--retention", "1d", "--config", "retention.ms=5"], 2, twice);
}

#[test]
fn settings_are_altered_and_reset() {
    let folder = tempfile::tempdir().unwrap();
    let broker = TestBroker::start(folder.path());
    let configs = || topic(&broker, &["describe", "a.b.c", "--section", "configs", "--output", "csv"]).stdout;
    let header = "name,value,source\n";
    assert_eq!(topic(&broker, &["create", "a.b.c", "--retention", "1d", "--segment-size", "1MB"]).code, 0);
    let altered = topic(&broker, &["alter", "a.b.c", "--retention", "2d", "--partitions", "3"]);
    assert_eq!(altered.code, 0, "{}", altered.stderr);
    assert!(altered.stderr.contains("altered the topic: partitions=3 retention.ms=172800000"), "{}", altered.stderr);
    let both = format!("{header}retention.ms,172800000,topic\nsegment.bytes,1000000,topic\n");
    assert_eq!(configs(), both);
    assert_eq!(topic(&broker, &["alter", "a.b.c", "--retention", "5d", "--dry-run"]).code, 0);
    assert_eq!(configs(), both, "a dry run changes nothing");
    let refused = topic(&broker, &["alter", "a.b.c", "--config", "retention.ms=soon"]);
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    assert!(refused.stderr.starts_with("error: topic 'a.b.c' cannot be altered: "), "{}", refused.stderr);
    assert_eq!(configs(), both, "a refused change changes nothing");
    assert_eq!(topic(&broker, &["alter", "a.b.c", "--reset", "retention.ms"]).code, 0);
    assert_eq!(configs(), format!("{header}segment.bytes,1000000,topic\n"));
    let fewer = topic(&broker, &["alter", "a.b.c", "--partitions", "2"]);
    let error = "error: topic 'a.b.c' has 3 partitions, which cannot become 2\nhelp: partitions can only be added; for \
                 fewer, copy the records to a new topic\n";
    assert_eq!((fewer.code, fewer.stderr.as_str()), (1, error));
    let nothing = topic(&broker, &["alter", "a.b.c"]);
    assert_eq!(nothing.code, 2, "{}", nothing.stderr);
}

#[test]
fn a_description_has_sizes_times_and_readers() {
    let folder = tempfile::tempdir().unwrap();
    let broker = TestBroker::start(folder.path());
    let at = ["--bootstrap", broker.address.as_str()];
    succeed(folder.path(), &["topic", "create", "a.b.c", "--partitions", "2", at[0], at[1]]);
    let lines = r#"{"value":"1","partition":0,"timestamp":"2026-01-02T03:04:05.678Z"}
{"value":"2","partition":0,"timestamp":1000}
{"value":"3","partition":0,"timestamp":2000}
"#;
    let sent = run_with_input(folder.path(), &["topic", "produce", "a.b.c", "-f", "json", at[0], at[1]], lines);
    assert_eq!(sent.code, 0, "{}", sent.stderr);
    succeed(folder.path(), &["topic", "consume", "a.b.c", "--group", "readers", "-c", "1", at[0], at[1]]);
    let described: Value =
        serde_json::from_str(&topic(&broker, &["describe", "a.b.c", "--output", "json"]).stdout).unwrap();
    let totals = &described["totals"];
    assert_eq!((totals["records"].as_i64(), totals["newest"].as_str()), (Some(3), Some("2026-01-02T03:04:05.678Z")));
    assert!(totals["size_bytes"].as_i64().is_some_and(|size| size > 0), "{described}");
    assert_eq!(described["partitions"][1]["newest"], Value::Null, "{described}");
    let group = &described["groups"][0];
    assert_eq!((group["group"].as_str(), group["lag"].as_i64()), (Some("readers"), Some(2)), "{described}");
    assert_eq!(group["state"], "Empty", "{described}");
    assert_eq!(
        topic(&broker, &["describe", "a.b.c", "--section", "groups", "--output", "csv"]).stdout,
        "group,state,members,partition,committed_offset,lag,client\nreaders,Empty,0,0,1,2,\n"
    );
    let report = topic(&broker, &["describe", "a.b.c"]).stdout;
    assert!(report.starts_with("topic a.b.c: 2 partitions, 3 records, "), "{report}");
    assert!(report.contains("newest record 2026-01-02T03:04:05.678Z\n"), "{report}");
    assert!(report.contains("\nsettings: the cluster's defaults\n\ngroups:\n"), "{report}");
}
