//! Every mistake says what was found, what was expected and what to do; word for word.

use std::fs;
use std::path::Path;

use crate::broker::TestBroker;
use crate::program::{Finished, run, succeed};

/// Runs `arguments` in an empty folder and compares exit code and stderr.
fn check(arguments: &[&str], code: i32, stderr: &str) {
    let folder = tempfile::tempdir().unwrap();
    let finished = run(folder.path(), arguments);
    assert_eq!((finished.code, finished.stderr.as_str()), (code, stderr), "{arguments:?}");
    assert_eq!(finished.stdout, "", "errors are not data");
}

#[test]
fn an_unreachable_broker() {
    check(
        &["topic", "list", "--bootstrap", "127.0.0.1:1"],
        1,
        "error: no Kafka broker answers at 127.0.0.1:1: Connection refused\nhelp: start one with 'highwater broker \
         --listen 127.0.0.1:1', or name another with --bootstrap\n",
    );
}

#[test]
fn a_sum_that_does_not_fit_its_type() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("highwater-data")).unwrap();
    let of = |sum: &str, from: &str| format!("SELECT {sum} AS s FROM VALUES {from} AS t(k, x)");
    let whole = "(1, 9223372036854775807L), (1, 1L)";
    let decimal = "(1, 99999999999999999999999999999999999999BD), (1, 1BD)";
    for (sum, from, rest) in
        [("sum(x)", whole, ""), ("sum(x)", whole, " GROUP BY k"), ("sum(x)", decimal, " GROUP BY k")]
    {
        let finished = run(folder.path(), &["sql", &format!("{}{rest}", of(sum, from))]);
        assert_eq!(finished.code, 1, "{}", finished.stderr);
        assert!(finished.stderr.contains("use try_sum to get NULL"), "{}", finished.stderr);
    }
    let tried = succeed(folder.path(), &["sql", &of("try_sum(x)", whole), "--output", "csv"]);
    assert_eq!(tried, "s\n\n");
}

#[test]
fn a_client_property_that_does_not_exist() {
    check(
        &["topic", "list", "-X", "fetch.speed=fast"],
        2,
        "error: Kafka client property fetch.speed=fast is refused: No such configuration property: \
         \"fetch.speed\"\nhelp: see librdkafka's CONFIGURATION.md for the properties there are\n",
    );
}

#[test]
fn a_log_filter_that_is_none() {
    check(
        &["--log", "highwater=loud", "completions", "bash"],
        2,
        "error: log filter 'highwater=loud' is not understood: error parsing level filter: expected one of \"off\", \"error\", \"warn\", \"info\", \"debug\", \"trace\", or a number 0-5\nhelp: use error, warn, info, \
         debug, trace, or a list such as warn,highwater_broker=debug\n",
    );
}

#[test]
fn a_verb_that_is_nearly_right() {
    let folder = tempfile::tempdir().unwrap();
    let finished = run(folder.path(), &["topik", "list"]);
    assert_eq!(finished.code, 2);
    assert!(finished.stderr.contains("'topic'"), "{}", finished.stderr);
}

/// Runs the program `sql`, as the file q.sql, over what is in `folder`.
fn run_sql(folder: &Path, sql: &str) -> Finished {
    fs::write(folder.join("q.sql"), sql).unwrap();
    run(folder, &["run", "q.sql", "--storage", "st", "--trigger", "available-now"])
}

/// Compares exit code and stderr of a program in an empty folder.
fn check_sql(sql: &str, code: i32, stderr: &str) {
    let folder = tempfile::tempdir().unwrap();
    let finished = run_sql(folder.path(), sql);
    assert_eq!((finished.code, finished.stderr.as_str()), (code, stderr), "{sql}");
    assert_eq!(finished.stdout, "", "errors are not data");
}

#[test]
fn a_query_without_its_broker() {
    let topic = "USING kafka OPTIONS (kafka.bootstrap.servers '127.0.0.1:1', 'value.format' = 'json'";
    let stderr = |query: &str| {
        format!(
            "error: query '{query}': Kafka broker 127.0.0.1:1 cannot be reached: Connection refused (os error 111)\nhelp: \
             check the option 'kafka.bootstrap.servers' and that the broker is running; `highwater broker` starts one on \
             this machine\n"
        )
    };
    let reads = format!(
        "CREATE TABLE ev (id STRING) {topic}, subscribe 't');\nCREATE STREAMING TABLE a AS SELECT id FROM STREAM ev;"
    );
    check_sql(&reads, 1, &stderr("a"));
    let writes = format!(
        "CREATE TABLE n USING rate OPTIONS (rowsPerSecond '1');\nCREATE SINK s {topic}, topic 't');
         CREATE FLOW f AS INSERT INTO s SELECT CAST(value AS STRING) AS id FROM STREAM n;"
    );
    check_sql(&writes, 1, &stderr("f"));
}

