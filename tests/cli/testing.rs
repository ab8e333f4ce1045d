//! `highwater test`: what passes, how a failure reads, and that nothing outside is touched.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::program::{Finished, root, run, succeed};

const SQL: &str = "CREATE TABLE payments (card STRING, amount DOUBLE, ts TIMESTAMP) USING kafka OPTIONS (
        kafka.bootstrap.servers '127.0.0.1:1', subscribe 'payments', 'value.format' = 'json');
    CREATE TABLE cards (card STRING, owner STRING) USING csv OPTIONS (path '/nowhere/cards.csv', header 'true');
    CREATE STREAMING TABLE clean AS SELECT * FROM STREAM payments WHERE amount > 0;
    CREATE SINK totals USING sqlite OPTIONS (path '${env:NOT_SET}/out.db', table 't', outputMode 'update');
    CREATE FLOW totals_flow AS INSERT INTO totals
        SELECT p.card, c.owner, sum(p.amount) AS amount, count(*) AS n FROM STREAM clean AS p LEFT JOIN cards AS c ON p.card = c.card
        GROUP BY p.card, c.owner;
    CREATE STREAMING TABLE per_minute AS SELECT window.start AS minute, count(*) AS n
        FROM STREAM clean WATERMARK ts DELAY OF INTERVAL 10 SECONDS GROUP BY window(ts, '1 minute');
    CREATE MATERIALIZED VIEW all_minutes AS SELECT sum(n) AS n FROM per_minute;
    CREATE STREAMING TABLE seen AS SELECT card, current_timestamp() AS seen_at FROM STREAM clean;";

/// Runs tests over the SQL above in a folder of its own.
fn test(yml: &str, arguments: &[&str]) -> Finished {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("q.sql"), SQL).unwrap();
    fs::write(folder.path().join("t.yml"), yml).unwrap();
    fs::write(folder.path().join("cards.csv"), "card,owner\na,Ada\n").unwrap();
    let finished = run(folder.path(), &[&["test", "q.sql", "--tests", "t.yml"], arguments].concat());
    let mut left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["cards.csv", "q.sql", "t.yml"], "a test leaves nothing behind");
    finished
}

const PASSING: &str = "\
now: 2024-01-01 12:00:00
tests:
  - name: steps go on from each other
    given:
      cards: cards.csv
    steps:
      - input:
          payments:
            - {card: a, amount: 1.5, ts: 2024-01-01 00:00:01}
            - {card: a, amount: -1, ts: 2024-01-01 00:00:02}
            - {card: b, amount: 2, ts: 2024-01-01 00:00:03}
        emits:
          clean: [{card: a}, {card: b}]
          totals: |
            card,owner,amount,n
            a,Ada,1.5,1
            b,,2,1
          per_minute: []
          seen: [{card: a, seen_at: 2024-01-01 12:00:00}, {card: b, seen_at: 2024-01-01 12:00:00}]
      - advance: 1 hour
        input:
          payments:
            - {card: a, amount: 0.2, ts: 2024-01-01 00:02:00}
        emits:
          totals: [{card: a, owner: Ada, amount: 1.7, n: 2}]
          per_minute: [{minute: 2024-01-01 00:00:00, n: 2}]
          seen: [{card: a, seen_at: 2024-01-01 13:00:00}]
        expect:
          totals: [{card: b, n: 1}, {card: a, n: 2}]
    expect:
      all_minutes: [{n: 2}]
  - name: a table in the middle can be given as well
    given:
      clean:
        - {card: x, amount: 1, ts: 2024-01-01 00:00:00}
    expect:
      totals: [{card: x, owner: null, amount: 1.0, n: 1}]
";

