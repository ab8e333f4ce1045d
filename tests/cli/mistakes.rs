//! Every mistake says what was found, what was expected and what to do; word for word.

use crate::program::run;

/// Runs `arguments` in an empty folder and compares exit code and stderr.
fn check(arguments: &[&str], code: i32, stderr: &str) {
    let folder = tempfile::tempdir().unwrap();
    let finished = run(folder.path(), arguments);
    assert_eq!((finished.code, finished.stderr.as_str()), (code, stderr), "{arguments:?}");
    assert_eq!(finished.stdout, "", "errors are not data");
}

#[test]
fn an_unreachable_broker() {
    check(
        &["topic", "list", "--bootstrap", "127.0.0.1:1"],
        1,
        "error: no Kafka broker answers at 127.0.0.1:1: Connection refused\nhelp: start one with 'highwater broker \
         --listen 127.0.0.1:1', or name another with --bootstrap\n",
    );
}

#[test]
fn a_client_property_that_does_not_exist() {
    check(
        &["topic", "list", "-X", "fetch.speed=fast"],
        2,
        "error: Kafka client property fetch.speed=fast is refused: No such configuration property: \
         \"fetch.speed\"\nhelp: see librdkafka's CONFIGURATION.md for the properties there are\n",
    );
}

#[test]
fn a_log_filter_that_is_none() {
    check(
        &["--log", "highwater=loud", "completions", "bash"],
        2,
        "error: log filter 'highwater=loud' is not understood: error parsing level filter: expected one of \"off\", \"error\", \"warn\", \"info\", \"debug\", \"trace\", or a number 0-5\nhelp: use error, warn, info, \
         debug, trace, or a list such as warn,highwater_broker=debug\n",
    );
}

#[test]
fn a_verb_that_is_nearly_right() {
    let folder = tempfile::tempdir().unwrap();
    let finished = run(folder.path(), &["topik", "list"]);
    assert_eq!(finished.code, 2);
    assert!(finished.stderr.contains("'topic'"), "{}", finished.stderr);
}
