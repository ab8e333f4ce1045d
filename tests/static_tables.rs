//! Streams joined with reference data that changes, through the binary.

use std::fs;
use std::path::Path;

use crate::broker::TestBroker;
use crate::postgres_server::{PASSWORD, Server, USER};
use crate::program::{Running, eventually, highwater, succeed};

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
