//! The doctor at a cluster that is well, at one with mistakes in it, whose commands it gives are run, and at one that has
//! lost a broker.

use std::path::Path;

use serde_json::Value;

use super::Cluster;
use crate::program::{run, succeed};

/// What the doctor says, and its exit code. The cluster of the tests has few threads on purpose, and its leaders are where
/// the tests before have left them.
fn doctor(folder: &Path, cluster: &Cluster, more: &[&str]) -> (i32, Value) {
    let arguments = ["doctor", "--kafka", &cluster.address, "--output", "json", "--measure", "0s"];
    let more = [more, &["--skip", "threads", "--skip", "leader-balance"]].concat();
    let more = more.as_slice();
    let finished = run(folder, &[&arguments, more].concat());
    let report = serde_json::from_str(&finished.stdout).unwrap_or_else(|_| panic!("{}", finished.stderr));
    (finished.code, report)
}

/// The rules that are broken, each with what it found of one object.
fn broken<'r>(report: &'r Value, object: &str) -> Vec<(&'r str, &'r Value)> {
    let rules = report["rules"].as_array().unwrap().iter();
    let of = |rule: &'r Value| {
        let finding = rule["findings"].as_array()?.iter().find(|finding| finding["object"] == object)?;
        Some((rule["rule"].as_str()?, finding))
    };
    rules.filter_map(of).collect()
}

#[test]
#[ignore = "needs a Kafka cluster: make kafka-test"]
fn what_the_doctor_finds_its_commands_mend() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let cluster = Cluster::take(folder);
    cluster.create(folder, "shop.order.created", "3");
    let (code, report) = doctor(folder, &cluster, &["--strict"]);
    assert_eq!(code, 0, "{report}");
    assert_eq!(report["unanswered"].as_array().map(Vec::len), Some(0), "{report}");
    let unknown = report["rules"].as_array().unwrap().iter().filter(|rule| rule["outcome"] == "unknown").count();
    assert_eq!(unknown, 0, "{report}");
    let create = [
        &["topic", "create", "Shop.changelog", "--lint", "off", "--bootstrap", &cluster.address, "--partitions", "2"][..],
        &["--replication", "3", "--config", "min.insync.replicas=3", "--config", "cleanup.policy=delete"],
        &["--config", "compression.type=gzip", "--config", "segment.bytes=1048576", "--config", "retention.ms=60000"],
    ];
    succeed(folder, &create.concat());
    let (code, report) = doctor(folder, &cluster, &[]);
    assert_eq!(code, 4, "{report}");
    let found = broken(&report, "topic Shop.changelog");
    let rules: Vec<&str> = found.iter().map(|(rule, _)| *rule).collect();
    assert_eq!(rules, ["min-insync-trap", "retention", "segment-size", "compaction", "compression", "topic-names"]);
    for (_, finding) in found.iter().filter(|(_, finding)| finding["command"].is_string()) {
        let command: Vec<&str> = finding["command"].as_str().unwrap().split(' ').collect();
        assert_eq!(command[0], "highwater");
        succeed(folder, &command[1..]);
    }
    let (code, report) = doctor(folder, &cluster, &[]);
    let left: Vec<&str> = broken(&report, "topic Shop.changelog").iter().map(|(rule, _)| *rule).collect();
    assert_eq!((code, left.as_slice()), (0, ["topic-names"].as_slice()), "{report}");
    let (_, report) = doctor(folder, &cluster, &["--topic", "shop.*", "--lint", "off"]);
    assert_eq!(report["looked_at"]["topics"], 1, "{report}");
}

#[test]
#[ignore = "needs a Kafka cluster: make kafka-test"]
fn the_doctor_sees_that_a_broker_is_gone_and_who_is_behind() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let cluster = Cluster::take(folder);
    // One partition: a group says nothing of those it has not read.
    cluster.create(folder, "shop.order.created", "1");
    std::fs::write(folder.join("lines"), "a\nb\nc\n").unwrap();
    let bootstrap = ["--bootstrap", &cluster.address];
    succeed(folder, &[&["topic", "produce", "shop.order.created", "lines"], &bootstrap[..]].concat());
    let consume = ["topic", "consume", "shop.order.created", "--group", "readers", "-c", "1"];
    succeed(folder, &[&consume, &bootstrap[..]].concat());
    let (_, report) = doctor(folder, &cluster, &["--max-lag", "1"]);
    let behind = broken(&report, "group readers of topic shop.order.created");
    assert_eq!(behind.len(), 1, "{report}");
    assert!(behind[0].1["found"].as_str().unwrap().starts_with("2 records behind, the oldest "), "{report}");
    cluster.script("kill", 3);
    let seen = crate::program::eventually("copies that are missing", || {
        let (code, report) = doctor(folder, &cluster, &["--topic", "shop.*"]);
        let rules: Vec<String> =
            broken(&report, "topic shop.order.created").iter().map(|(rule, _)| (*rule).to_owned()).collect();
        (code == 4 && rules == ["under-replicated"]).then_some(report)
    });
    assert_eq!(broken(&seen, "topic shop.order.created")[0].1["expected"], "all copies up to date");
    assert_eq!(broken(&seen, "cluster").len(), 1, "{seen}");
    cluster.restart(folder, 3, &["shop.order.created"]);
}
