//! Streams joined with reference data that changes, through the binary.

use std::fs;
use std::path::Path;

use crate::broker::TestBroker;
use crate::postgres_server::{PASSWORD, Server, USER};
use crate::program::{Finished, Running, eventually, highwater, succeed};

/// Gives rows of a SQLite table new values, by a run of its own.
fn upsert(folder: &Path, run: &str, names: &[(u32, &str)]) {
    let lines: String = names.iter().map(|(id, name)| format!("{{\"id\":{id},\"name\":\"{name}\"}}\n")).collect();
    fs::create_dir_all(folder.join(run)).unwrap();
    fs::write(folder.join(run).join("names.json"), lines).unwrap();
    let sql = format!(
        "CREATE TABLE given (id BIGINT, name STRING) USING json OPTIONS (path '{run}');
         CREATE SINK names USING sqlite OPTIONS (path 'ref.db', table 'names', outputMode 'update');
         CREATE FLOW f AS INSERT INTO names SELECT id, max(name) AS name FROM STREAM given GROUP BY id"
    );
    succeed(folder, &["run", "-e", &sql, "--storage", &format!("{run}-storage"), "--trigger", "available-now"]);
}

fn pipeline(address: &str, reference: &str) -> String {
    format!(
        "CREATE TABLE ev (id BIGINT, n BIGINT) USING kafka OPTIONS (kafka.bootstrap.servers '{address}', subscribe 'ev',
            startingOffsets 'earliest', 'value.format' = 'json');
         CREATE TABLE names (id BIGINT, name STRING) {reference};
         CREATE SINK out USING sqlite OPTIONS (path 'out.db', table 'named');
         CREATE FLOW named AS INSERT INTO out SELECT e.n, n.name FROM STREAM ev e LEFT JOIN names n ON e.id = n.id;
         CREATE TABLE named_rows (n BIGINT, name STRING) USING sqlite OPTIONS (path 'out.db', table 'named');"
    )
}

/// The rows of the result, once there are so many.
fn named(folder: &Path, rows: usize) -> Vec<String> {
    let query = "SELECT n, coalesce(name, '-') AS name FROM named_rows ORDER BY n";
    eventually("the rows of the join", || {
        let shown = crate::program::run(folder, &["sql", query, "--storage", "st", "--output", "csv"]);
        let found: Vec<String> = shown.stdout.lines().skip(1).map(str::to_owned).collect();
        (shown.code == 0 && found.len() >= rows).then_some(found)
    })
}

#[test]
fn changes_of_a_sqlite_table_are_seen_when_its_rows_are_due() {
    for options in ["'cache.refresh' = '300 milliseconds'", "'lookup' = 'always'", "'cache.maxBytes' = '150'"] {
        let folder = tempfile::tempdir().unwrap();
        let broker = TestBroker::start(folder.path());
        succeed(folder.path(), &["topic", "create", "ev", "--bootstrap", &broker.address, "--partitions", "1"]);
        upsert(folder.path(), "first", &[(1, "Anna"), (2, "Bert")]);
        let reference = format!("USING sqlite OPTIONS (path 'ref.db', {options})");
        fs::write(folder.path().join("q.sql"), pipeline(&broker.address, &reference)).unwrap();
        let trigger = if options.contains("lookup") { "real-time 10 milliseconds" } else { "100 milliseconds" };
        let mut running = Running::start(folder.path(), &["run", "q.sql", "--storage", "st", "--trigger", trigger]);
        broker.produce("ev", "{\"id\":1,\"n\":1}\n{\"id\":3,\"n\":2}\n");
        assert_eq!(named(folder.path(), 2), ["1,Anna", "2,-"], "{options}");
        upsert(folder.path(), "second", &[(1, "Annette"), (3, "Cleo")]);
        // The first event that sees the change is made until one does; each row is there once.
        let mut sent = 2;
        let seen = eventually("the change", || {
            sent += 1;
            broker.produce("ev", &format!("{{\"id\":3,\"n\":{sent}}}\n"));
            let found = named(folder.path(), sent);
            found.last().filter(|row| row.ends_with("Cleo")).map(|_| found.clone())
        });
        assert_eq!(seen.len(), sent, "{options}: {seen:?}");
        assert!(running.is_running(), "{options}");
        let ended = running.interrupt();
        assert_eq!(ended.code, 0, "{options}: {}", ended.stderr);
    }
}

