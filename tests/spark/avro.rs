//! Avro in topics on both engines: what either has written the other reads, and both make the same rows of it.

use std::fs;
use std::path::{Path, PathBuf};

use super::{difference, json_rows, run_on_both, run_on_spark, spark_rows, unique};
use crate::broker::TestBroker;
use crate::program::succeed;

const COLUMNS: &str = "id BIGINT, name STRING, small TINYINT, price DECIMAL(10,2), day DATE, at TIMESTAMP, local TIMESTAMP_NTZ, \
    ratio FLOAT, ok BOOLEAN, data BINARY, tags ARRAY<STRING>, props MAP<STRING, DOUBLE>, place STRUCT<x: DOUBLE, y: STRING>, \
    deep ARRAY<STRUCT<n: INT, m: DECIMAL(20,3)>>";

/// Rows as JSON, by which both engines begin.
const ROWS: &str = r#"{"id":1,"name":"é漢","small":-128,"price":12.34,"day":"2024-02-29","at":"2024-01-02T03:04:05.678901Z","local":"2024-01-02T03:04:05.000001","ratio":1.5,"ok":true,"data":"AP8=","tags":["a",null],"props":{"k":0.25},"place":{"x":1.0,"y":"z"},"deep":[{"n":1,"m":1.125},null,{"m":-3}]}
{"id":-9223372036854775808,"name":"","small":127,"price":-0.01,"day":"1969-12-31","at":"1969-12-31T23:59:59.999999Z","local":"1900-01-01T00:00:00","ratio":-0.0,"ok":false,"data":"","tags":[],"props":{},"place":{},"deep":[]}
{"id":3}
{}
"#;

/// A project of these statements; `TABLE` is the name of its table, which no other run has.
fn project(folder: &Path, name: &str, sql: &str) -> PathBuf {
    let project = folder.join(name);
    fs::create_dir_all(project.join("transformations")).unwrap();
    let yml = format!(
        "name: {name}\nstorage: file://{}/storage\nlibraries: [{{glob: {{include: transformations/**}}}}]\n",
        project.display()
    );
    fs::write(project.join("spark-pipeline.yml"), yml).unwrap();
    fs::write(project.join("highwater.yml"), "default_format: json\n").unwrap();
    fs::write(project.join("transformations/all.sql"), sql).unwrap();
    project
}

fn kafka(broker: &TestBroker, more: &str) -> String {
    format!(
        "USING kafka OPTIONS ('kafka.bootstrap.servers' = '{}', startingOffsets = 'earliest', {more})",
        broker.address
    )
}

/// A project that writes the rows of the topic `rows` as Avro into another.
fn writer(folder: &Path, broker: &TestBroker, topic: &str, more: &str) -> PathBuf {
    let from = kafka(broker, "subscribe = 'rows', 'value.format' = 'json'");
    let to = kafka(broker, &format!("topic = '{topic}', 'value.format' = 'avro'{more}"))
        .replace("startingOffsets = 'earliest', ", "");
    let sql = format!(
        "CREATE TABLE rows ({COLUMNS}) {from};\nCREATE SINK out ({COLUMNS}) {to};\nCREATE FLOW copy AS INSERT INTO out BY NAME \
         SELECT * FROM STREAM rows;\n"
    );
    project(folder, &format!("write-{topic}"), &sql)
}

/// What both engines make of the values of a topic; they must agree.
fn read_on_both(folder: &Path, broker: &TestBroker, topic: &str, columns: &str, more: &str) -> Vec<String> {
    let table = unique(topic);
    let from = kafka(broker, &format!("subscribe = '{topic}', 'value.format' = 'avro'{more}"));
    let sql = format!(
        "CREATE TABLE vals ({columns}) {from};\nCREATE STREAMING TABLE {table} AS SELECT * FROM STREAM vals;\n"
    );
    let project = project(folder, &table, &sql);
    run_on_both(folder, project.to_str().unwrap(), &["spark.sql.sources.default=json"]);
    let (here, spark) = (json_rows(&project.join("storage/tables").join(&table)), spark_rows(&table));
    assert!(here == spark, "{topic}:\n{}", difference(&here, &spark));
    here
}

