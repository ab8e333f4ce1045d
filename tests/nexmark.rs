//! The queries of Nexmark on some seeded events, against answers that another engine gave.
//!
//! `benches/nexmark/check.py --golden` made the files of `tests/nexmark` with DuckDB, from the same events. The first line
//! of a file is the query of a result, the others are its rows, sorted.

use std::collections::BTreeSet;
use std::fs;

use crate::program::{root, succeed};

/// As in `check.py`: the answers are those of these events.
const EVENTS: [&str; 14] = [
    "datagen",
    "nexmark",
    "--padding",
    "--seed",
    "7",
    "--start",
    "2024-01-01T07:59:00Z",
    "--event-rate",
    "60",
    "--late-share",
    "0",
    "--count",
    "6000",
    "--output",
];

/// What has no answer that could be kept: q12 counts by the clock.
const WITHOUT_ANSWER: [&str; 1] = ["q12"];

#[test]
fn the_queries_give_what_another_engine_gives() {
    let folder = tempfile::tempdir().unwrap();
    let nexmark = root().join("benches/nexmark");
    fs::create_dir(folder.path().join("events")).unwrap();
    succeed(folder.path(), &[&EVENTS[..], &["events/part.json"]].concat());
    let side_input: Vec<String> = (0..10_000).map(|key| format!("{key},value {key}\n")).collect();
    fs::write(folder.path().join("side_input.csv"), side_input.concat()).unwrap();

    let names = (0..=22).map(|number| format!("q{number}"));
    let names: Vec<String> = names.filter(|name| !WITHOUT_ANSWER.contains(&name.as_str())).collect();
    let mut program = fs::read_to_string(nexmark.join("tables.sql")).unwrap();
    for name in &names {
        program += &fs::read_to_string(nexmark.join(format!("queries/{name}.sql"))).unwrap();
    }
    fs::write(folder.path().join("nexmark.sql"), program).unwrap();
    let run = ["run", "nexmark.sql", "--storage", "data", "--trigger", "available-now"];
    let parameters = ["--param", "source=USING json OPTIONS (path = 'events')", "--param", "side_input=side_input.csv"];
    succeed(folder.path(), &[&run[..], &parameters[..]].concat());

    for name in &names {
        let golden = fs::read_to_string(root().join(format!("tests/nexmark/{name}.golden"))).unwrap();
        let (query, expected) = golden.split_once('\n').unwrap();
        let expected: Vec<&str> = expected.lines().collect();
        assert!(!expected.is_empty(), "{name} has rows to compare");
        let rows = succeed(folder.path(), &["sql", query, "--storage", "data", "--output", "json"]);
        let mut rows: Vec<&str> = rows.lines().collect();
        rows.sort_unstable();
        let (found, wanted): (BTreeSet<_>, BTreeSet<_>) = (rows.iter().collect(), expected.iter().collect());
        let (more, missing): (Vec<_>, Vec<_>) =
            (found.difference(&wanted).take(3).collect(), wanted.difference(&found).take(3).collect());
        assert!(rows == expected, "{name}: {} rows, not {}; {more:?}, not {missing:?}", rows.len(), expected.len());
    }
}
