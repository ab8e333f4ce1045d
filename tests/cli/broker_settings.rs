//! `highwater broker --config`: flag over environment over file over default, and mistakes with their line.

use std::fs;
use std::path::Path;

use crate::program::{Running, highwater, run, succeed};

/// The line in which a broker says where it listens and keeps its data.
fn listening(folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> (String, Running) {
    let mut command = highwater(folder, &[&["broker"], arguments].concat());
    command.envs(environment.iter().copied());
    let mut broker = Running::spawn(command);
    (broker.wait_for("listening address="), broker)
}

#[test]
fn a_flag_wins_over_the_environment_and_that_over_the_file() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("etc")).unwrap();
    fs::write(
        folder.path().join("etc/broker.yml"),
        "listen: 127.0.0.1:0\ndata_dir: kept\nfsync: 50ms\ndefault_partitions: 3\n",
    )
    .unwrap();
    let config = ["--config", "etc/broker.yml"];
    let check = |arguments: &[&str], environment: &[(&str, &str)], expected: &[&str]| {
        let (line, broker) = listening(folder.path(), &[&config[..], arguments].concat(), environment);
        for part in expected {
            assert!(line.contains(part), "{line}");
        }
        assert_eq!(broker.interrupt().code, 0);
    };
    check(&[], &[], &["data_dir=etc/kept", "fsync=50ms"]);
    check(&[], &[("HIGHWATER_DATA", "other"), ("HIGHWATER_BROKER_FSYNC", "os")], &["data_dir=other", "fsync=os"]);
    check(
        &["--data", "third", "--fsync", "always"],
        &[("HIGHWATER_DATA", "other")],
        &["data_dir=third", "fsync=always"],
    );
    let (_, mut broker) = listening(folder.path(), &[], &[("HIGHWATER_BROKER_CONFIG", "etc/broker.yml")]);
    let line = broker.wait_for("bootstrap address ");
    let address = line.split("bootstrap address ").nth(1).unwrap().split(';').next().unwrap();
    crate::program::run_with_input(folder.path(), &["topic", "list", "-b", address], "");
    let metadata = std::process::Command::new("sh")
        .args(["-c", &format!("echo x | kcat -P -q -b {address} -t made.by.kcat")])
        .status()
        .unwrap();
    assert!(metadata.success());
    let listed = succeed(folder.path(), &["topic", "list", "-b", address, "--output", "csv"]);
    assert_eq!(listed, "topic,partitions,records\nmade.by.kcat,3,1\n");
}

#[test]
fn mistakes_in_the_file_are_shown_in_their_line() {
    let folder = tempfile::tempdir().unwrap();
    let check = |text: &str, code: i32, stderr: &str| {
        fs::write(folder.path().join("b.yml"), text).unwrap();
        let finished = run(folder.path(), &["broker", "--config", "b.yml"]);
        assert_eq!((finished.code, finished.stderr.as_str()), (code, stderr), "{text}");
    };
    check(
        "fsync: os\nretention_m: 5\n",
        3,
        "error: unknown key 'retention_m'\n  --> b.yml:2:1\n   |\n 2 | retention_m: 5\n   | ^^^^^^^^^^^\nhelp: did you mean \
         'retention_ms'?\n",
    );
    check(
        "max_connections: 0\n",
        3,
        "error: broker setting `max_connections` is 0, expected at least 1\n  --> b.yml:1:18\n   |\n 1 | max_connections: \
         0\n   |                  ^\n",
    );
    let missing = run(folder.path(), &["broker", "--config", "nowhere.yml"]);
    assert_eq!(
        (missing.code, missing.stderr.as_str()),
        (
            2,
            "error: there is no file nowhere.yml\nhelp: --config names a YAML file of broker settings; without it the \
             defaults are used\n"
        )
    );
}
