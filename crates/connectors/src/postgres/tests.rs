//! PostgreSQL tables, read from a real server.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::logical_expr::{Expr, col, lit};
use highwater_engine::error::EngineError;
use highwater_engine::plan::catalog::{Connector, Options, Table, TableDefinition};

use super::PostgresConnector;
use super::server::{PASSWORD, Server, USER};
use crate::contract::{drain, select};

fn definition(options: &[(&str, &str)], schema: Option<SchemaRef>) -> TableDefinition {
    let options: Options = options.iter().copied().collect();
    TableDefinition {
        name: "t".to_owned(),
        format: "postgres".to_owned(),
        schema,
        options,
        partition_columns: Vec::new(),
    }
}

fn open(server: &Server, more: &[(&str, &str)], schema: Option<SchemaRef>) -> Result<Arc<dyn Table>, EngineError> {
    let url = server.url();
    let mut options = vec![("url", url.as_str()), ("user", USER), ("password", PASSWORD)];
    // The last value wins.
    options.extend(more);
    PostgresConnector.table(&definition(&options, schema))
}

fn told(error: EngineError) -> String {
    let help = error.next_step().map(|help| format!("; {help}")).unwrap_or_default();
    format!("{error}{help}")
}

fn refused(opened: Result<Arc<dyn Table>, EngineError>) -> String {
    match opened {
        Ok(_) => "accepted".to_owned(),
        Err(error) => told(error),
    }
}

const TYPES: &str = "
    CREATE TYPE mood AS ENUM ('sad', 'ok');
    CREATE DOMAIN positive AS integer CHECK (VALUE > 0);
    CREATE TABLE t (id integer, small smallint, big bigint, is_ok boolean, r real, d double precision, txt text,
        v varchar(10), c char(3), raw bytea, day date, local timestamp, at timestamptz, price numeric(10, 2), loose numeric,
        doc jsonb, u uuid, m mood, p positive, gap interval, clock time, tags text[]);
    INSERT INTO t VALUES (1, -2, 9007199254740993, true, 1.5, -0.1, 'héllo', 'v', 'c', '\\x00ff', '2024-02-29',
        '2024-02-29 12:34:56.789012', '2024-02-29 12:34:56.789012+02', -12345678.90, 1.5, '{\"a\": [1, null]}',
        'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', 'ok', 7, '1 day 02:00', '12:34', '{a,b}');
    INSERT INTO t (id) VALUES (2);
    INSERT INTO t (id, day, local, at) VALUES (3, 'infinity', '-infinity', 'infinity');";

#[test]
fn each_type_has_its_form() {
    let Some(server) = Server::start() else { return };
    server.run(TYPES);
    let table = open(&server, &[], None).expect("a table");
    let schema = table.schema();
    let types: Vec<String> = schema
        .fields()
        .iter()
        .map(|field| format!("{} {}", field.name(), highwater_engine::plan::ddl::type_name(field.data_type())))
        .collect();
    let expected = "id INT, small SMALLINT, big BIGINT, is_ok BOOLEAN, r FLOAT, d DOUBLE, txt STRING, v STRING, c STRING, \
                    raw BINARY, day DATE, local TIMESTAMP_NTZ, at TIMESTAMP, price DECIMAL(10,2), loose DECIMAL(38,18), \
                    doc STRING, u STRING, m STRING, p INT, gap STRING, clock STRING";
    assert_eq!(types.join(", "), expected);
    let expected = [
        "1 -2 9007199254740993 true 1.5 -0.1 héllo v c   00ff 2024-02-29 2024-02-29T12:34:56.789012 \
         2024-02-29T10:34:56.789012Z -12345678.90 1.500000000000000000 {\"a\": [1, null]} \
         a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11 ok 7 1 day 02:00:00 12:34:00",
        &format!("2{}", " null".repeat(20)),
    ];
    assert_eq!(select(table.as_ref(), "SELECT * FROM t WHERE id < 3"), expected);
    let infinite = select(table.as_ref(), "SELECT day, local, at FROM t WHERE id = 3");
    assert_eq!(infinite, ["9999-12-31 0001-01-01T00:00:00 9999-12-31T23:59:59.999999Z"]);
    assert_eq!(select(table.as_ref(), "SELECT count(*) FROM t WHERE day = DATE '9999-12-31'"), ["1"]);
    let declared = |columns: &[(&str, DataType)]| {
        let fields: Vec<Field> =
            columns.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), true)).collect();
        open(&server, &[("query", "SELECT * FROM t WHERE id = 1;")], Some(Arc::new(Schema::new(fields))))
            .expect("a table")
    };
    let table = declared(&[("PRICE", DataType::Utf8), ("id", DataType::Int64), ("day", DataType::Utf8)]);
    assert_eq!(select(table.as_ref(), "SELECT * FROM t"), ["-12345678.90 1 2024-02-29"]);
    let check = |name: &str, data_type: DataType, expected: &str| {
        let mut readers = {
            let table = declared(&[(name, data_type)]);
            let schema = table.schema();
            vec![super::read::reader(database(&server, "t"), schema, Vec::new())]
        };
        let error = readers[0].next_batch().expect_err("refused");
        let said = told(error);
        assert!(said.starts_with(expected), "{said}");
    };
    check("txt", DataType::Int64, "column 'txt' of \"t\" has a value that is no Int64: ");
    check(
        "tags",
        DataType::Utf8,
        "column 'tags' of \"t\" has PostgreSQL's type _text, which cannot be read; read it as text: 'query' = 'SELECT ..., tags::text",
    );
    check("nme", DataType::Utf8, "\"t\" has no column 'nme' (USING postgres); it has: id, small, big");
}

