//! `highwater doctor` at the embedded broker: a single node, which it says, and nothing else that fails.

use serde_json::Value;

use crate::broker::TestBroker;
use crate::program::{run, succeed};

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
