//! A project as Spark's users write it (streaming tables, a flow, a view, a materialized view, changes of both types) on
//! both engines, over input that grows between its runs.
//!
//! Three runs, because a row is late only after others, and of five flows each: minutes on a small cluster, where Spark starts
//! every flow anew.

use std::fs;
use std::path::Path;

use super::{difference, run_on_both, spark_rows, unique};
use crate::program::succeed;

const CATALOG: &str =
    "CREATE TABLE ev (event_id STRING, user_id BIGINT, event_type STRING, amount DOUBLE, ts TIMESTAMP)
USING json OPTIONS (path '${project.dir}/in');
";

/// `_0` stands for what makes names of this run alone; `cat` is where Spark can merge changes into a table.
const TABLES: &str = "CREATE STREAMING TABLE raw_0 AS SELECT * FROM STREAM default.ev;

CREATE STREAMING TABLE per_minute_0 (w STRUCT<start: TIMESTAMP, end: TIMESTAMP>, event_type STRING, n BIGINT, amount DOUBLE);
CREATE FLOW per_minute_flow AS INSERT INTO per_minute_0 BY NAME
SELECT window(ts, '1 minute') AS w, event_type, count(*) AS n, sum(amount) AS amount
FROM STREAM raw_0 WATERMARK ts DELAY OF INTERVAL 10 SECONDS
GROUP BY window(ts, '1 minute'), event_type;

CREATE TEMPORARY VIEW big AS SELECT * FROM raw_0 WHERE amount > 100;
CREATE MATERIALIZED VIEW top_0 AS SELECT event_type, count(*) AS n FROM big GROUP BY event_type;

CREATE STREAMING TABLE cat.ns.users_now_0 FLOW AUTO CDC FROM STREAM raw_0 KEYS (user_id)
  APPLY AS DELETE WHEN event_type = 'logout' SEQUENCE BY ts COLUMNS * EXCEPT (amount) STORED AS SCD TYPE 1;
CREATE STREAMING TABLE cat.ns.users_history_0;
CREATE FLOW users_history_flow AS AUTO CDC INTO cat.ns.users_history_0 FROM STREAM raw_0 KEYS (user_id)
  APPLY AS DELETE WHEN event_type = 'logout' SEQUENCE BY ts STORED AS SCD TYPE 2 TRACK HISTORY ON (event_type);
";

/// Who, what, how much, and at which second: the input of each run.
const RUNS: [&[(u32, &str, u32, u32)]; 3] = [
    &[(1, "buy", 150, 5), (2, "look", 1, 10), (1, "look", 2, 30), (3, "buy", 101, 61)],
    &[(2, "logout", 0, 70), (1, "look", 3, 65), (4, "buy", 500, 130), (3, "buy", 7, 20)],
    // Late, a change before what is known, and one that comes again.
    &[(5, "look", 9, 1), (2, "buy", 120, 69), (2, "look", 8, 200), (4, "logout", 0, 210)],
];

fn write_input(project: &Path, run: usize) {
    let event = |(number, (user, kind, amount, second)): (usize, &(u32, &str, u32, u32))| {
        let time = format!("2024-01-01T00:{:02}:{:02}Z", second / 60, second % 60);
        format!(
            "{{\"event_id\":\"{run}-{number}\",\"user_id\":{user},\"event_type\":\"{kind}\",\"amount\":{amount}.0,\"ts\":\"{time}\"}}\n"
        )
    };
    let lines: String = RUNS[run].iter().enumerate().map(event).collect();
    fs::write(project.join(format!("in/{run}.json")), lines).unwrap();
}

#[test]
#[ignore = "needs a Spark cluster: make spark-test"]
fn a_project_with_changes_gives_the_same_rows_run_after_run() {
    let folder = tempfile::tempdir().unwrap();
    let project = folder.path().join("shop");
    fs::create_dir_all(project.join("transformations")).unwrap();
    fs::create_dir_all(project.join("in")).unwrap();
    let own = unique("");
    let yml = format!(
        "name: shop\nstorage: file://{}/storage\ncatalog: spark_catalog\ndatabase: default\nlibraries:\n  - glob:\n      \
         include: transformations/**\n",
        project.display()
    );
    fs::write(project.join("spark-pipeline.yml"), yml).unwrap();
    fs::write(project.join("highwater.yml"), "catalog: [catalog.sql]\ndefault_format: delta\n").unwrap();
    fs::write(project.join("catalog.sql"), CATALOG).unwrap();
    fs::write(project.join("transformations/tables.sql"), TABLES.replace("_0", &own)).unwrap();
    for run in 0..RUNS.len() {
        write_input(&project, run);
        run_on_both(folder.path(), "shop", &["spark.sql.sources.default=json"]);
        for table in ["raw", "per_minute", "top", "users_now", "users_history"] {
            let name = format!("{table}{own}");
            let found = succeed(
                folder.path(),
                &["sql", &format!("SELECT * FROM {name}"), "--storage", "shop/storage", "--output", "json"],
            );
            let mut here: Vec<String> = found.lines().map(super::canonical).collect();
            here.sort();
            let spark = spark_rows(&name);
            assert!(here == spark, "run {run}, {table}:\n{}", difference(&here, &spark));
            assert!(run == 0 && table == "per_minute" || !here.is_empty(), "run {run}: {table} has no rows");
        }
    }
}