#[test]
fn steps_time_chains_and_static_tables() {
    let passed = test(PASSING, &["--output", "csv"]);
    let expected = "test,file,result,problems\nsteps go on from each other,t.yml:3,passed,0\na table in the middle can be \
                    given as well,t.yml:32,passed,0\n";
    assert_eq!((passed.code, passed.stdout.as_str()), (0, expected), "{}", passed.stderr);
    assert_eq!(passed.stderr, "");
    let one = test(PASSING, &["--filter", "middle", "--output", "json"]);
    let told: Value = serde_json::from_str(&one.stdout).unwrap();
    assert_eq!((told["result"].as_str(), told["problems"].as_array().map(Vec::len)), (Some("passed"), Some(0)));
    let none = test(PASSING, &["--filter", "nothing"]);
    let expected = "error: no test has 'nothing' in its name or file\nhelp: see the tests there are: highwater test without \
                    --filter\n";
    assert_eq!((none.code, none.stderr.as_str()), (2, expected));
}

#[test]
fn a_failure_shows_the_rows_that_differ() {
    let yml = "\
tests:
  - name: totals
    given:
      payments:
        - {card: a, amount: 1.5, ts: 2024-01-01 00:00:01}
        - {card: b, amount: 2, ts: 2024-01-01 00:00:03}
        - {card: c, amount: 3, ts: 2024-01-01 00:00:03}
    expect:
      totals:
        - {card: b, amount: 2.0}
        - {card: a, amount: 1.0}
      clean: []
";
    let failed = test(yml, &[]);
    let stderr = "\
failed: totals (t.yml:2)
  table clean at the end: 3 rows are unexpected, 0 as expected
    +----+------+-------------------+
    |card|amount|ts                 |
    +----+------+-------------------+
  + |a   |   1.5|2024-01-01 00:00:01|
  + |b   |   2.0|2024-01-01 00:00:03|
  + |c   |   3.0|2024-01-01 00:00:03|
    +----+------+-------------------+
  table totals at the end: 1 row is missing, 2 rows are unexpected, 1 as expected
    +----+------+
    |card|amount|
    +----+------+
  - |a   |   1.0|
  + |a   |   1.5|
  + |c   |   3.0|
    +----+------+
error: 1 of 1 tests failed
";
    assert_eq!((failed.code, failed.stderr.as_str()), (4, stderr));
    let expected = "\
+------+-------+------+--------+
|test  |file   |result|problems|
+------+-------+------+--------+
|totals|t.yml:2|failed|       2|
+------+-------+------+--------+
1 row
";
    assert_eq!(failed.stdout, expected);
    let told: Value = serde_json::from_str(&test(yml, &["--output", "json"]).stdout).unwrap();
    assert_eq!(told["problems"][1]["missing"], serde_json::json!([["a", "1.0"]]));
    assert_eq!(told["problems"][1]["columns"], serde_json::json!(["card", "amount"]));
}

#[test]
fn a_step_that_fails_is_a_failure_or_what_was_expected() {
    let sql = "CREATE TABLE ev (n INT) USING json OPTIONS (path 'in');
        CREATE STREAMING TABLE t AS SELECT 10 / n AS x FROM STREAM ev;";
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("q.sql"), sql).unwrap();
    let check = |fails: &str, code: i32, stderr: &str| {
        let yml = format!("tests:\n  - name: zero\n    steps:\n      - input: {{ev: [{{n: 0}}]}}\n{fails}");
        fs::write(folder.path().join("t.yml"), yml).unwrap();
        let finished = run(folder.path(), &["test", "q.sql", "--tests", "t.yml"]);
        assert_eq!(finished.code, code, "{}", finished.stderr);
        assert!(finished.stderr.contains(stderr), "'{stderr}' is not in\n{}", finished.stderr);
    };
    check("", 4, "  step 1 failed: query 't': ");
    check("        fails: DIVIDE_BY_ZERO\n", 0, "");
    check("        fails: overflow\n", 4, "expected an error with 'overflow'\n");
    let fine = "tests:\n  - name: one\n    steps:\n      - input: {ev: [{n: 1}]}\n        fails: DIVIDE_BY_ZERO\n";
    fs::write(folder.path().join("t.yml"), fine).unwrap();
    let finished = run(folder.path(), &["test", "q.sql", "--tests", "t.yml"]);
    assert_eq!(finished.code, 4);
    assert!(finished.stderr.contains("step 1 did not fail, expected an error with 'DIVIDE_BY_ZERO'"));
}

