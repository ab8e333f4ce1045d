//! The streaming cases of `tests/oracle/streams`, many a project, each project on both engines.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use super::{difference, json_rows, run_on_both, spark_rows, unique};
use crate::program::root;

/// So many cases at least must agree.
const CASES: usize = 100;

/// Cases that differ, each with the reason; one that agrees again must go from here.
const KNOWN: &[(&str, &str)] = &[];

/// How many projects are run: a small cluster needs minutes for one. `HIGHWATER_SPARK_PROJECTS` says more or fewer.
fn projects() -> usize {
    std::env::var("HIGHWATER_SPARK_PROJECTS").ok().and_then(|number| number.parse().ok()).unwrap_or(3)
}

#[test]
#[ignore = "needs a Spark cluster: make spark-test"]
#[expect(clippy::print_stdout, reason = "how much was compared is told to whoever asked for it")]
fn oracle_cases_give_the_same_rows_on_both_engines() {
    let folder = tempfile::tempdir().unwrap();
    let prefix = unique("case");
    let script = root().join("tests/oracle/projects.py");
    let made = Command::new("python3").arg(script).arg(folder.path()).arg(&prefix).status().expect("python3 runs");
    assert!(made.success(), "the projects cannot be made");
    let listed = fs::read_to_string(folder.path().join("cases.tsv")).unwrap();
    let mut cases: BTreeMap<usize, Vec<(String, String)>> = BTreeMap::new();
    for line in listed.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        cases.entry(fields[1].parse().unwrap()).or_default().push((fields[0].to_owned(), fields[2].to_owned()));
    }
    let (mut agreed, mut rows, mut complaints) = (0, 0, Vec::new());
    for (number, cases) in cases.into_iter().take(projects()) {
        let project = folder.path().join(number.to_string());
        run_on_both(folder.path(), &project.display().to_string(), &[]);
        for (table, case) in cases {
            let here = json_rows(&project.join("storage/tables").join(&table));
            let spark = spark_rows(&table);
            let known = KNOWN.iter().find(|(name, _)| *name == case);
            match (here == spark, known) {
                (true, None) => {
                    agreed += 1;
                    rows += here.len();
                }
                (false, Some(_)) => {}
                (true, Some(_)) => complaints.push(format!("{case}: agrees, and is listed as one that does not")),
                (false, None) => complaints.push(format!("{case}:\n{}", difference(&here, &spark))),
            }
        }
    }
    println!("{agreed} cases agree, with {rows} rows");
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    assert!(rows > 0, "no rows were compared");
    if std::env::var_os("HIGHWATER_SPARK_PROJECTS").is_none() {
        assert!(agreed >= CASES, "only {agreed} cases were compared");
    }
}
