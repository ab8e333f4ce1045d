//! The same project on both engines: here and on a real Spark cluster, which `make spark-test` starts with
//! `scripts/spark-cluster` and names in `HIGHWATER_SPARK` (its Connect server) and `HIGHWATER_SPARK_WAREHOUSE` (where its
//! tables are). Committed rows are compared row by row.

mod avro;
mod checkpoints;
mod examples;
mod migration;
mod oracle;
mod project;
mod refusals;
mod runs;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::Value;

use crate::program::{Finished, run, succeed};

/// The Connect server.
fn server() -> String {
    std::env::var("HIGHWATER_SPARK").expect("HIGHWATER_SPARK is not set: use make spark-test")
}

/// Where Spark puts a table of the database `default`.
fn spark_table(name: &str) -> PathBuf {
    let warehouse = std::env::var("HIGHWATER_SPARK_WAREHOUSE").expect("HIGHWATER_SPARK_WAREHOUSE: use make spark-test");
    Path::new(&warehouse).join(name)
}

/// A name that no earlier run has used: Spark's tables stay.
fn unique(stem: &str) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    format!("{stem}_{}", now.as_millis())
}

/// Runs a project to its end here and on Spark.
fn run_on_both(folder: &Path, project: &str, params: &[&str]) {
    let params: Vec<&str> = params.iter().flat_map(|param| ["--param", param]).collect();
    let here = ["run", project, "--trigger", "available-now"];
    succeed(folder, &[&here[..], &params].concat());
    let finished = run_on_spark(folder, project, &params);
    assert_eq!(finished.code, 0, "on Spark:\n{}", finished.stderr);
}

fn run_on_spark(folder: &Path, project: &str, more: &[&str]) -> Finished {
    let server = server();
    let arguments = ["run", project, "--trigger", "available-now", "--engine", &server];
    run(folder, &[&arguments[..], more].concat())
}

/// The committed rows of a table of Spark's: where its file sink keeps a log, those of the files in it. A batch that was cut
/// off leaves files that are in no log.
fn spark_rows(name: &str) -> Vec<String> {
    let table = spark_table(name);
    let Ok(log) = fs::read_dir(table.join("_spark_metadata")) else { return json_rows(&table) };
    let mut files = BTreeSet::new();
    for entry in log.map(|entry| entry.unwrap().path()).filter(|path| !hidden(path)) {
        // The first line is the log's version.
        for line in fs::read_to_string(entry).unwrap().lines().skip(1) {
            let action: Value = serde_json::from_str(line).unwrap();
            files.insert(action["path"].as_str().unwrap().trim_start_matches("file://").to_owned());
        }
    }
    let mut rows: Vec<String> = files
        .iter()
        .flat_map(|file| fs::read_to_string(file).unwrap().lines().map(canonical).collect::<Vec<_>>())
        .collect();
    rows.sort();
    rows
}

fn hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'))
}

/// The rows of all JSON files below a folder, in an order of their own; hidden files are no data.
fn json_rows(folder: &Path) -> Vec<String> {
    let mut rows = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries.map(Result::unwrap) {
            let (name, path) = (entry.file_name().to_string_lossy().into_owned(), entry.path());
            if name.starts_with(['.', '_']) {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if name.contains(".json") {
                rows.extend(fs::read_to_string(path).unwrap().lines().map(canonical));
            }
        }
    }
    rows.sort();
    rows
}

/// A row with its fields in the order of their names, and numbers as numbers.
fn canonical(line: &str) -> String {
    fn sorted(value: Value) -> Value {
        match value {
            Value::Object(fields) => {
                // Null is a field that is left out, in files of JSON.
                let present = fields.into_iter().filter(|(_, value)| !value.is_null());
                let mut fields: Vec<(String, Value)> = present.map(|(key, value)| (key, sorted(value))).collect();
                fields.sort_by(|a, b| a.0.cmp(&b.0));
                Value::Object(fields.into_iter().collect())
            }
            Value::Array(values) => Value::Array(values.into_iter().map(sorted).collect()),
            other => other,
        }
    }
    sorted(serde_json::from_str(line).unwrap()).to_string()
}

/// What one engine has and the other has not, for a message.
fn difference(here: &[String], spark: &[String]) -> String {
    let only = |these: &[String], those: &[String]| {
        let mut those = those.to_vec();
        let left: Vec<String> = these
            .iter()
            .filter(|row| match those.iter().position(|other| other == *row) {
                Some(at) => {
                    those.swap_remove(at);
                    false
                }
                None => true,
            })
            .cloned()
            .collect();
        left.join("\n    ")
    };
    format!("  only here:\n    {}\n  only on Spark:\n    {}", only(here, spark), only(spark, here))
}
