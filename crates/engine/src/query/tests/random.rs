//! Random numbers on streams: the same when a batch is run again, by other workers too.

use std::collections::BTreeSet;

use super::{check_refusal, update};
use crate::testing::StreamScript;

const TABLES: &str = "CREATE TABLE ev (k STRING, v BIGINT, ts TIMESTAMP) USING test;
                      CREATE TABLE names (id STRING, name STRING) USING test;";

fn script(mode: &str, query: &str) -> StreamScript {
    StreamScript::new(&format!(
        "{TABLES} CREATE SINK out USING test OPTIONS (outputMode '{mode}'); CREATE FLOW f AS INSERT INTO out {query}"
    ))
}

/// Rows of two partitions, some of them equal, in pieces of a size.
fn with_rows(mut script: StreamScript, rows: usize, piece: usize) -> StreamScript {
    for partition in ["0", "1"] {
        let row =
            |n: usize| format!(r#"{{"k": "k{}", "v": {}, "ts": "2024-01-01T00:00:{:02}Z"}}"#, n % 7, n % 3, n % 5);
        let all: Vec<String> = (0..rows).map(row).collect();
        for piece in all.chunks(piece) {
            script = script.add_to("ev", partition, &(piece.join("\n") + "\n"));
        }
    }
    script
}

/// Takes the last batch back out of the sink and the checkpoint, as if the machine had stopped just before its commit.
fn without_commit_of(script: StreamScript, batch: u64) -> StreamScript {
    let checkpoint = script.storage().join("checkpoints/f");
    std::fs::remove_file(checkpoint.join(format!("commits/{batch}"))).unwrap();
    let _ = std::fs::remove_file(checkpoint.join(format!("state/{batch}.changelog")));
    script.table("out").take_back(batch);
    script
}

/// Gives the rows of the batch that was run twice.
#[track_caller]
fn check(mode: &str, query: &str) -> Vec<String> {
    let mut script = script(mode, query);
    script.settings.query.parallelism = 1;
    let script = script.add("names", "{\"id\": \"k1\", \"name\": \"Anna\"}\n{\"id\": \"k2\", \"name\": \"Bert\"}\n");
    let script = with_rows(script, 5, 5).process();
    let before = script.rows("out");
    let mut script = with_rows(script, 40, 7).process();
    let once = script.rows("out");
    script.settings.query.parallelism = 4;
    let script = without_commit_of(script, 1).process();
    assert_eq!(script.rows("out"), once, "{query}");
    let again = script.progress().iter().filter(|progress| progress.batch_id == 1).count();
    assert_eq!(again, 2, "the batch was not run again: {query}");
    assert!(once.len() > before.len() || mode == "complete", "{query}");
    once
}

#[test]
fn a_batch_that_is_run_again_draws_the_same() {
    let all = check(
        "append",
        "SELECT k, v, rand() AS r, randn() AS n, uuid() AS u, shuffle(array(1, 2, 3, 4, 5, 6)) AS s, rand(3) AS t FROM STREAM ev",
    );
    let different: BTreeSet<&str> = all.iter().map(|row| row.split(' ').nth(4).unwrap()).collect();
    assert_eq!((all.len(), different.len()), (90, 90), "UUIDs of equal rows differ");
    let sample = check("append", "SELECT k, v FROM STREAM ev WHERE rand() < 0.5");
    assert!((20..70).contains(&sample.len()), "{}", sample.len());
    check("append", "SELECT k, CASE WHEN v = 1 AND rand() < 0.5 THEN uuid() ELSE 'none' END AS c FROM STREAM ev");
    check("append", "SELECT explode(array(v, v + 1)) AS e, uuid() AS u FROM STREAM ev");
    check("append", "SELECT k, uuid() AS u FROM STREAM ev WHERE v = 1 UNION ALL SELECT k, uuid() FROM STREAM ev");
    check("append", "SELECT * FROM (SELECT k, v, rand() AS r FROM STREAM ev) WHERE r > 0.3 AND k <> 'k1'");
    check(
        "append",
        "SELECT e.k, n.r, rand() AS q FROM STREAM ev e JOIN (SELECT id, rand() AS r FROM names) n ON e.k = n.id",
    );
}

/// Rows that find no static row stay at their places.
#[test]
fn the_pieces_that_rows_come_in_do_not_matter() {
    let run = |piece: usize| {
        let query = "SELECT e.k, e.v, n.name, rand(5) AS r FROM STREAM ev e LEFT JOIN names n ON e.k = n.id";
        let script = script("append", query).add("names", "{\"id\": \"k1\", \"name\": \"Anna\"}\n");
        with_rows(script, 40, piece).process().rows("out")
    };
    assert_eq!(run(7), run(40));
    assert_eq!(run(40).len(), 80);
}

#[test]
fn so_does_what_stands_on_state() {
    check(
        "update",
        "SELECT k, count(*) AS n, max(q) AS m, rand() AS r FROM (SELECT k, rand() AS q FROM STREAM ev) GROUP BY k",
    );
    check("update", "SELECT CAST(rand() * 10 AS INT) AS b, count(*) AS n FROM STREAM ev GROUP BY 1");
    check("complete", "SELECT k, count(*) AS n, rand() AS r, uuid() AS u FROM STREAM ev GROUP BY k ORDER BY rand(5)");
    check("complete", "SELECT k, count(*) AS n FROM STREAM ev GROUP BY k HAVING rand() < 0.5");
    check("append", "SELECT a.k, a.v, uuid() AS u FROM STREAM ev a JOIN STREAM ev b ON a.k = b.k AND a.v = b.v");
    check("append", "SELECT uuid() AS u FROM (SELECT DISTINCT k, v, ts FROM STREAM ev)");
    let windows = "SELECT w.start AS s, n, uuid() AS u FROM (
        SELECT window(ts, '1 second') AS w, k, count(*) AS n FROM STREAM ev WATERMARK ts DELAY OF INTERVAL 0 SECONDS
        GROUP BY window(ts, '1 second'), k)";
    // The batch of rows closes nothing; the one after it is without rows.
    let script = with_rows(script("append", windows), 40, 7).process();
    let once = script.rows("out");
    assert!(!once.is_empty());
    let script = without_commit_of(script, 1).process();
    assert_eq!(script.rows("out"), once);
}

