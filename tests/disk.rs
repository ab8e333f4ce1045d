//! A disk that is full: the run ends and names the file, and the next one ends with every row once.
//!
//! A limit on the size of a file stands for the disk: it is refused in the same calls, for any user, without a mount.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::broker::TestBroker;
use crate::program::{Finished, highwater, run, run_with_input, succeed, with_small_files};

const SQL: &str =
    "CREATE TABLE ev (k STRING, v BIGINT, ts TIMESTAMP) USING json OPTIONS (path 'in', maxFilesPerTrigger '1');
CREATE STREAMING TABLE delta_rows USING delta AS SELECT k, v, ts FROM STREAM ev;
CREATE STREAMING TABLE parquet_rows USING parquet AS SELECT k, v, ts FROM STREAM ev;
CREATE STREAMING TABLE json_rows USING json AS SELECT k, v, ts FROM STREAM ev;
CREATE STREAMING TABLE windows USING delta AS
  SELECT window.start AS w, k, count(*) AS n, sum(v) AS s FROM STREAM ev WATERMARK ts DELAY OF INTERVAL 5 SECONDS
  GROUP BY window(ts, '2 seconds'), k;
CREATE SINK totals USING sqlite OPTIONS (path 'out.db', table 'totals', outputMode 'update');
CREATE FLOW totals_flow AS INSERT INTO totals SELECT k, count(*) AS n, sum(v) AS s FROM STREAM ev GROUP BY k;
";

/// What is compared.
const TABLES: [(&str, &str); 5] = [
    ("delta_rows", "SELECT * FROM delta_rows ORDER BY v"),
    ("parquet_rows", "SELECT * FROM parquet_rows ORDER BY v"),
    ("json_rows", "SELECT * FROM json_rows ORDER BY v"),
    ("windows", "SELECT * FROM windows ORDER BY w, k"),
    ("totals", "SELECT * FROM totals ORDER BY k"),
];

/// Limits in blocks of the shell's: nearly nothing, less than a batch of a table, less than all of a database.
const LIMITS: [u32; 3] = [8, 80, 400];

const ROWS_PER_FILE: u64 = 4000;

fn prepare(folder: &Path) {
    fs::create_dir(folder.join("in")).unwrap();
    fs::write(folder.join("q.sql"), SQL).unwrap();
    for file in 0..4 {
        let mut rows = String::new();
        for row in 0..ROWS_PER_FILE {
            let (v, second) = (file * ROWS_PER_FILE + row, file * 8 + row / 500);
            // Keys that do not compress to nothing.
            let key = v.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 3001;
            writeln!(rows, r#"{{"k":"key-{key}","v":{v},"ts":"2024-01-01T00:00:{second:02}Z"}}"#).unwrap();
        }
        fs::write(folder.join(format!("in/{file}.json")), rows).unwrap();
    }
}

const RUN: [&str; 6] = ["run", "q.sql", "--storage", "storage", "--trigger", "available-now"];

fn results(folder: &Path) -> Vec<(&'static str, String)> {
    let read = |sql: &str| succeed(folder, &["sql", sql, "--storage", "storage", "--output", "csv"]);
    TABLES.iter().map(|(table, sql)| (*table, read(sql))).collect()
}

/// Every error names a file below `folder`, what the system said, and what to do.
fn check_errors(folder: &Path, stderr: &str) {
    let lines: Vec<&str> = stderr.lines().collect();
    let errors: Vec<usize> = (0..lines.len()).filter(|at| lines[*at].starts_with("error: ")).collect();
    assert!(!errors.is_empty(), "{stderr}");
    for at in errors {
        assert!(lines[at].contains(&*folder.to_string_lossy()), "no file is named in: {}", lines[at]);
        let reason = ["File too large", "disk I/O error", "database or disk is full"];
        assert!(reason.iter().any(|reason| lines[at].contains(reason)), "no reason is in: {}", lines[at]);
        let help = lines.get(at + 1).is_some_and(|line| line.starts_with("help: ") && line.contains("start the query"));
        assert!(help, "no next step is in:\n{stderr}");
    }
}

#[test]
fn a_run_on_a_full_disk_ends_and_the_next_one_completes_it() {
    let calm = tempfile::tempdir().unwrap();
    prepare(calm.path());
    succeed(calm.path(), &RUN);
    let expected = results(calm.path());
    for limit in LIMITS {
        let folder = tempfile::tempdir().unwrap();
        prepare(folder.path());
        let full: Finished = with_small_files(&highwater(folder.path(), &RUN), limit).output().expect("sh runs").into();
        assert_eq!(full.code, 1, "limit {limit}: {}", full.stderr);
        check_errors(&folder.path().canonicalize().unwrap(), &full.stderr);
        succeed(folder.path(), &RUN);
        for ((table, found), (_, expected)) in results(folder.path()).into_iter().zip(&expected) {
            assert!(expected.lines().count() > 1000, "{table} has too few rows to mean anything");
            assert!(found == *expected, "{table} differs after a full disk at limit {limit}");
        }
    }
}

#[test]
fn a_broker_on_a_full_disk_acknowledges_nothing_it_does_not_have() {
    let folder = tempfile::tempdir().unwrap();
    let mut broker = TestBroker::with_small_files(folder.path(), 64);
    broker.produce("t", "first\n");
    let line = "x".repeat(2000) + "\n";
    let arguments =
        ["topic", "produce", "t", "--bootstrap", &broker.address, "-c", "none", "-X", "message.timeout.ms=4000"];
    let refused = run_with_input(folder.path(), &arguments, &line.repeat(100));
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    for part in [
        format!("records to topic 't' were not acknowledged by {} in time, ", broker.address),
        "help: see whether the broker is still up and what its log says; what was acknowledged before is in the topic\n"
            .to_owned(),
    ] {
        assert!(refused.stderr.contains(&part), "{}", refused.stderr);
    }
    let logged = broker.wait_for("records cannot be stored");
    assert!(logged.contains("topic=\"t\" partition=0") && logged.contains("File too large"), "{logged}");
    broker.kill();
    // With room again: the record that was acknowledged is there, and no half of one that was not.
    let broker = TestBroker::start(folder.path());
    broker.produce("t", "last\n");
    let read = run(folder.path(), &["topic", "consume", "t", "-e", "--bootstrap", &broker.address]);
    let lines: Vec<&str> = read.stdout.lines().collect();
    assert_eq!((lines.first(), lines.last()), (Some(&"first"), Some(&"last")), "{}", read.stderr);
    assert!(lines[1..lines.len() - 1].iter().all(|found| *found == line.trim_end()), "a record was cut");
}