#[test]
fn a_postgres_table_is_joined_and_looked_up() {
    let Some(mut server) = Server::start() else { return };
    server.run("CREATE TABLE names AS SELECT i::bigint AS id, 'name ' || i AS name FROM generate_series(1, 50000) i");
    server.run("ALTER TABLE names ADD PRIMARY KEY (id)");
    for (options, is_looked_up) in [("'cache.refresh' = '1 hour'", false), ("'lookup' = 'always'", true)] {
        let folder = tempfile::tempdir().unwrap();
        let broker = TestBroker::start(folder.path());
        succeed(folder.path(), &["topic", "create", "ev", "--bootstrap", &broker.address, "--partitions", "1"]);
        broker.produce("ev", "{\"id\":7,\"n\":1}\n{\"id\":60000,\"n\":2}\n{\"id\":50000,\"n\":3}\n");
        let url = server.url();
        let reference = format!(
            "USING postgres OPTIONS (url '{url}', user '{USER}', password '${{env:NAMES_PASSWORD}}', {options})"
        );
        fs::write(folder.path().join("q.sql"), pipeline(&broker.address, &reference)).unwrap();
        let arguments = ["run", "q.sql", "--storage", "st", "--trigger", "available-now"];
        let ran = highwater(folder.path(), &arguments).env("NAMES_PASSWORD", PASSWORD).output().unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        assert_eq!(named(folder.path(), 3), ["1,name 7", "2,-", "3,name 50000"]);
        let progress = succeed(folder.path(), &["query", "show", "named", "--storage", "st"]);
        assert_eq!(progress.contains("numKeysAsked"), is_looked_up, "{progress}");
        assert!(!is_in_a_file(folder.path(), PASSWORD), "the password is in a file");
        server.restart();
    }
}

/// Whether a text stands in a file below a folder.
fn is_in_a_file(folder: &Path, text: &str) -> bool {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).any(|path| match path.is_dir() {
        true => is_in_a_file(&path, text),
        false => fs::read(&path).unwrap().windows(text.len()).any(|window| window == text.as_bytes()),
    })
}