#[test]
fn a_query_of_a_topic_that_does_not_exist() {
    let folder = tempfile::tempdir().unwrap();
    let broker = TestBroker::start(folder.path());
    let address = &broker.address;
    let sql = format!(
        "CREATE TABLE ev (id STRING) USING kafka OPTIONS (
            kafka.bootstrap.servers '{address}', subscribe 'evnts', 'value.format' = 'json');
         CREATE STREAMING TABLE a AS SELECT id FROM STREAM ev;"
    );
    let check = |help: &str| {
        let finished = run_sql(folder.path(), &sql);
        let error = format!("error: query 'a': Kafka topic 'evnts' does not exist on {address}\nhelp: {help}\n");
        assert_eq!((finished.code, finished.stderr), (3, error));
    };
    let create = format!("create it: highwater topic create evnts --bootstrap {address}");
    check(&create);
    succeed(folder.path(), &["topic", "create", "events", "--bootstrap", address]);
    check(&format!("did you mean 'events'? Otherwise {create}"));
    // The help does what it says.
    succeed(folder.path(), &["topic", "create", "evnts", "--bootstrap", address]);
    assert_eq!(run_sql(folder.path(), &sql).code, 0);
}

#[test]
fn a_stream_over_a_delta_table_that_nobody_writes() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().canonicalize().unwrap();
    let sql = "CREATE TABLE d (id STRING) USING delta OPTIONS (path 'nowhere');
         CREATE STREAMING TABLE a AS SELECT id FROM STREAM d;";
    let finished = run_sql(&folder, sql);
    let error = format!(
        "error: query 'a': table d (USING delta): '{}' is no Delta table, it has no _delta_log\nhelp: check the path; a \
         table is created by the first batch that is written to it\n",
        folder.join("nowhere").display()
    );
    assert_eq!((finished.code, finished.stderr), (1, error));
}

#[test]
fn options_that_do_not_exist() {
    let query = "CREATE STREAMING TABLE a AS SELECT id FROM STREAM ev;";
    check_sql(
        &format!(
            "CREATE TABLE ev (id STRING) USING kafka OPTIONS (kafka.bootstrap.servers 'h:1', subscrib 't');\n{query}"
        ),
        3,
        "error: table ev (USING kafka) has no option of the name 'subscrib'\n  --> q.sql\nhelp: did you mean 'subscribe'?\n",
    );
    check_sql(
        &format!("CREATE TABLE ev (id STRING) USING json OPTIONS (path 'in', maxFilesPerTriger '1');\n{query}"),
        3,
        "error: table ev (USING json) has no option of the name 'maxFilesPerTriger'\n  --> q.sql\nhelp: did you mean \
         'maxFilesPerTrigger'?\n",
    );
    check_sql(
        &format!("CREATE TABLE ev (id STRING) USING jsn OPTIONS (path 'in');\n{query}"),
        3,
        "error: there is no connector for USING jsn\n  --> q.sql\nhelp: did you mean 'json'?\n",
    );
}

#[test]
fn sql_that_is_broken() {
    let table = "CREATE TABLE ev (id STRING, n BIGINT) USING json OPTIONS (path 'in');";
    check_sql(
        &format!("{table}\nCREATE STREAMING TABLE a AS\nSELECT id, count(*) AS n FROM STREAM evv GROUP BY id;"),
        3,
        "error: table or view 'evv' is not defined\n  --> q.sql:3:38\n   |\n 3 | SELECT id, count(*) AS n FROM STREAM evv GROUP BY \
         id;\n   |                                      ^^^\nhelp: did you mean 'ev'?\n",
    );
    check_sql(
        &format!("{table}\nCREATE STREAMING TABLE a AS\n  SELECT idd FROM STREAM ev;"),
        3,
        "error: column 'idd' cannot be resolved\n  --> q.sql:3:10\n   |\n 3 |   SELECT idd FROM STREAM ev;\n   |          \
         ^^^\nhelp: did you mean 'id'?\n",
    );
    check_sql(
        &format!("{table}\nCREATE STREAMING TABLE a AS\n  SELECT id, n, count(*) AS c FROM STREAM ev GROUP BY id;"),
        3,
        "error: column 'n' is neither in GROUP BY nor within an aggregate function\n  --> q.sql:3:14\n   |\n 3 |   SELECT id, n, \
         count(*) AS c FROM STREAM ev GROUP BY id;\n   |              ^\nhelp: add it to GROUP BY, or take one of its \
         values: any_value(n), max(n)\n",
    );
    check_sql(
        "CREATE TABLE ev USING rate-micro-batch OPTIONS (rowsPerBatch '1');",
        3,
        "error: the format rate-micro-batch has a dash, which a name without backticks cannot have\n  --> q.sql:1:23\n   |\n \
         1 | CREATE TABLE ev USING rate-micro-batch OPTIONS (rowsPerBatch '1');\n   |                       ^^^^\nhelp: write \
         USING `rate-micro-batch`\n",
    );
    let check = |query: &str, error: &str, column: usize, length: usize| {
        let statement = format!("CREATE STREAMING TABLE a AS {query};");
        let carets = format!("{}{}", " ".repeat(column - 1), "^".repeat(length));
        let stderr = format!("error: {error}\n  --> q.sql:2:{column}\n   |\n 2 | {statement}\n   | {carets}\n");
        check_sql(&format!("{table}\n{statement}"), 3, &stderr);
    };
    check("SELEC id FROM STREAM ev", "expected SELECT, VALUES, or a subquery in the query body, found SELEC", 29, 5);
    check("SELECT id FROM STREAM ev WHERE n >", "expected an expression, found the end of the query", 63, 1);
    check("SELECT id, FROM STREAM ev", "expected an expression, found FROM", 40, 4);
    check("SELECT count(* FROM STREAM ev", "expected ), found FROM", 44, 4);
    check("SELECT 'abc FROM STREAM ev", "the SQL text cannot be split into words: Unterminated string literal", 36, 1);
}

