//! `highwater datagen`.

use serde_json::Value;

use crate::program::{run, succeed};

const START: [&str; 2] = ["--start", "2024-01-01T00:00:00Z"];

#[test]
fn the_same_seed_gives_the_same_lines() {
    let folder = tempfile::tempdir().unwrap();
    for kind in ["payments", "clicks", "sensors", "events"] {
        let arguments = ["datagen", kind, "--count", "100", "--seed", "7", START[0], START[1]];
        let lines = succeed(folder.path(), &arguments);
        assert_eq!(lines.lines().count(), 100);
        assert_eq!(lines, succeed(folder.path(), &arguments), "{kind}");
        for line in lines.lines() {
            let event: Value = serde_json::from_str(line).unwrap();
            assert!(event["ts"].as_str().unwrap().starts_with("202"), "{line}");
        }
    }
}

#[test]
fn parts_of_nexmark_are_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    let part = |more: &[&str]| {
        let arguments = ["datagen", "nexmark", "--padding", "--seed", "7", START[0], START[1]];
        succeed(folder.path(), &[&arguments, more].concat())
    };
    let whole = part(&["--count", "200"]);
    assert_eq!(whole, part(&["--count", "120"]) + &part(&["--skip", "120", "--count", "80"]));
    let kinds = ["person", "auction", "bid"].map(|kind| whole.matches(&format!("\"{kind}\":{{")).count());
    assert_eq!(kinds, [4, 12, 184]);
}

#[test]
fn lines_go_to_a_file_and_a_duration_ends_them() {
    let folder = tempfile::tempdir().unwrap();
    succeed(folder.path(), &["datagen", "events", "--rate", "200", "--duration", "500ms", "--output", "events.json"]);
    let lines = std::fs::read_to_string(folder.path().join("events.json")).unwrap().lines().count();
    assert!((50..=110).contains(&lines), "{lines} lines in half a second at 200 a second");
}

#[test]
fn stdout_that_closes_early_is_no_error() {
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;
    let folder = tempfile::tempdir().unwrap();
    let mut child = crate::program::highwater(folder.path(), &["datagen", "events"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let first = BufReader::new(child.stdout.take().unwrap()).lines().next().unwrap().unwrap();
    assert!(first.starts_with('{'), "{first}");
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn wrong_numbers_are_refused_by_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    for (option, value) in [("--rate", "0"), ("--late-share", "2"), ("--disorder", "soon"), ("--keys", "0")] {
        let finished = run(folder.path(), &["datagen", "events", option, value]);
        assert_eq!(finished.code, 2, "{option} {value}: {}", finished.stderr);
        assert!(finished.stderr.contains(value), "{}", finished.stderr);
    }
}