fn database(server: &Server, table: &str) -> Arc<super::connection::Database> {
    let options = super::PostgresOptions {
        url: server.url(),
        user: Some(USER.to_owned()),
        password: Some(PASSWORD.to_owned()),
        relation: super::quoted_path(table),
        ssl_mode: None,
        ssl_root_cert: None,
        connect_timeout: std::time::Duration::from_secs(10),
        query_timeout: None,
    };
    Arc::new(super::connection::Database::new("table t (USING postgres)", options).expect("a database"))
}

#[test]
fn filters_are_the_servers() {
    let Some(server) = Server::start() else { return };
    server.run(
        "CREATE SCHEMA ref; CREATE TABLE ref.t (id bigint, name varchar(20), u uuid, day date, at timestamptz, price numeric(9, 2));
         INSERT INTO ref.t SELECT i, 'name ' || i, ('00000000-0000-0000-0000-' || lpad(i::text, 12, '0'))::uuid,
           date '2024-01-01' + i::int, timestamptz '2024-01-01 00:00:00Z' + i * interval '1 second', i / 4.0
         FROM generate_series(1, 20000) i",
    );
    let database = database(&server, "ref.t");
    let columns = super::columns::schema(&database.columns().expect("columns"));
    // How many rows come over, of twenty thousand.
    let check_all = |filters: &[Expr], expected: u64| {
        let text = filters.iter().map(|filter| filter.human_display().to_string()).collect::<Vec<_>>().join("; ");
        let schema = Arc::new(columns.project(&[0]).expect("a column"));
        let mut reader = super::read::reader(Arc::clone(&database), schema, filters.to_vec());
        while reader.next_batch().expect(&text).is_some() {}
        assert_eq!(reader.report().records, expected, "{text}");
    };
    let check = |filter: Expr, expected: u64| check_all(&[filter], expected);
    let strings = |texts: &[&str]| texts.iter().map(|text| lit(*text)).collect();
    check(col("id").in_list((1..5000_i64).map(lit).collect(), false), 4999);
    check(col("id").gt(lit(10_i64)).and(col("id").lt_eq(lit(12_i64))), 2);
    check(col("id").eq(lit(1_i64)).or(col("name").eq(lit("name 7"))), 2);
    check(col("name").in_list(strings(&["name 1", "name 20000", "x", "zero\0"]), false), 2);
    let uuids = ["00000000-0000-0000-0000-000000000005", "no uuid", "00000000-0000-0000-0000-00000000000F"];
    check(col("u").in_list(strings(&uuids), false), 1);
    check(col("price").eq(lit(datafusion::common::ScalarValue::Decimal128(Some(225), 9, 2))), 1);
    check(col("day").eq(lit(datafusion::common::ScalarValue::Date32(Some(19_724)))), 1);
    // Fewer digits than the server has are rounded here.
    check(col("price").eq(lit(datafusion::common::ScalarValue::Decimal128(Some(23), 9, 1))), 20_000);
    // Half of an OR is not for the server; what stands behind it has the first parameter.
    let half = col("id").eq(lit(1_i64)).or(col("name").gt(lit("name 5")));
    check_all(&[half, col("day").eq(lit(datafusion::common::ScalarValue::Date32(Some(19_724))))], 1);
    check(col("id").is_null(), 0);
    // Ranges of strings depend on collations, and what is no comparison is not for the server: all rows come.
    check(col("name").gt(lit("name 5")), 20_000);
    check((col("id") + lit(1_i64)).eq(lit(2_i64)), 20_000);
    let at = "SELECT id FROM t WHERE at = TIMESTAMP '2024-01-01T00:00:09Z' OR id = 3";
    let table = open(&server, &[("dbtable", "ref.t")], None).expect("a table");
    assert_eq!(select(table.as_ref(), at), ["3", "9"]);
    assert_eq!(select(table.as_ref(), "SELECT count(*), sum(id) FROM t"), ["20000 200010000"]);
    assert_eq!(select(table.as_ref(), "SELECT id FROM t LIMIT 1").len(), 1);
    let joined = open(&server, &[("dbtable", "(SELECT count(*) AS n FROM ref.t) AS q")], None).expect("a table");
    assert_eq!(select(joined.as_ref(), "SELECT n FROM t"), ["20000"]);
}

