//! Doors for the fuzz targets in `fuzz/`: text as a program, bytes as the files of a checkpoint.
//!
//! For any input there is an answer, a value or an error: a finding is a panic, an overflow of the stack, an endless loop
//! or an allocation beyond the target's limit. The tests here go through the same doors with seeds that are cut and mixed by
//! a fixed generator, so that every build has tried some.

#![expect(clippy::missing_panics_doc, clippy::expect_used, reason = "to panic is what these are for")]

use serde_json::json;

use crate::checkpoint::inspect::{inspect, inspect_batch, summarize, verify};
use crate::checkpoint::{
    CheckpointDir, CommitLog, CommitLogEntry, Durability, Metadata, OffsetLog, OffsetLogEntry, QueryIdentity, text,
};
use crate::source::Offset;
use crate::state::changelog;
use crate::testing::StreamScript;

/// What a fuzzed program finds defined.
const TABLES: &str = "CREATE TABLE a (k STRING, v INT, d DOUBLE, l ARRAY<INT>, m MAP<STRING, INT>, \
                      s STRUCT<x: INT, y: STRING>, ts TIMESTAMP) USING test;\n\
                      CREATE TABLE b (k STRING, w INT, ts TIMESTAMP) USING test;\nCREATE SINK out USING test;\n";

/// Plans text as a program, and as the query of a flow.
pub fn sql(program: &str) {
    StreamScript::refusal(&format!("{TABLES}{program}"));
    StreamScript::refusal(&format!("{TABLES}CREATE FLOW f AS INSERT INTO out {program}"));
}

/// The files of a checkpoint, of which a fuzzed one takes the place.
const FILES: [&str; 7] =
    ["metadata", "offsets/0", "commits/0", "run/1", "state/0.changelog", "state/0.snapshot", "dead_letters/0.jsonl"];

/// Reads a checkpoint in which one file holds these bytes; with `is_framed` as lines or a block whose checksums are right.
pub fn checkpoint_file(which: u8, content: &[u8], is_framed: bool) {
    let dir = tempfile::tempdir().expect("a folder");
    write_checkpoint(dir.path());
    let name = FILES[usize::from(which) % FILES.len()];
    let bytes = match name {
        _ if !is_framed => content.to_vec(),
        "state/0.changelog" => changelog::forged(content),
        _ => text::encode(&String::from_utf8_lossy(content).lines().map(str::to_owned).collect::<Vec<_>>()),
    };
    let path = dir.path().join(name);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    // Not over what is there: a file may be linked elsewhere.
    drop(std::fs::remove_file(&path));
    std::fs::write(&path, bytes).expect("a file");
    let checkpoint = CheckpointDir::open(&dir.path().display().to_string(), Durability::None);
    let checkpoint = checkpoint.expect("a folder is a checkpoint");
    drop((verify(&checkpoint), summarize(&checkpoint), inspect(&checkpoint), inspect_batch(&checkpoint, 0)));
    if let Ok(log) = OffsetLog::open(&checkpoint) {
        drop(log.latest());
    }
    if let Ok(log) = CommitLog::open(&checkpoint) {
        drop(log.latest());
    }
    drop(OffsetLogEntry::ends_from_spark(&String::from_utf8_lossy(content)));
}