/// A batch that fails in the middle, because of a row of a static table: what a replay sees of the table is what it has
/// then, and what is committed stays. `change` gives rows of the table `refs (id, v, name)` new values.
fn a_replay_sees_the_table_as_it_is(reference: &str, change: impl Fn(&Path, &str, &[(u32, u32, &str)])) {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    change(folder, "first", &[(1, 10, "Anna"), (2, 0, "Bert")]);
    fs::create_dir(folder.join("in")).unwrap();
    fs::write(folder.join("in/0.json"), "{\"id\":1,\"n\":1}\n{\"id\":2,\"n\":2}\n{\"id\":3,\"n\":3}\n").unwrap();
    let sql = format!(
        "CREATE TABLE ev (id BIGINT, n BIGINT) USING json OPTIONS (path 'in');
         CREATE TABLE refs (id BIGINT, v BIGINT, name STRING) {reference};
         CREATE SINK out USING sqlite OPTIONS (path 'out.db', table 'named');
         CREATE FLOW named AS INSERT INTO out
           SELECT e.n, CAST(100 / r.v AS BIGINT) AS x, r.name FROM STREAM ev e LEFT JOIN refs r ON e.id = r.id;
         CREATE TABLE named_rows (n BIGINT, x BIGINT, name STRING) USING sqlite OPTIONS (path 'out.db', table 'named');"
    );
    fs::write(folder.join("q.sql"), sql).unwrap();
    let run = || -> Finished {
        let arguments = ["run", "q.sql", "--storage", "st", "--trigger", "available-now", "-q"];
        highwater(folder, &arguments).env("PG_PASSWORD", PASSWORD).output().unwrap().into()
    };
    let rows = || -> Vec<String> {
        let query = "SELECT n, x, name FROM named_rows ORDER BY n";
        let shown = succeed(folder, &["sql", query, "--storage", "st", "--output", "csv"]);
        shown.lines().skip(1).map(str::to_owned).collect()
    };
    // The range of the batch is written; the same table gives the same answer at each start.
    for _ in 0..2 {
        let failed = run();
        assert!(failed.code != 0 && failed.stderr.contains("DIVIDE_BY_ZERO"), "{reference}: {}", failed.stderr);
    }
    change(folder, "second", &[(1, 20, "Annette"), (2, 5, "Bert")]);
    let ran = run();
    assert_eq!(ran.code, 0, "{reference}: {}", ran.stderr);
    let first = ["1,5,Annette", "2,20,Bert", "3,,"];
    assert_eq!(rows(), first, "{reference}");
    // A change later is of later batches.
    change(folder, "third", &[(1, 50, "Anja")]);
    fs::write(folder.join("in/1.json"), "{\"id\":1,\"n\":4}\n").unwrap();
    assert_eq!(run().code, 0);
    assert_eq!(rows(), [&first[..], &["4,2,Anja"]].concat(), "{reference}");
}

#[test]
fn a_batch_that_is_run_again_sees_a_delta_table_as_it_is_then() {
    let change = |folder: &Path, run: &str, rows: &[(u32, u32, &str)]| {
        let line = |(id, v, name): &(u32, u32, &str)| format!("{{\"id\":{id},\"v\":{v},\"name\":\"{name}\"}}\n");
        fs::create_dir_all(folder.join(run)).unwrap();
        fs::write(folder.join(run).join("refs.json"), rows.iter().map(line).collect::<String>()).unwrap();
        let sql = format!(
            "CREATE TABLE given (id BIGINT, v BIGINT, name STRING) USING json OPTIONS (path '{run}');
             CREATE SINK refs USING delta OPTIONS (path 'refs', outputMode 'update');
             CREATE FLOW f AS INSERT INTO refs SELECT id, max(v) AS v, max(name) AS name FROM STREAM given GROUP BY id"
        );
        succeed(folder, &["run", "-e", &sql, "--storage", &format!("{run}-storage"), "--trigger", "available-now"]);
    };
    for options in ["", ", 'cache.refresh' = '1 hour'", ", 'lookup' = 'always'"] {
        a_replay_sees_the_table_as_it_is(&format!("USING delta OPTIONS (path 'refs'{options})"), change);
    }
}

#[test]
fn a_batch_that_is_run_again_sees_a_postgres_table_as_it_is_then() {
    let Some(server) = Server::start() else { return };
    for options in ["", ", 'cache.refresh' = '1 hour'", ", 'lookup' = 'always'"] {
        server.run("DROP TABLE IF EXISTS refs; CREATE TABLE refs (id bigint PRIMARY KEY, v bigint, name text)");
        let change = |_: &Path, _: &str, rows: &[(u32, u32, &str)]| {
            for (id, v, name) in rows {
                let values = format!("INSERT INTO refs VALUES ({id}, {v}, '{name}')");
                server.run(&format!("{values} ON CONFLICT (id) DO UPDATE SET v = {v}, name = '{name}'"));
            }
        };
        let reference = format!(
            "USING postgres OPTIONS (url '{}', user '{USER}', password '${{env:PG_PASSWORD}}', dbtable 'refs'{options})",
            server.url()
        );
        a_replay_sees_the_table_as_it_is(&reference, change);
    }
}