#[test]
fn a_server_that_was_restarted_is_found_again() {
    let Some(mut server) = Server::start() else { return };
    server.run("CREATE TABLE t (id integer); INSERT INTO t VALUES (1)");
    let table = open(&server, &[], None).expect("a table");
    assert_eq!(select(table.as_ref(), "SELECT id FROM t"), ["1"]);
    server.restart();
    assert_eq!(select(table.as_ref(), "SELECT id FROM t"), ["1"]);
    // A column that is new since is found by the query after the one that failed.
    server.run("ALTER TABLE t RENAME COLUMN id TO number");
    let read = || drain(vec![super::read::reader(database(&server, "t"), table.schema(), Vec::new())]);
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(read)).is_err());
    server.run("ALTER TABLE t RENAME COLUMN number TO id");
    assert_eq!(select(table.as_ref(), "SELECT id FROM t"), ["1"]);
}

#[test]
fn mistakes_are_told_with_a_way_out() {
    let Some(mut server) = Server::start() else { return };
    server.run(
        "CREATE TABLE secret (id integer); CREATE ROLE guest LOGIN PASSWORD 'guest-password'; CREATE SEQUENCE numbers",
    );
    let port = server.url();
    let place = port.trim_start_matches("postgresql://").trim_end_matches("/postgres").to_owned();
    let check = |more: &[(&str, &str)], expected: &str| {
        let said = refused(open(&server, more, None));
        assert_eq!(said, expected.replace("{place}", &place));
    };
    check(
        &[],
        "table t (USING postgres): the database has no \"t\": relation \"t\" does not exist; check 'dbtable' (schema.table), \
         and the database in 'url'",
    );
    check(
        &[("password", "wrong")],
        "table t (USING postgres): PostgreSQL at {place} does not let 'app' in: password authentication failed for user \
         \"app\"; check 'user', and what the reference in 'password' points to",
    );
    check(
        &[("url", &server.url().replace("/postgres", "/nowhere"))],
        "table t (USING postgres): PostgreSQL at {place}: database \"nowhere\" does not exist; check the database in 'url'",
    );
    check(
        &[("query", "SELEC 1")],
        "table t (USING postgres): PostgreSQL refuses the query: syntax error at or near \"1\"; check 'dbtable' or \
         'query', and the columns that the table declares",
    );
    // What only shows when rows are asked for.
    let check_read = |more: &[(&str, &str)], expected: &str| {
        let provider = open(&server, more, None).expect("a table").batch().expect("a provider");
        let context = datafusion::prelude::SessionContext::new();
        context.register_table("t", provider).expect("registered");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let read = runtime.block_on(async { context.sql("SELECT * FROM t").await.expect("planned").collect().await });
        assert_eq!(told(EngineError::from(read.expect_err("refused"))), expected);
    };
    check_read(
        &[("user", "guest"), ("password", "guest-password"), ("dbtable", "secret")],
        "table t (USING postgres): user 'guest' may not read \"secret\": permission denied for table secret; let the user read \
         it: GRANT SELECT ON ... TO ...",
    );
    check_read(
        &[("query", "SELECT nextval('numbers')")],
        "table t (USING postgres): PostgreSQL refuses the query: cannot execute nextval() in a read-only transaction; check \
         'dbtable' or 'query', and the columns that the table declares",
    );
    check_read(
        &[("query", "SELECT pg_sleep(60)::text"), ("queryTimeout", "1")],
        &format!("table t (USING postgres): PostgreSQL at {place}: canceling statement due to statement timeout"),
    );
    server.stop();
    let said = refused(open(&server, &[], None));
    let expected = format!("table t (USING postgres): PostgreSQL at {place} does not answer: ");
    assert!(said.starts_with(&expected) && said.ends_with("and that the server runs"), "{said}");
}

#[test]
fn addresses_that_are_not_taken() {
    let check = |options: &[(&str, &str)], expected: &str| {
        assert_eq!(refused(PostgresConnector.table(&definition(options, None))), expected);
    };
    check(
        &[],
        "table t (USING postgres) needs the option 'url'; add it: OPTIONS ('url' = 'postgresql://localhost:5432/shop')",
    );
    check(
        &[("url", "mysql://localhost/shop")],
        "table t (USING postgres): option 'url' does not begin with postgresql://, expected postgresql://host:5432/database",
    );
    check(
        &[("url", "postgresql://me:hunter2@localhost/shop")],
        "table t (USING postgres): option 'url' holds a user or a password, expected postgresql://host:5432/database; use the \
         options 'user' and 'password': OPTIONS ('user' = 'app', 'password' = '${env:PG_PASSWORD}')",
    );
    check(
        &[("url", "postgresql://localhost/shop?sslmode=allow")],
        "table t (USING postgres): option 'sslmode' is 'allow'; expected one of disable, prefer, require, verify-ca, verify-full",
    );
    check(
        &[("url", "postgresql://localhost/shop?sslmode=require"), ("sslmode", "disable")],
        "table t (USING postgres): option 'sslmode' is 'disable', and the url says 'require'; say it in one of them",
    );
    check(
        &[("url", "postgresql://localhost/shop"), ("dbtable", "a"), ("query", "SELECT 1")],
        "table t (USING postgres) has both 'dbtable' and 'query'; keep the one that says what is read",
    );
}
