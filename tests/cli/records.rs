//! `highwater topic produce | consume`: every form of a record goes in and comes out, also between us and kcat.

use std::io::{BufRead, BufReader};
use std::process::Command;

use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use serde_json::Value;

use crate::broker::TestBroker;
use crate::program::{Finished, PATIENCE, eventually, highwater, run, run_with_input, succeed};

/// A broker with its folder.
struct Topics {
    folder: tempfile::TempDir,
    broker: TestBroker,
}

impl Topics {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let broker = TestBroker::start(folder.path());
        Self { folder, broker }
    }

    fn arguments<'a>(&'a self, verb: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        ["topic", verb, "--bootstrap", &self.broker.address, "t"].iter().chain(more).copied().collect()
    }

    fn produce(&self, more: &[&str], input: &str) -> Finished {
        run_with_input(self.folder.path(), &self.arguments("produce", more), input)
    }

    fn send(&self, more: &[&str], input: &str) {
        let sent = self.produce(more, input);
        assert_eq!(sent.code, 0, "{more:?}: {}", sent.stderr);
    }

    /// What is read to the end.
    fn consume(&self, more: &[&str]) -> String {
        let arguments = self.arguments("consume", more);
        succeed(self.folder.path(), &[&arguments[..], &["-e"]].concat())
    }

    /// Runs kcat with `script`, a line of the shell in which `$kcat` is kcat and this broker.
    fn kcat(&self, script: &str) -> String {
        let kcat = format!("kcat -b {}", self.broker.address);
        let output =
            Command::new("sh").args(["-c", script]).env("kcat", kcat).env_remove("LD_LIBRARY_PATH").output().unwrap();
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

#[test]
fn keys_nulls_headers_and_partitions() {
    let topics = Topics::start();
    topics.send(
        &["--partitions", "2", "-p", "1", "-K", r"\t", "-Z=NONE", "-H", "a=1", "-H", "b=2"],
        "k\tv\nk\tNONE\nNONE\tx\n",
    );
    assert_eq!(
        topics.consume(&["-f", r"%p %k=%s %K %S %h\n"]),
        "1 k=v 1 1 a=1,b=2\n1 k= 1 -1 a=1,b=2\n1 =x -1 1 a=1,b=2\n"
    );
    assert_eq!(topics.consume(&["-K", ":", "-Z"]), "k:v\nk:NULL\nNULL:x\n");
    assert_eq!(topics.consume(&["-D", ";", "-Z=-"]), "v;-;x;");
    assert_eq!(topics.consume(&["-p", "0"]), "");
    topics.send(&["-D", ";", "-k", "key", "-p", "0", "-Z"], "one\nline;;");
    assert_eq!(topics.consume(&["-p", "0", "-f", r"%k=%s %S|"]), "key=one\nline 8|key= -1|");
}

#[test]
fn what_is_read_as_json_can_be_sent_again() {
    let topics = Topics::start();
    let lines = r#"{"key":"a","value":{"n":1.10, "big":12345678901234567890123},"headers":{"h":"1","none":null},"partition":2,"timestamp":"2026-01-01T00:00:00.000Z"}
{"key_base64":"AP8=","value_base64":"/w==","partition":0,"timestamp":5}

{"key":"b","value":null,"partition":1,"timestamp":6}
"#;
    topics.send(&["-f", "json", "--partitions", "3"], lines);
    let sorted = |topic: &str| {
        let read =
            run(topics.folder.path(), &["topic", "consume", topic, "-b", &topics.broker.address, "-J", "-e"]).stdout;
        let mut lines: Vec<String> =
            read.lines().map(|line| line.replace(&format!("\"topic\":\"{topic}\""), "")).collect();
        lines.sort();
        lines
    };
    let read = sorted("t");
    assert_eq!(
        read,
        [
            r#"{,"partition":0,"offset":0,"timestamp":"1970-01-01T00:00:00.005Z","headers":[],"key_base64":"AP8=","value_base64":"/w=="}"#,
            r#"{,"partition":1,"offset":0,"timestamp":"1970-01-01T00:00:00.006Z","headers":[],"key":"b","value":null}"#,
            r#"{,"partition":2,"offset":0,"timestamp":"2026-01-01T00:00:00.000Z","headers":[{"key":"h","value":"1"},{"key":"none","value":null}],"key":"a","value":"{\"n\":1.10, \"big\":12345678901234567890123}"}"#,
        ]
    );
    let copied = topics.consume(&["-J"]);
    let copy = ["topic", "produce", "copy", "-b", &topics.broker.address, "-f", "json", "--partitions", "3"];
    assert_eq!(run_with_input(topics.folder.path(), &copy, &copied).code, 0);
    assert_eq!(sorted("copy"), read);
}

#[test]
fn bytes_are_written_as_digits() {
    let topics = Topics::start();
    topics.send(&["-K", ":", "--key-encoding", "hex", "--value-encoding", "base64"], "00ff:AAEC\n");
    assert_eq!(topics.consume(&["-K", " ", "--key-encoding", "base64", "--value-encoding", "hex"]), "AP8= 000102\n");
    let json: Value = serde_json::from_str(&topics.consume(&["-J", "--value-encoding", "hex"])).unwrap();
    assert_eq!((json["key_base64"].as_str(), json["value"].as_str()), (Some("AP8="), Some("000102")));
    let wrong = topics.produce(&["--value-encoding", "hex"], "00\nxyz\n");
    assert_eq!(wrong.code, 1);
    let error = "error: record 2 of -: value 'xyz' is not an even number of hexadecimal digits\n";
    assert!(wrong.stderr.ends_with(error), "{}", wrong.stderr);
    assert_eq!(topics.consume(&["-o", "1", "--value-encoding", "hex"]), "00\n", "what came before is sent");
}

#[test]
fn offsets_and_times_say_where_to_begin_and_end() {
    let topics = Topics::start();
    let lines: String = (0..10)
        .map(|n| format!("{{\"value\":\"{n}\",\"timestamp\":{}}}\n", 1_767_225_600_000_i64 + n * 1000))
        .collect();
    topics.send(&["-f", "json"], &lines);
    let read = |more: &[&str]| topics.consume(more).replace('\n', "");
    assert_eq!(read(&["-o", "beginning", "-c", "3"]), "012");
    assert_eq!(read(&["-o", "7"]), "789");
    assert_eq!(read(&["-o", "-2"]), "89");
    assert_eq!(read(&["-o", "-99"]), "0123456789");
    assert_eq!(read(&["-o", "end"]), "");
    assert_eq!(read(&["-o", "s@1767225607000"]), "789");
    assert_eq!(read(&["-o", "s@2026-01-01T00:00:02Z", "-o", "e@2026-01-01T00:00:05Z"]), "234");
    assert_eq!(read(&["-o", "s@2026-01-02"]), "");
    // Without -e: the time to end is past, so that there is nothing to wait for.
    let ended = run(topics.folder.path(), &topics.arguments("consume", &["-o", "8", "-o", "e@2026-02-01"]));
    assert_eq!((ended.code, ended.stdout.as_str()), (0, "8\n9\n"), "{}", ended.stderr);
}

#[test]
fn records_of_aborted_and_open_transactions_are_hidden() {
    let topics = Topics::start();
    topics.send(&[], "before\n");
    let mut config = rdkafka::ClientConfig::new();
    config.set("bootstrap.servers", &topics.broker.address).set("transactional.id", "id");
    let producer: ThreadedProducer<DefaultProducerContext> = config.create().unwrap();
    let send = |value: &str| {
        producer.begin_transaction().unwrap();
        assert!(producer.send(BaseRecord::<(), str>::to("t").payload(value)).is_ok());
        producer.flush(PATIENCE).unwrap();
    };
    producer.init_transactions(PATIENCE).unwrap();
    send("aborted");
    producer.abort_transaction(PATIENCE).unwrap();
    send("committed");
    producer.commit_transaction(PATIENCE).unwrap();
    send("open");
    assert_eq!(topics.consume(&[]), "before\ncommitted\n");
    let everything = topics.consume(&["--isolation", "read_uncommitted"]);
    assert_eq!(everything, "before\naborted\ncommitted\nopen\n");
}

#[test]
fn stored_offsets_are_those_of_the_group() {
    let topics = Topics::start();
    topics.send(&[], "1\n2\n3\n");
    assert_eq!(topics.consume(&["--group", "g", "-o", "end"]), "", "a new group begins where it is told to");
    topics.send(&[], "4\n");
    assert_eq!(topics.consume(&["--group", "other", "-c", "3"]), "1\n2\n3\n");
    assert_eq!(topics.consume(&["--group", "other", "-o", "stored"]), "4\n");
}

#[test]
fn impossible_positions_are_refused() {
    let topics = Topics::start();
    topics.send(&["--partitions", "2", "-p", "0"], "a\n");
    let refused = |more: &[&str], expected: &str| {
        let finished = run(topics.folder.path(), &topics.arguments("consume", more));
        assert_eq!((finished.code, finished.stderr.as_str()), (2, expected), "{more:?}");
    };
    refused(&["-p", "2"], "error: topic 't' has no partition 2, expected 0 to 1\n");
    refused(
        &["-o", "5", "-p", "0"],
        "error: partition 0 of topic 't' has no offset 5, expected 0 to 1\nhelp: use -o end for what comes, or -p to choose a \
         partition\n",
    );
    refused(&["-o", "stored"], "error: -o stored needs a group that has stored offsets\nhelp: add --group NAME\n");
    refused(
        &["-o", "5", "--group", "g"],
        "error: with --group, -o is beginning, end or stored\nhelp: leave --group out to read from anywhere without moving \
         the group\n",
    );
    refused(&["-o", "1", "-o", "2"], "error: -o says twice where to begin\nhelp: keep one of the two\n");
}

#[test]
fn refused_records_are_counted_and_the_others_sent() {
    let topics = Topics::start();
    let input = format!("a\n{}\nb\n", "x".repeat(3000));
    let finished = topics.produce(&["-X", "message.max.bytes=2000"], &input);
    assert_eq!(finished.code, 1);
    let error = "error: 1 record to topic 't' was refused, 2 acknowledged: MessageSizeTooLarge (Broker: Message size too \
                 large)\nhelp: send smaller records, or raise message.max.bytes here (-X) and max.message.bytes of the \
                 topic\n";
    assert!(finished.stderr.ends_with(error), "{}", finished.stderr);
    assert_eq!(topics.consume(&[]), "a\nb\n");
    let nowhere = topics.produce(&["-p", "7"], "c\n");
    assert_eq!(nowhere.code, 1);
    assert!(
        nowhere.stderr.contains("1 record to topic 't' was refused, 0 acknowledged: UnknownPartition"),
        "{}",
        nowhere.stderr
    );
}

#[test]
fn ctrl_c_finishes_what_was_read() {
    let topics = Topics::start();
    let mut producer = highwater(topics.folder.path(), &topics.arguments("produce", &[]));
    // A pipe that stays open, as a terminal does.
    producer.stdin(std::process::Stdio::piped());
    let mut child = producer.stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::io::Write::write_all(&mut stdin, b"a\nb\n").unwrap();
    eventually("the records are in the topic", || {
        let listed =
            run(topics.folder.path(), &["topic", "list", "--bootstrap", &topics.broker.address, "--output", "csv"]);
        listed.stdout.contains("t,1,2\n").then_some(())
    });
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let ended: Finished = child.wait_with_output().unwrap().into();
    drop(stdin);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(ended.stderr.contains("all records are acknowledged topic=\"t\" records=2"), "{}", ended.stderr);
    let mut consumer = highwater(topics.folder.path(), &topics.arguments("consume", &[]));
    let mut child = consumer.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!((lines.next().unwrap().unwrap(), lines.next().unwrap().unwrap()), ("a".to_owned(), "b".to_owned()));
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_reader_that_goes_away_is_no_error_and_moves_no_group() {
    let topics = Topics::start();
    let lines: String = (0..100_000).map(|n| format!("{n}\n")).collect();
    topics.send(&[], &lines);
    let group = topics.arguments("consume", &["--group", "g", "-e"]).join(" ");
    let script = format!("{{ {} {group}; echo $? >&2; }} | head -1", crate::program::binary().display());
    let piped = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert_eq!(
        (String::from_utf8_lossy(&piped.stdout).as_ref(), String::from_utf8_lossy(&piped.stderr).as_ref()),
        ("0\n", "0\n")
    );
    // What could not be written is read again.
    let rest = topics.consume(&["--group", "g"]);
    let first: u64 = rest.lines().next().unwrap().parse().unwrap();
    assert!(first < 100_000 && rest.ends_with("\n99999\n"), "{first}");
    assert_eq!(rest.lines().count() as u64, 100_000 - first);
}

#[test]
fn a_rate_in_bytes_or_records_is_kept() {
    let topics = Topics::start();
    let lines = "0123456789\n".repeat(30);
    for rate in ["100/s", "1kB/s"] {
        let began = std::time::Instant::now();
        topics.send(&["--rate", rate], &lines);
        assert!(began.elapsed() >= std::time::Duration::from_millis(250), "{rate}: {:?}", began.elapsed());
    }
    topics.send(&["--count", "2"], &lines);
    assert_eq!(topics.consume(&["--rate", "1M/s"]).lines().count(), 62);
}

#[test]
fn kcat_and_we_read_each_other() {
    let topics = Topics::start();
    topics.send(&["-K", ":", "-Z", "-H", "from=us"], "a:1\nb:\n");
    topics.kcat("printf 'c|3\\nd|\\n' | $kcat -P -t t -K '|' -Z -H from=kcat -H none -z lz4");
    let format = r"%t %p %o %k %K %s %S %h\n";
    let ours = topics.consume(&["-f", format]);
    assert_eq!(
        ours,
        "t 0 0 a 1 1 1 from=us\nt 0 1 b 1  -1 from=us\nt 0 2 c 1 3 1 from=kcat,none=NULL\nt 0 3 d 1  -1 from=kcat,none=NULL\n"
    );
    assert_eq!(topics.kcat(&format!("$kcat -C -t t -e -q -f '{format}'")), ours);
    assert_eq!(topics.kcat("$kcat -C -t t -e -q -K : -Z"), topics.consume(&["-K", ":", "-Z"]));
    for offset in ["-2", "1", "end", "s@0", "beginning"] {
        assert_eq!(
            topics.kcat(&format!("$kcat -C -t t -e -q -o {offset}")),
            topics.consume(&["-o", offset]),
            "{offset}"
        );
    }
    // kcat's own JSON can be sent again.
    let json = topics.kcat("$kcat -C -t t -e -q -J");
    let copy = ["topic", "produce", "copy", "-b", &topics.broker.address, "-f", "json"];
    let sent = run_with_input(topics.folder.path(), &copy, &json);
    assert_eq!(sent.code, 0, "{}", sent.stderr);
    let copied =
        run(topics.folder.path(), &["topic", "consume", "copy", "-b", &topics.broker.address, "-e", "-f", format]);
    assert_eq!(copied.stdout, ours.replace("t 0", "copy 0"));
}