const SHOP: &str = "CREATE TABLE ev (id STRING, kind STRING) USING json OPTIONS (path 'in');
    CREATE TABLE other (id STRING, kind STRING) USING json OPTIONS (path 'in');
    CREATE SINK out USING sqlite OPTIONS (path 'out.db', table 't', outputMode 'update');
    CREATE FLOW f AS INSERT INTO out SELECT kind, count(*) AS n FROM STREAM ev GROUP BY kind;";

#[test]
fn a_checkpoint_of_another_query() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().canonicalize().unwrap();
    fs::create_dir(folder.join("in")).unwrap();
    fs::write(folder.join("in/1.json"), "{\"id\":\"1\",\"kind\":\"a\"}\n").unwrap();
    assert_eq!(run_sql(&folder, SHOP).code, 0);
    let checkpoint = folder.join("st/checkpoints/f").display().to_string();
    let table = || succeed(&folder, &["sql", "SELECT * FROM out", "--storage", "st", "--output", "csv"]);
    let before = table();
    let check = |what: (&str, &str), code: i32, error: &str, help: &str| {
        let finished = run_sql(&folder, &SHOP.replace(what.0, what.1));
        assert_eq!((finished.code, finished.stderr), (code, format!("error: query 'f'{error}\nhelp: {help}\n")));
    };
    check(
        ("GROUP BY kind", "GROUP BY kind, id"),
        3,
        &format!(
            " was changed: the state of operator 'aggregate-0' does not fit: its keys were kind, and are kind, id \
             (checkpoint '{checkpoint}')"
        ),
        "run with --rebuild QUERY, which computes all its state anew from the input since its start, or give the query \
         another name or another --storage, so that it starts over",
    );
    check(
        ("STREAM ev", "STREAM other"),
        3,
        ": source 0 is 'other', but its checkpoint was written with 'ev'",
        "give the query another name or another --storage, so that it starts over",
    );
    check(
        ("USING sqlite OPTIONS (path 'out.db', table 't',", "USING delta OPTIONS (path 'out',"),
        3,
        &format!(
            ": checkpoint '{checkpoint}' belongs to query 'f' writing to sink out (USING sqlite), expected query 'f' \
             writing to sink out (USING delta)"
        ),
        "give the query another name or another --storage, or delete the checkpoint to start over",
    );
    check(
        ("table 't'", "table 't2'"),
        1,
        &format!(
            " cannot go on from checkpoint '{checkpoint}': batch 0 is committed, but the sink has no batch of this query"
        ),
        "the target is another one than before, was emptied or was restored from a backup: go back to the old target, \
         restore the checkpoint of the same time, or give the query another name or another --storage, so that it starts \
         over",
    );
    // Nothing of it did any harm: the query as it was goes on.
    assert_eq!(run_sql(&folder, SHOP).code, 0);
    assert_eq!(table(), before);
}

#[test]
fn settings_of_a_flow_that_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    succeed(folder.path(), &["init", "shop"]);
    let settings = folder.path().join("shop/highwater.yml");
    let mut text = fs::read_to_string(&settings).unwrap();
    text.push_str("\nflows:\n  orders_by_the_mintue:\n    output_mode: update\n");
    fs::write(settings, text).unwrap();
    let finished = run(folder.path(), &["validate", "shop"]);
    assert_eq!(finished.code, 3, "{}", finished.stderr);
    let expected = "there are settings for flow 'orders_by_the_mintue', but no flow of that name";
    assert!(finished.stderr.contains(expected), "{}", finished.stderr);
}