/// The values of a topic, as hexadecimal digits.
fn values(folder: &Path, broker: &TestBroker, topic: &str) -> Vec<String> {
    let table = kafka(broker, &format!("subscribe = '{topic}'"));
    let sql = format!(
        "CREATE TABLE t {table};\nCREATE STREAMING TABLE h USING json AS SELECT hex(value) AS h FROM STREAM t;"
    );
    let project = project(folder, &format!("hex-{topic}"), &sql);
    succeed(folder, &["run", project.to_str().unwrap(), "--trigger", "available-now"]);
    json_rows(&project.join("storage/tables/h"))
}

/// By place the query's names say nothing, by name it may leave columns out, and its types are not those of the sink.
#[test]
#[ignore = "needs a Spark cluster: make spark-test"]
fn rows_get_the_names_and_types_of_the_sink() {
    let folder = tempfile::tempdir().unwrap();
    let broker = TestBroker::start(folder.path());
    broker.produce("rows", "{\"a\":\"x\",\"b\":\"y\",\"n\":1}\n{\"a\":\"z\"}\n");
    let from = kafka(&broker, "subscribe = 'rows', 'value.format' = 'json'");
    for format in ["avro", "json"] {
        for (engine, is_spark) in [("here", false), ("spark", true)] {
            let sink = |name: &str| {
                let options =
                    format!("topic = '{format}-{name}-{engine}', 'value.format' = '{format}', 'key.column' = 'b'");
                let to = kafka(&broker, &options).replace("startingOffsets = 'earliest', ", "");
                format!("CREATE SINK {name} (a STRING, b STRING, n DECIMAL(10,2)) {to};\n")
            };
            let sql = format!(
                "CREATE TABLE rows (a STRING, b STRING, n INT) {from};\n{}{}\
                 CREATE FLOW f AS INSERT INTO place SELECT b, a, n + 1 FROM STREAM rows;\n\
                 CREATE FLOW g AS INSERT INTO name BY NAME SELECT n, b FROM STREAM rows;\n",
                sink("place"),
                sink("name")
            );
            let project = project(folder.path(), &format!("align-{format}-{engine}"), &sql);
            if is_spark {
                let finished = run_on_spark(folder.path(), project.to_str().unwrap(), &[]);
                assert_eq!(finished.code, 0, "{}", finished.stderr);
            } else {
                succeed(folder.path(), &["run", project.to_str().unwrap(), "--trigger", "available-now"]);
            }
        }
        for name in ["place", "name"] {
            let [here, spark] =
                ["here", "spark"].map(|engine| values(folder.path(), &broker, &format!("{format}-{name}-{engine}")));
            assert_eq!((here.len(), &here), (2, &spark), "{format} {name}");
        }
    }
}

