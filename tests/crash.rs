//! `kill -9` at any moment, then a restart: the tables are those of a run that was never killed.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use crate::program::{Finished, highwater, succeed};
use crate::random::Random;

/// How many kills; more by `HIGHWATER_KILLS`.
const KILLS: usize = 50;

/// Files the source has when everything is there.
const FILES: usize = 150;

const SQL: &str =
    "CREATE TABLE ev (k STRING, v BIGINT, ts TIMESTAMP) USING json OPTIONS (path 'in', maxFilesPerTrigger '1');
CREATE STREAMING TABLE windows USING delta AS
  SELECT window.start AS w, k, count(*) AS n, sum(v) AS s FROM STREAM ev WATERMARK ts DELAY OF INTERVAL 5 SECONDS
  GROUP BY window(ts, '20 seconds', '10 seconds'), k;
CREATE STREAMING TABLE thirds USING parquet AS SELECT k, v, ts FROM STREAM ev WHERE v % 3 = 0;
CREATE STREAMING TABLE lines USING json AS SELECT k, v FROM STREAM ev WHERE v % 5 = 0;
CREATE SINK totals USING sqlite OPTIONS (path 'out.db', table 'totals', outputMode 'update');
CREATE FLOW totals_flow AS INSERT INTO totals SELECT k, count(*) AS n, sum(v) AS s FROM STREAM ev GROUP BY k;
";

/// What is compared.
const TABLES: [(&str, &str); 4] = [
    ("windows", "SELECT * FROM windows ORDER BY w, k, n, s"),
    ("thirds", "SELECT * FROM thirds ORDER BY v, k, ts"),
    ("lines", "SELECT * FROM lines ORDER BY v, k"),
    ("totals", "SELECT * FROM totals ORDER BY k, n, s"),
];

/// File `n` of the source: 40 rows, a second later than the file before, some of them late.
fn write_file(folder: &Path, n: usize) {
    let mut random = Random(n as u64);
    let mut rows = String::new();
    for row in 0..40 {
        let second = (n as u64).saturating_sub(random.next(4));
        let (k, v) = (random.next(7), n as u64 * 40 + row);
        writeln!(rows, r#"{{"k":"k{k}","v":{v},"ts":"2024-01-01T00:{:02}:{:02}.000Z"}}"#, second / 60, second % 60)
            .unwrap();
    }
    let hidden = folder.join(format!("in/.{n}"));
    fs::write(&hidden, rows).unwrap();
    fs::rename(hidden, folder.join(format!("in/{n:04}.json"))).unwrap();
}

/// How a run is disturbed.
pub(crate) struct Kills<'a> {
    /// How often; more by `HIGHWATER_KILLS`.
    pub(crate) count: usize,
    /// Each at any moment of this time.
    pub(crate) within: Duration,
    /// What the disturbed runs have in their environment.
    pub(crate) environment: &'a [(&'static str, String)],
}

fn results(folder: &Path) -> Vec<(&'static str, String)> {
    let read = |sql: &str| succeed(folder, &["sql", sql, "--storage", "storage", "--output", "csv"]);
    TABLES.iter().map(|(table, sql)| (*table, read(sql))).collect()
}

#[test]
fn tables_survive_kill_at_any_moment() {
    tables_survive(&Kills { count: KILLS, within: Duration::from_millis(900), environment: &[] });
}

/// Kills runs over a growing source, and compares with one that was left alone.
pub(crate) fn tables_survive(disturbance: &Kills<'_>) {
    let kills = std::env::var("HIGHWATER_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(disturbance.count);
    let seed =
        std::env::var("HIGHWATER_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(u64::from(std::process::id()));
    let mut random = Random(seed);
    let (calm, wild) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for folder in [calm.path(), wild.path()] {
        fs::create_dir(folder.join("in")).unwrap();
        fs::write(folder.join("q.sql"), SQL).unwrap();
    }
    let run = ["run", "q.sql", "--storage", "storage", "--trigger", "available-now"];
    let mut files = 0;
    let mut killed = 0;
    while killed < kills {
        if files < FILES {
            (0..3).for_each(|n| write_file(wild.path(), files + n));
            files += 3;
        }
        let mut command = highwater(wild.path(), &run);
        command.envs(disturbance.environment.iter().map(|(name, value)| (*name, value)));
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let within_ms = u64::try_from(disturbance.within.as_millis()).unwrap();
        std::thread::sleep(Duration::from_millis(random.next(within_ms)));
        // A process that has ended by itself was not killed: it does not count.
        if child.try_wait().unwrap().is_none() {
            child.kill().unwrap();
            killed += 1;
        } else if files >= FILES {
            write_file(wild.path(), files);
            files += 1;
        }
        child.wait().unwrap();
    }
    (0..files).for_each(|n| write_file(calm.path(), n));
    let mut last = highwater(wild.path(), &run);
    let last: Finished = last.envs(disturbance.environment.iter().map(|(k, v)| (*k, v))).output().unwrap().into();
    assert_eq!(last.code, 0, "the run after {killed} kills, HIGHWATER_SEED={seed}:\n{}", last.stderr);
    succeed(calm.path(), &run);
    for ((table, found), (_, expected)) in results(wild.path()).into_iter().zip(results(calm.path())) {
        assert!(expected.lines().count() > 5, "{table} has too few rows to mean anything:\n{expected}");
        assert_eq!(found, expected, "{table} after {killed} kills, HIGHWATER_SEED={seed}");
    }
}