fn write_checkpoint(folder: &std::path::Path) {
    let checkpoint = CheckpointDir::open(&folder.display().to_string(), Durability::None)
        .and_then(|checkpoint| checkpoint.start_run("q", &crate::clock::SystemClock))
        .expect("a checkpoint");
    let operators = [("count".to_owned(), "v1".to_owned())].into();
    let identity =
        QueryIdentity { query_name: "q".to_owned(), target: "table t".to_owned(), operators, ..Default::default() };
    Metadata::create_or_read(&checkpoint, &identity).expect("metadata");
    let entry = OffsetLogEntry {
        batch_watermark_ms: 0,
        batch_timestamp_ms: 1_700_000_000_000,
        conf: [("source 0".to_owned(), "ev".to_owned())].into(),
        watermarks: serde_json::Map::new(),
        starts: vec![Some(Offset(json!(0)))],
        ends: vec![Some(Offset(json!(1)))],
    };
    OffsetLog::open(&checkpoint).and_then(|log| log.add(0, &entry)).expect("an offset log");
    let commit = CommitLogEntry { next_batch_watermark_ms: 5, ..Default::default() };
    CommitLog::open(&checkpoint).and_then(|log| log.add(0, &commit)).expect("a commit log");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A generator of numbers that are the same in each run.
    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, end: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            usize::try_from(self.0 % end.max(1) as u64).unwrap()
        }
    }

    const QUERIES: [&str; 12] = [
        "SELECT k, explode ( l ) AS e FROM STREAM a LATERAL VIEW OUTER posexplode ( l ) t AS p , q WHERE v > 1",
        "SELECT window . start AS s , count ( * ) AS n FROM STREAM a WATERMARK ts DELAY OF INTERVAL 1 MONTH GROUP BY window ( ts , '1 minute' )",
        "SELECT * FROM STREAM a NATURAL JOIN STREAM b",
        "SELECT * FROM STREAM a FULL JOIN b USING ( k , ts )",
        "SELECT k , v FROM STREAM a UNION ALL SELECT k , w FROM STREAM b",
        "FROM STREAM a |> WHERE v > 0 |> AGGREGATE sum ( v ) AS n GROUP BY k |> EXTEND n * 2 AS m |> DROP n |> LIMIT 5",
        "SELECT stack ( 2 , 'v' , v , 'w' , v + 1 ) AS ( name , value ) , s . * FROM STREAM a",
        "WITH c AS ( SELECT k , max ( v ) AS m FROM STREAM a GROUP BY k ) SELECT * , ( SELECT max ( w ) FROM b ) FROM c",
        "SELECT date_trunc ( 'hour' , ts ) , transform ( l , x -> x + 1 ) , m [ 'a' ] , s . x FROM STREAM a",
        "CREATE STREAMING TABLE t AS SELECT CAST ( d AS DECIMAL ( 10 , 2 ) ) FROM STREAM a ; CREATE VIEW w AS SELECT * FROM t",
        "SELECT k , sum ( v ) FILTER ( WHERE v > 0 ) OVER ( PARTITION BY ts ORDER BY v ROWS 2 PRECEDING ) FROM STREAM a",
        "SELECT window ( ts , '10 minutes' , '5 minutes' ) . end , * FROM STREAM a WHERE k RLIKE '^x+$' OR d / 0 IS NULL",
    ];

    #[test]
    fn mixed_queries_are_answered() {
        let mut numbers = Numbers(0x9E37_79B9_7F4A_7C15);
        let words: Vec<&str> = QUERIES.iter().flat_map(|query| query.split(' ')).collect();
        for query in QUERIES {
            sql(query);
            for _ in 0..6 {
                let mut mixed: Vec<&str> = query.split(' ').collect();
                for _ in 0..=numbers.below(3) {
                    let at = numbers.below(mixed.len());
                    match numbers.below(4) {
                        0 => drop(mixed.remove(at)),
                        1 => mixed[at] = words[numbers.below(words.len())],
                        2 => mixed.insert(at, words[numbers.below(words.len())]),
                        _ => mixed.truncate(at + 1),
                    }
                    if mixed.is_empty() {
                        mixed.push("(");
                    }
                }
                sql(&mixed.join(" "));
            }
        }
    }

    #[test]
    fn mixed_checkpoint_files_are_answered() {
        let mut numbers = Numbers(0xD1B5_4A32_D192_ED03);
        let seeds: [&[u8]; 6] = [
            br#"{"version":1,"queryId":"x","queryName":"q","operators":{"count":"v1"}}"#,
            b"{\"batchWatermarkMs\":0,\"batchTimestampMs\":9,\"conf\":{}}\n{\"t\":{\"0\":123}}\n-",
            br#"{"nextBatchWatermarkMs":99999999999999999999}"#,
            b"\x00\x00\x00\xff\xff\xff\x7fabc",
            b"\x01\x00\x00\x10\x00\x00\x00\x1fa\x01\x00",
            br#"{"files":{"../../x":{"size":-1}},"batchId":18446744073709551615,"operators":["count"]}"#,
        ];
        for which in 0..7 {
            for seed in seeds {
                for is_framed in [false, true] {
                    checkpoint_file(which, seed, is_framed);
                    let mut mixed = seed.to_vec();
                    for _ in 0..=numbers.below(4) {
                        let at = numbers.below(mixed.len());
                        mixed[at] ^= 1 << numbers.below(8);
                    }
                    mixed.truncate(1 + numbers.below(mixed.len()));
                    checkpoint_file(which, &mixed, is_framed);
                }
            }
        }
    }

    #[test]
    fn a_forged_length_takes_no_memory() {
        let dir = tempfile::tempdir().unwrap();
        write_checkpoint(dir.path());
        std::fs::create_dir_all(dir.path().join("state")).unwrap();
        let forged = changelog::forged(b"\x00\x00\x00\xff\xff\xff\x3fabc");
        std::fs::write(dir.path().join("state/0.changelog"), forged).unwrap();
        let checkpoint = CheckpointDir::open(&dir.path().display().to_string(), Durability::None).unwrap();
        let found = verify(&checkpoint).unwrap().findings;
        let is_told = found.iter().any(|finding| finding.found.contains("a block is shorter than its length says"));
        assert!(is_told, "{found:?}");
    }
}