#[test]
fn mistakes_in_a_test_are_shown_in_their_line() {
    let check = |yml: &str, stderr: &str| {
        let finished = test(yml, &[]);
        assert_eq!((finished.code, finished.stderr.as_str()), (3, stderr), "{yml}");
    };
    let head = "tests:\n  - name: a\n    given:\n";
    check(
        &format!("{head}      paymnts: []\n"),
        "error: the project has no table 'paymnts'\n  --> t.yml:4:7\n   |\n 4 |       paymnts: []\n   |       \
         ^^^^^^^\nhelp: did you mean 'payments'?\n",
    );
    check(
        &format!("{head}      totals: []\n"),
        "error: the project does not read table 'totals'\n  --> t.yml:4:7\n   |\n 4 |       totals: []\n   |       \
         ^^^^^^\nhelp: its tables are: all_minutes, cards, clean, payments, per_minute, seen, totals\n",
    );
    check(
        &format!("{head}      payments:\n        - {{card: a}}\n        - {{crd: a}}\n"),
        "error: table 'payments' has no column 'crd'\n  --> t.yml:6:11\n   |\n 6 |         - {crd: a}\n   |           \
         ^\nhelp: did you mean 'card'?\n",
    );
    let wrong = test(&format!("{head}      payments:\n        - {{card: a, amount: much}}\n"), &[]);
    assert_eq!(wrong.code, 3);
    for part in [
        "error: a row does not fit the columns of table 'payments': ",
        "  --> t.yml:5:11\n",
        "help: its columns are: card STRING, amount DOUBLE, ts TIMESTAMP\n",
    ] {
        assert!(wrong.stderr.contains(part), "'{part}' is not in\n{}", wrong.stderr);
    }
    check(
        "tests:\n  - name: a\n    step: []\n",
        "error: unknown key 'step'\n  --> t.yml:3:5\n   |\n 3 |     step: []\n   |     ^^^^\nhelp: did you mean 'steps'?\n",
    );
    let none = run(Path::new("/"), &["test", "-e", "SELECT 1", "--tests", "/nowhere"]);
    assert_eq!(
        (none.code, none.stderr.as_str()),
        (
            3,
            "error: sql has no tests: there is no file /nowhere/*.yml\nhelp: write one, see highwater test --help, or name a \
             file with --tests\n"
        )
    );
}

#[test]
fn columns_that_are_only_outside_are_given_by_the_test() {
    let folder = tempfile::tempdir().unwrap();
    let sql = "CREATE TABLE known USING parquet OPTIONS (path '/nowhere/known');
        CREATE TABLE ev (id INT) USING json OPTIONS (path '/nowhere/in');
        CREATE STREAMING TABLE t AS SELECT ev.id, k.name FROM STREAM ev JOIN known AS k ON ev.id = k.id;";
    fs::write(folder.path().join("q.sql"), sql).unwrap();
    let yml = "columns: {known: 'id INT, name STRING'}\ntests:\n  - name: joined\n    given:\n      known: [{id: 1, name: one}]\n      \
               ev: [{id: 1}, {id: 2}]\n    expect: {t: [{id: 1, name: one}]}\n";
    fs::write(folder.path().join("t.yml"), yml).unwrap();
    succeed(folder.path(), &["test", "q.sql", "--tests", "t.yml"]);
}

#[test]
fn a_new_project_and_every_example_pass_their_tests() {
    let folder = tempfile::tempdir().unwrap();
    succeed(folder.path(), &["init", "shop"]);
    // A test keeps its checkpoints to itself, wherever the project has its own.
    let settings = folder.path().join("shop/highwater.yml");
    let given = fs::read_to_string(&settings).unwrap_or_default();
    fs::write(settings, given + "\ncheckpoints:\n  location: gopher://nowhere/x\n").unwrap();
    let shop = succeed(folder.path(), &["test", "shop", "--output", "csv"]);
    assert_eq!(shop.matches(",passed,0\n").count(), 1, "{shop}");
    for entry in fs::read_dir(root().join("examples")).unwrap() {
        let example = entry.unwrap().path().display().to_string();
        let told = succeed(folder.path(), &["test", &example, "--output", "csv"]);
        assert!(told.lines().count() > 1 && !told.contains("failed"), "{example}: {told}");
    }
}
