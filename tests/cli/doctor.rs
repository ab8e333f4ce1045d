//! `highwater doctor` at the embedded broker: a single node, which it says, and nothing else that fails.

use serde_json::Value;

use crate::broker::TestBroker;
use crate::program::{Running, eventually, run, run_with_input, succeed};

#[test]
fn the_embedded_broker_is_looked_at_like_any_other() {
    let folder = tempfile::tempdir().unwrap();
    let broker = TestBroker::over(folder.path(), "broker");
    let address = broker.address.as_str();
    broker.produce("shop.order.created", "a\nb\nc\n");
    let consume = ["topic", "consume", "shop.order.created", "--group", "readers", "-c", "1", "-b", address];
    succeed(folder.path(), &consume);
    let doctor = |more: &[&str]| {
        let finished = run(folder.path(), &[&["doctor", "--kafka", address, "--measure", "0s"], more].concat());
        (finished.code, finished.stdout, finished.stderr)
    };
    let (code, text, stderr) = doctor(&[]);
    assert_eq!(code, 0, "{text}{stderr}");
    let head = format!("Kafka at {address}: 1 broker, ");
    assert!(text.starts_with(&head), "{text}");
    assert!(text.contains("warning  broker-count: three brokers or more\n"), "{text}");
    assert!(!text.contains("failure"), "{text}");
    assert!(!text.contains("no answer to"), "{text}");
    let (code, text, _) = doctor(&["--max-lag", "1", "--output", "json", "--skip", "broker-count"]);
    let report: Value = serde_json::from_str(&text).unwrap();
    let lag = report["rules"].as_array().unwrap().iter().find(|rule| rule["rule"] == "consumer-lag").unwrap();
    assert_eq!((code, lag["outcome"].as_str()), (0, Some("broken")), "{text}");
    let finding = &lag["findings"][0];
    assert_eq!(finding["object"], "group readers of topic shop.order.created");
    assert!(finding["found"].as_str().unwrap().starts_with("2 records behind, the oldest "), "{finding}");
    let (code, _, stderr) = doctor(&["--max-lag", "1", "--strict"]);
    assert_eq!(code, 4, "{stderr}");
    assert!(stderr.starts_with("error: Kafka at "), "{stderr}");
}

/// What a rule found of an object, if it is broken.
fn found(report: &str, rule: &str, object: &str) -> Option<String> {
    let report: Value = serde_json::from_str(report).unwrap_or_else(|_| panic!("{report}"));
    let rule = report["rules"].as_array()?.iter().find(|told| told["rule"] == rule)?;
    assert!(rule["outcome"] == "ok" || rule["outcome"] == "broken", "{rule}");
    let finding = rule["findings"].as_array()?.iter().find(|finding| finding["object"] == object)?;
    Some(finding["found"].as_str()?.to_owned())
}

/// The rules about sizes and rates, on what a broker really tells of its disk and of the ends of its logs.
#[test]
fn partitions_that_are_uneven_or_too_few_are_seen() {
    let folder = tempfile::tempdir().unwrap();
    let broker = TestBroker::over(folder.path(), "broker");
    let address = broker.address.as_str();
    let doctor = |measure: &str| {
        let arguments = ["doctor", "--kafka", address, "--parallelism", "4", "--measure", measure, "--output", "json"];
        succeed(folder.path(), &arguments)
    };
    for (topic, partitions) in [("shop.order.created", "4"), ("shop.order.paid", "1"), ("shop.order.sent", "4")] {
        succeed(folder.path(), &["topic", "create", topic, "--partitions", partitions, "--bootstrap", address]);
    }
    // 110 MB in records of 100 kB, nearly all in one partition of one topic, and the same evenly in another.
    let produce = |topic: &str, partition: usize, megabytes: usize| {
        let partition = partition.to_string();
        let arguments = ["topic", "produce", topic, "-p", &partition, "-c", "none", "--bootstrap", address];
        let sent = run_with_input(folder.path(), &arguments, &("x".repeat(100_000) + "\n").repeat(10 * megabytes));
        assert_eq!(sent.code, 0, "{}", sent.stderr);
    };
    for partition in 0..4 {
        produce("shop.order.created", partition, if partition == 2 { 95 } else { 5 });
        produce("shop.order.sent", partition, 27);
    }
    let report = doctor("0s");
    let skewed = found(&report, "partition-skew", "topic shop.order.created").unwrap_or_else(|| panic!("{report}"));
    assert!(skewed.starts_with("partition 2 has 95.") && skewed.contains(" MB of 110."), "{skewed}");
    assert_eq!(found(&report, "partition-skew", "topic shop.order.sent"), None, "{report}");
    assert_eq!(found(&report, "partition-count", "topic shop.order.paid"), None, "nobody writes: {report}");

    // One partition of which four workers could not read; how many records come is measured while they do.
    let events = ["datagen", "events", "--topic", "shop.order.paid", "--rate", "20000", "--bootstrap", address];
    let _producer = Running::start(folder.path(), &events);
    let (told, report) = eventually("a rate that is too much for one partition", || {
        let report = doctor("1s");
        Some((found(&report, "partition-count", "topic shop.order.paid")?, report))
    });
    let rate = told.strip_prefix("1 partition for ").and_then(|rest| rest.split(" records/s, ").next());
    let rate: u64 = rate.and_then(|rate| rate.replace(',', "").parse().ok()).unwrap_or_else(|| panic!("{told}"));
    assert!((5_000..60_000).contains(&rate), "{told}");
    assert_eq!(found(&report, "partition-count", "topic shop.order.created"), None, "{report}");
}

#[test]
fn mistakes_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let check = |arguments: &[&str], code: i32, expected: &str| {
        let finished = run(folder.path(), &[&["doctor"], arguments].concat());
        assert_eq!(finished.code, code, "{}", finished.stderr);
        assert!(finished.stderr.contains(expected), "'{expected}' is not in {}", finished.stderr);
    };
    check(&[], 2, "--kafka <ADDRESS>");
    check(&["--kafka", "127.0.0.1:1"], 1, "Kafka broker 127.0.0.1:1 cannot be reached: Connection refused");
    check(&["--kafka", "nowhere"], 3, "expected host:port");
    check(
        &["--kafka", "127.0.0.1:1", "--skip", "everything"],
        2,
        "there is no rule 'everything'; there are controller, ",
    );
    check(
        &["--kafka", "127.0.0.1:1", "-X", "security.protocol=TLS"],
        3,
        "'security.protocol' is 'TLS', expected PLAINTEXT",
    );
}
