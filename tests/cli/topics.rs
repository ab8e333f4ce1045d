//! `highwater broker` and `highwater topic`, against each other.

use serde_json::Value;

use crate::broker::TestBroker;
use crate::program::{run, run_with_input, succeed};

#[test]
fn lines_go_in_and_come_out() {
    let folder = tempfile::tempdir().unwrap();
    let broker = TestBroker::start(folder.path());
    let at = ["--bootstrap", broker.address.as_str()];
    let produce = ["topic", "produce", "t", at[0], at[1], "--key-separator", ":", "--header", "source=test"];
    let sent = run_with_input(folder.path(), &produce, "a:1\nb:2\nno key\nc:3:4\n");
    assert_eq!(sent.code, 0, "{}", sent.stderr);
    assert!(sent.stderr.contains("all records are acknowledged"), "{}", sent.stderr);

    let consume = |more: &[&str]| {
        let arguments: Vec<&str> = ["topic", "consume", "t", at[0], at[1], "-e"].iter().chain(more).copied().collect();
        succeed(folder.path(), &arguments)
    };
    assert_eq!(consume(&[]), "1\n2\nno key\n3:4\n");
    assert_eq!(consume(&["-f", r"%p %o %k=%s %K %S %h\n"]).lines().next(), Some("0 0 a=1 1 1 source=test"));
    assert_eq!(consume(&["-o", "-1"]), "3:4\n");
    assert_eq!(consume(&["-o", "2", "-c", "1"]), "no key\n");
    assert_eq!(consume(&["-o", "s@0"]).lines().count(), 4);
    let json: Value = serde_json::from_str(consume(&["-f", "json"]).lines().nth(2).unwrap()).unwrap();
    assert_eq!((json["key"].clone(), json["value"].clone()), (Value::Null, "no key".into()));
}

#[test]
fn a_group_remembers_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let broker = TestBroker::start(folder.path());
    let at = ["--bootstrap", broker.address.as_str()];
    run_with_input(folder.path(), &["topic", "produce", "t", at[0], at[1]], "1\n2\n3\n");
    let consume = ["topic", "consume", "t", at[0], at[1], "--group", "g", "-c"];
    let with_count = |count: &str| {
        let arguments: Vec<&str> = consume.iter().copied().chain([count]).collect();
        succeed(folder.path(), &arguments)
    };
    assert_eq!(with_count("2"), "1\n2\n");
    assert_eq!(with_count("1"), "3\n");
}

#[test]
fn topics_are_created_listed_described_and_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let broker = TestBroker::start(folder.path());
    let topic = |arguments: &[&str]| {
        let all: Vec<&str> =
            ["topic"].into_iter().chain(arguments.iter().copied()).chain(["--bootstrap", &broker.address]).collect();
        run(folder.path(), &all)
    };
    assert_eq!(topic(&["create", "t", "--partitions", "3", "--config", "retention.ms=60000"]).code, 0);
    assert_eq!(topic(&["create", "t", "--if-not-exists"]).code, 0);
    assert_eq!(topic(&["list", "--output", "csv"]).stdout, "topic,partitions,records\nt,3,0\n");
    let described = topic(&["describe", "t", "--output", "json"]).stdout;
    let described: Value = serde_json::from_str(&described).unwrap();
    assert_eq!(described["partitions"].as_array().map(Vec::len), Some(3), "{described}");
    assert_eq!(described["configs"][0]["name"], "retention.ms", "{described}");
    assert_eq!(topic(&["delete", "t"]).code, 0);
    assert_eq!(topic(&["list", "--output", "csv"]).stdout, "topic,partitions,records\n");
}

#[test]
fn mistakes_name_the_topic_and_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let broker = TestBroker::start(folder.path());
    let address = &broker.address;
    let check = |arguments: &[&str], expected: String| {
        let all: Vec<&str> = arguments.iter().copied().chain(["--bootstrap", address]).collect();
        let finished = run(folder.path(), &all);
        assert_eq!((finished.code, finished.stderr), (1, expected), "{all:?}");
    };
    let missing = format!(
        "error: topic 'nothing' does not exist on {address}\nhelp: see 'highwater topic list --bootstrap {address}', or \
         create it: highwater topic create nothing --bootstrap {address}\n"
    );
    check(&["topic", "consume", "nothing"], missing.clone());
    check(&["topic", "describe", "nothing"], missing.clone());
    check(&["topic", "delete", "nothing"], missing.clone());
    check(&["topic", "alter", "nothing", "--retention", "1d"], missing.clone());
    check(&["topic", "produce", "nothing", "--no-create"], missing);
    succeed(folder.path(), &["topic", "create", "t", "--bootstrap", address]);
    let exists = format!(
        "error: topic 't' already exists on {address}\nhelp: choose another name, delete it, or add --if-not-exists\n"
    );
    check(&["topic", "create", "t"], exists);
}

#[test]
fn a_port_in_use_and_a_folder_in_use_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let broker = TestBroker::start(folder.path());
    let port = run(folder.path(), &["broker", "--listen", &broker.address, "--data", "other"]);
    assert_eq!(port.code, 1);
    let (host, number) = broker.address.rsplit_once(':').unwrap();
    let next = number.parse::<u16>().unwrap().wrapping_add(1).max(1024);
    let taken = format!(
        "error: cannot listen on {}: the address is already in use; stop the other process or choose another address \
         with `--listen` (for example `--listen {host}:{next}`, or port 0 for any free one)\n",
        broker.address
    );
    assert_eq!(port.stderr, taken);
    let data = run(folder.path(), &["broker", "--listen", "127.0.0.1:0", "--data", "broker"]);
    assert_eq!(data.code, 1);
    let locked = "error: data directory broker is in use by another broker; stop that one, or give this one a \
         directory of its own with `--data`\n";
    assert_eq!(data.stderr, locked);
    let open = run(folder.path(), &["broker", "--listen", "0.0.0.0:0", "--data", "other"]);
    assert_eq!(open.code, 2);
    assert!(open.stderr.contains("only loopback"), "{}", open.stderr);
}

#[test]
fn generated_events_fill_a_topic() {
    let folder = tempfile::tempdir().unwrap();
    let broker = TestBroker::start(folder.path());
    let at = ["--bootstrap", broker.address.as_str()];
    succeed(
        folder.path(),
        &["datagen", "payments", "--topic", "p", at[0], at[1], "--count", "5000", "--partitions", "3"],
    );
    let listed = succeed(folder.path(), &["topic", "list", at[0], at[1], "--output", "csv"]);
    assert_eq!(listed, "topic,partitions,records\np,3,5000\n");
}

#[test]
fn a_broker_keeps_its_records_through_ctrl_c_and_kill() {
    let folder = tempfile::tempdir().unwrap();
    let produce = |broker: &TestBroker, line: &str| {
        let sent = run_with_input(folder.path(), &["topic", "produce", "t", "--bootstrap", &broker.address], line);
        assert_eq!(sent.code, 0, "{}", sent.stderr);
    };
    let broker = TestBroker::start(folder.path());
    produce(&broker, "1\n2\n");
    let ended = broker.interrupt();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let broker = TestBroker::start(folder.path());
    produce(&broker, "3\n");
    broker.kill();
    let broker = TestBroker::start(folder.path());
    let lines = succeed(folder.path(), &["topic", "consume", "t", "--bootstrap", &broker.address, "-e"]);
    assert_eq!(lines, "1\n2\n3\n");
}