#[test]
fn a_seed_gives_the_same_numbers_in_every_query_and_none_gives_others() {
    let run = |query: &str, piece: usize, parallelism: usize| {
        let mut script = script("append", query);
        script.settings.query.parallelism = parallelism;
        with_rows(script, 50, piece).process().rows("out")
    };
    let seeded = "SELECT k, v, rand(42) AS r, randn(42) AS n, shuffle(array(1, 2, 3, 4), 42) AS s FROM STREAM ev";
    let whole = run(seeded, 50, 1);
    assert_eq!(run(seeded, 3, 4), whole);
    assert_ne!(run(&seeded.replace("42", "43"), 50, 1), whole);
    let own = "SELECT k, v, rand() AS r FROM STREAM ev";
    assert_ne!(run(own, 50, 1), run(own, 50, 1));
    let two = run("SELECT rand() = rand() AS a, rand(1) = rand(1) AS b FROM STREAM ev", 50, 1);
    assert!(two.iter().all(|row| row == "false true"), "{two:?}");
}

#[test]
fn numbers_are_spread_as_they_should() {
    let numbers = "SELECT rand() AS u, randn() AS g FROM (SELECT explode(sequence(1, 20000)) AS i FROM STREAM ev)";
    let rows = update(&format!("SELECT avg(u) AS a, stddev(u) AS s, avg(g) AS b, stddev(g) AS t FROM ({numbers})"))
        .add("ev", r#"{"k": "a", "v": 1}"#)
        .process()
        .rows("out");
    let found: Vec<f64> = rows[0].split(' ').map(|number| number.parse().unwrap()).collect();
    for (found, expected) in found.iter().zip([0.5, 1.0 / 12.0_f64.sqrt(), 0.0, 1.0]) {
        assert!((found - expected).abs() < 0.03, "{rows:?}");
    }
}

#[test]
fn what_cannot_draw_is_refused() {
    check_refusal(
        "CREATE FLOW f AS INSERT INTO out SELECT transform(array(v), x -> x + rand()) AS r FROM STREAM ev",
        "on a stream a lambda cannot draw random numbers: it would draw the same for every element; help: draw one number for \
         the row outside of the lambda, or explode the array and draw for each row",
    );
    check_refusal(
        "CREATE FLOW f AS INSERT INTO out SELECT a.k FROM STREAM ev a JOIN STREAM ev b ON a.k = b.k AND rand() < 0.5",
        "on a stream random numbers can be drawn in a select list, WHERE, HAVING, GROUP BY, ORDER BY and functions over groups, \
         and not in the condition of a join or in DISTINCT ON; help: draw them in a subquery: (SELECT *, rand() AS r FROM ...)",
    );
    check_refusal(
        "CREATE FLOW f AS INSERT INTO out SELECT rand(v) AS r FROM STREAM ev",
        "[SEED_EXPRESSION_IS_UNFOLDABLE] the seed of `rand` is a constant, found an expression over columns",
    );
}