/// A tombstone is a row of nulls in every mode, also where values have a frame.
#[test]
#[ignore = "needs a Spark cluster: make spark-test"]
fn a_tombstone_is_not_malformed() {
    let folder = tempfile::tempdir().unwrap();
    let broker = TestBroker::start(folder.path());
    broker.produce("rows", "{\"a\":\"x\"}\n");
    let from = kafka(&broker, "subscribe = 'rows', 'value.format' = 'json'");
    let to = kafka(&broker, "topic = 'gone'").replace("startingOffsets = 'earliest', ", "");
    let sql = format!(
        "CREATE TABLE rows (a STRING) {from};\nCREATE SINK out {to};\n\
         CREATE FLOW f AS INSERT INTO out SELECT a AS key, CAST(NULL AS STRING) AS value FROM STREAM rows;\n"
    );
    let writer = project(folder.path(), "gone", &sql);
    succeed(folder.path(), &["run", writer.to_str().unwrap(), "--trigger", "available-now"]);
    for framing in ["", ", 'avro.confluent' = 'true', 'avro.schema.id' = '7'"] {
        let more = format!(", mode = 'FAILFAST'{framing}");
        let rows = read_on_both(folder.path(), &broker, "gone", "_key STRING, n BIGINT", &more);
        assert_eq!(rows.len(), 1, "{rows:?}");
        assert!(rows[0].contains(r#""_key":"x""#) && !rows[0].contains("\"n\":1"), "{rows:?}");
    }
}

#[test]
#[ignore = "needs a Spark cluster: make spark-test"]
fn avro_values_are_the_same_on_both_engines() {
    let folder = tempfile::tempdir().unwrap();
    let broker = TestBroker::start(folder.path());
    broker.produce("rows", ROWS);
    let here = writer(folder.path(), &broker, "here", "");
    succeed(folder.path(), &["run", here.to_str().unwrap(), "--trigger", "available-now"]);
    let spark = writer(folder.path(), &broker, "spark", "");
    let finished = run_on_spark(folder.path(), spark.to_str().unwrap(), &[]);
    assert_eq!(finished.code, 0, "{}", finished.stderr);

    let of_here = read_on_both(folder.path(), &broker, "here", COLUMNS, "");
    assert_eq!(of_here.len(), ROWS.lines().count());
    assert!(of_here[0].contains("1.125") || of_here.iter().any(|row| row.contains("1.125")), "{of_here:?}");
    let of_spark = read_on_both(folder.path(), &broker, "spark", COLUMNS, "");
    assert!(of_here == of_spark, "{}", difference(&of_here, &of_spark));
    // The very bytes are the same.
    assert_eq!(values(folder.path(), &broker, "here"), values(folder.path(), &broker, "spark"));
}

/// Columns that a writer did not know, others that nobody asks for, a wider number, five bytes in front, and a value that is
/// none of it.
#[test]
#[ignore = "needs a Spark cluster: make spark-test"]
fn columns_read_what_an_older_writer_wrote() {
    let folder = tempfile::tempdir().unwrap();
    let broker = TestBroker::start(folder.path());
    broker.produce("rows", ROWS);
    let schema = r#"{"type":"record","name":"event","namespace":"shop","fields":[
        {"name":"at","type":["null",{"type":"long","logicalType":"timestamp-millis"}]},{"name":"id","type":["null","long"]},
        {"name":"small","type":["int","null"]},{"name":"name","type":["null","string"],"default":null},
        {"name":"place","type":["null",{"type":"record","name":"place","fields":[
            {"name":"x","type":["double","null"]},{"name":"y","type":["null","string"]}]}]}]}"#;
    fs::write(folder.path().join("event.avsc"), schema).unwrap();
    let given = format!(
        ", 'avro.schema' = '{}/event.avsc', 'avro.confluent' = 'true', 'avro.schema.id' = '7'",
        folder.path().display()
    );
    let from = kafka(&broker, "subscribe = 'rows', 'value.format' = 'json'");
    let to = kafka(&broker, &format!("topic = 'old', 'value.format' = 'avro'{given}"))
        .replace("startingOffsets = 'earliest', ", "");
    let sql = format!(
        "CREATE TABLE rows ({COLUMNS}) {from};\nCREATE SINK out {to};\nCREATE FLOW copy AS INSERT INTO out BY NAME \
         SELECT id, name, small, place, at FROM STREAM rows;\n"
    );
    let here = project(folder.path(), "old", &sql);
    succeed(folder.path(), &["run", here.to_str().unwrap(), "--trigger", "available-now"]);
    let finished = run_on_spark(folder.path(), here.to_str().unwrap(), &[]);
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    broker.produce("old", "no Avro\n");

    let columns = "small BIGINT, more STRING, place STRUCT<y: STRING, z: INT>, at TIMESTAMP, _offset BIGINT";
    let rows = read_on_both(folder.path(), &broker, "old", columns, &given);
    // Both have written all rows, and what is malformed is a row of nulls.
    assert_eq!(rows.len(), 2 * ROWS.lines().count() + 1);
    assert_eq!(rows.iter().filter(|row| row.contains(r#""small":-128"#)).count(), 2, "{rows:?}");
}
