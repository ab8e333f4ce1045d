//! `CREATE TABLE ... USING` as a temporary view of Spark's pipeline: the format read with its options, and expressions
//! over it that give the columns the table has here.
//!
//! ```text
//!   kafka with columns   read(key, value, ...) ─> from_json(CAST(value AS STRING), 'columns') ─> the columns
//!   ... and 'avro'       read(key, value, ...) ─> from_avro (avro.rs) ─> the columns, cast
//!   files with _file     read(columns)         ─> the columns, and the path out of _metadata
//!   everything else      read
//! ```
//!
//! A view and not a table of Spark's catalog: nothing is left behind, no name is taken, and no secret is stored.

use std::collections::BTreeMap;

use arrow::datatypes::{DataType, Schema};
use highwater_connectors::kafka::avro::AVRO_OPTIONS;
use highwater_engine::plan::ddl::schema_ddl;
use highwater_engine::plan::outline::OutlineTable;

use super::options::{self, KAFKA_REFUSED, is_in};
use super::{Problem, absolute_path, avro};

/// What Spark is told to read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct SourceRelation {
    /// Spark's name of the format.
    pub(crate) format: String,
    /// The columns the format gives, if they must be said.
    pub(crate) schema: Option<String>,
    /// Its options.
    pub(crate) options: BTreeMap<String, String>,
    /// Where its files are.
    pub(crate) paths: Vec<String>,
    /// Lists of expressions, each over the rows of the one before.
    pub(crate) projections: Vec<Vec<String>>,
}

/// The column of a file's path.
const FILE_COLUMN: &str = "_file";

/// Options of ours that say how a Kafka value becomes columns, which is said in `from_json` and `from_csv` there.
pub(super) const VALUE_OPTIONS: [&str; 6] =
    ["mode", "columnNameOfCorruptRecord", "timestampFormat", "timestampNTZFormat", "dateFormat", "sep"];

/// Options of ours for writing, which a table that is read may have beside.
const WRITE_OPTIONS: [&str; 4] = ["transactional", "visibility", "key.columns", "key.column"];

/// The table as Spark reads it.
pub(super) fn relation(table: &OutlineTable) -> Result<SourceRelation, Vec<Problem>> {
    let format = table.format.as_deref().unwrap_or_default();
    match format {
        "kafka" => kafka(table),
        "json" | "csv" | "text" | "parquet" => files(table, format),
        "delta" | "rate" | "rate-micro-batch" => plain(table, format),
        _ => Err(vec![Problem::at_format(table, format, way_out(format))]),
    }
}

fn way_out(format: &str) -> String {
    match format {
        "postgres" | "sqlite" => {
            "put its rows where both engines read them, into files or a Delta table, and read those".to_owned()
        }
        "memory" => "it is of one process of Highwater: read files or a topic instead".to_owned(),
        _ => "read kafka, json, csv, text, parquet, delta or rate".to_owned(),
    }
}

/// The options that Spark has; each other one is a problem, unless `ours` says that it is dealt with.
fn checked(table: &OutlineTable, format: &str, ours: &[&str]) -> Result<BTreeMap<String, String>, Vec<Problem>> {
    let resolved = table.options.resolved(&format!("table '{}'", table.name));
    let resolved =
        resolved.map_err(|error| vec![Problem::of(&table.name, error.to_string(), "set it, then try again")])?;
    let known = options::known(format);
    let (mut options, mut problems) = (BTreeMap::new(), Vec::new());
    for (key, value) in resolved.iter() {
        if let Some((_, help)) = KAFKA_REFUSED.iter().find(|(refused, _)| refused.eq_ignore_ascii_case(key)) {
            problems.push(Problem::at_option(key, format!("Spark's Kafka source refuses option '{key}'"), *help));
        } else if is_in(key, ours) {
            // Said in another way.
        } else if known.as_ref().is_none_or(|known| is_in(key, known))
            || (format == "kafka" && key.starts_with("kafka."))
        {
            options.insert(key.to_owned(), value.to_owned());
        } else {
            let message = format!("table '{}': Spark's {format} has no option '{key}'", table.name);
            problems.push(Problem::at_option(key, message, "leave it out, or run this table on Highwater alone"));
        }
    }
    if problems.is_empty() { Ok(options) } else { Err(problems) }
}

fn plain(table: &OutlineTable, format: &str) -> Result<SourceRelation, Vec<Problem>> {
    let mut options = checked(table, format, &[])?;
    let paths = options.remove("path").map(|path| vec![absolute_path(&path)]).unwrap_or_default();
    let projections = match &table.columns {
        Some(columns) => vec![columns.fields().iter().map(|field| quoted(field.name())).collect()],
        None => Vec::new(),
    };
    Ok(SourceRelation { format: format.to_owned(), schema: None, options, paths, projections })
}

fn files(table: &OutlineTable, format: &str) -> Result<SourceRelation, Vec<Problem>> {
    let mut options = checked(table, format, &[])?;
    let path = options.keys().find(|key| key.eq_ignore_ascii_case("path")).cloned();
    let paths = path.and_then(|key| options.remove(&key)).map(|path| vec![absolute_path(&path)]).unwrap_or_default();
    let mut relation = SourceRelation { format: format.to_owned(), options, paths, ..SourceRelation::default() };
    let Some(columns) = &table.columns else { return Ok(relation) };
    let stored: Vec<_> = columns.fields().iter().filter(|field| field.name() != FILE_COLUMN).cloned().collect();
    if stored.len() < columns.fields().len() {
        let column = |name: &String| {
            if name == FILE_COLUMN {
                format!("regexp_replace(_metadata.file_path, '^file:(//)?', '') AS {}", quoted(name))
            } else {
                quoted(name)
            }
        };
        relation.projections.push(columns.fields().iter().map(|field| column(field.name())).collect());
    }
    relation.schema = Some(schema_ddl(&Schema::new(stored)));
    Ok(relation)
}

fn kafka(table: &OutlineTable) -> Result<SourceRelation, Vec<Problem>> {
    let format = table.options.get("value.format").unwrap_or("json").to_ascii_lowercase();
    let columns = match &table.columns {
        None if format == "avro" => avro::settings(table)?.columns(&table.name).map_err(|error| {
            let help = "give the schema of a record, or declare the columns";
            vec![Problem::at_option("avro.schema", error.to_string(), help)]
        })?,
        columns => columns.clone(),
    };
    let is_decoded = columns.is_some() && format != "raw";
    let mut ours: Vec<&str> = vec!["value.format", "topic"];
    ours.extend(WRITE_OPTIONS);
    if is_decoded {
        ours.extend(VALUE_OPTIONS);
    }
    if format == "avro" {
        ours.extend(AVRO_OPTIONS);
    }
    let mut options = checked(table, "kafka", &ours)?;
    // Spark reads what is not committed unless it is told; here it is the other way round.
    options.entry("kafka.isolation.level".to_owned()).or_insert_with(|| "read_committed".to_owned());
    let mut relation = SourceRelation { format: "kafka".to_owned(), options, ..SourceRelation::default() };
    let Some(columns) = columns else { return Ok(relation) };
    if !is_decoded {
        relation.projections.push(columns.fields().iter().map(|field| quoted(field.name())).collect());
        return Ok(relation);
    }
    let decoded: Vec<_> = columns.fields().iter().filter(|field| of_record(field.name()).is_none()).cloned().collect();
    let decoded = Schema::new(decoded);
    let is_avro = format == "avro";
    let parse = if is_avro { avro::parsed(table, &decoded)? } else { parsed(&format, &schema_ddl(&decoded), table) };
    relation.projections.push(
        ["key", "topic", "partition", "offset", "timestamp"]
            .map(quoted)
            .into_iter()
            .chain([format!("{parse} AS `value`")])
            .collect(),
    );
    let column = |field: &arrow::datatypes::Field| match of_record(field.name()) {
        Some("key") if *field.data_type() == DataType::Utf8 => {
            format!("CAST(`key` AS STRING) AS {}", quoted(field.name()))
        }
        Some(name) => format!("{} AS {}", quoted(name), quoted(field.name())),
        None if is_avro => avro::cast(&format!("`value`.{}", quoted(field.name())), field),
        None => format!("`value`.{0} AS {0}", quoted(field.name())),
    };
    relation.projections.push(columns.fields().iter().map(|field| column(field)).collect());
    Ok(relation)
}

/// What of the record itself a column of this name is.
fn of_record(name: &str) -> Option<&str> {
    let is_it = matches!(name, "_key" | "_topic" | "_partition" | "_offset" | "_timestamp");
    name.strip_prefix('_').filter(|_| is_it)
}

/// `from_json(CAST(value AS STRING), 'columns', map('key', 'value', ...))`.
fn parsed(format: &str, columns: &str, table: &OutlineTable) -> String {
    let options = option_map(table, &VALUE_OPTIONS);
    format!("from_{format}(CAST(`value` AS STRING), {}{options})", literal(columns))
}

/// The last argument of a function of a format: those of some options that the table has, or nothing.
pub(super) fn option_map(table: &OutlineTable, keys: &[&str]) -> String {
    let given = keys.iter().filter_map(|key| Some((*key, table.options.get(key)?)));
    let pairs: Vec<String> = given.map(|(key, value)| format!("{}, {}", literal(key), literal(value))).collect();
    if pairs.is_empty() { String::new() } else { format!(", map({})", pairs.join(", ")) }
}

/// A text as a literal of Spark's SQL.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// A name that is read as it is.
pub(super) fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

#[cfg(test)]
mod tests {
    use highwater_engine::plan::ScriptFile;
    use highwater_engine::plan::outline::{OutlineKind, outline};

    use super::*;

    fn table(text: &str) -> OutlineTable {
        let files = [ScriptFile { name: "a.sql".to_owned(), text: text.to_owned() }];
        let Ok(mut statements) = outline(&files) else { panic!("{text} is no statement") };
        match statements.remove(0).kind {
            OutlineKind::Source(table) => table,
            other => panic!("{other:?} is no table"),
        }
    }

    fn shown(text: &str) -> String {
        match relation(&table(text)) {
            Ok(relation) => {
                let options: Vec<String> =
                    relation.options.iter().map(|(key, value)| format!("{key}={value}")).collect();
                let projections: Vec<String> = relation.projections.iter().map(|list| list.join(", ")).collect();
                let schema = relation.schema.unwrap_or_default();
                format!(
                    "{} [{schema}] {} {:?} => {}",
                    relation.format,
                    options.join(" "),
                    relation.paths,
                    projections.join(" => ")
                )
            }
            Err(problems) => problems.iter().map(|problem| format!("{} | {}", problem.message, problem.help)).collect(),
        }
    }

    #[test]
    fn tables_are_views_of_what_spark_reads() {
        let check = |text: &str, expected: &str| assert_eq!(shown(text), expected, "{text}");
        check(
            "CREATE TABLE t (a INT, _file STRING) USING csv OPTIONS (path '/x', header 'true')",
            "csv [a INT] header=true [\"/x\"] => `a`, regexp_replace(_metadata.file_path, '^file:(//)?', '') AS `_file`",
        );
        check("CREATE TABLE t (a INT) USING json OPTIONS (path 's3a://b/x')", "json [a INT]  [\"s3a://b/x\"] => ");
        check("CREATE TABLE t USING rate OPTIONS (rowsPerSecond '5')", "rate [] rowsPerSecond=5 [] => ");
        let kafka = "USING kafka OPTIONS ('kafka.bootstrap.servers' 'k:1', subscribe 't'";
        let options = "kafka.bootstrap.servers=k:1 kafka.isolation.level=read_committed subscribe=t";
        check(&format!("CREATE TABLE t {kafka})"), &format!("kafka [] {options} [] => "));
        check(
            &format!(
                "CREATE TABLE t (a INT, `it's` STRING, _key STRING, _offset BIGINT) {kafka}, 'value.format' 'json', mode 'FAILFAST')"
            ),
            &format!(
                "kafka [] {options} [] => `key`, `topic`, `partition`, `offset`, `timestamp`, from_json(CAST(`value` AS \
                 STRING), 'a INT,`it\\'s` STRING', map('mode', 'FAILFAST')) AS `value` => `value`.`a` AS `a`, \
                 `value`.`it's` AS `it's`, CAST(`key` AS STRING) AS `_key`, `offset` AS `_offset`"
            ),
        );
        let schema = r#"{"type":"record","name":"topLevelRecord","fields":[{"name":"a","type":["int","null"]}]}"#;
        let projected = "`key`, `topic`, `partition`, `offset`, `timestamp`";
        check(
            &format!("CREATE TABLE t (a TINYINT, _offset BIGINT) {kafka}, 'value.format' 'avro')"),
            &format!(
                "kafka [] {options} [] => {projected}, from_avro(`value`, '{schema}', map('mode', 'PERMISSIVE')) AS `value` \
                 => CAST(`value`.`a` AS TINYINT) AS `a`, `offset` AS `_offset`"
            ),
        );
        let given = r#"{"type":"record","name":"r","fields":[{"name":"b","type":"int"}]}"#;
        let read = r#"{"type":"record","name":"r","fields":[{"name":"b","type":{"type":"int"}}]}"#;
        check(
            &format!(
                "CREATE TABLE t {kafka}, 'value.format' 'avro', mode 'failfast', 'avro.schema' '{given}', 'avro.confluent' 'true', 'avro.schema.id' '255')"
            ),
            &format!(
                "kafka [] {options} [] => {projected}, from_avro(if(`value` IS NULL OR startswith(`value`, X'00000000FF'), \
                 substring(`value`, 6), X''), '{given}', map('mode', 'FAILFAST', 'avroSchema', '{read}')) AS `value` => CAST(`value`.`b` AS INT) AS `b`"
            ),
        );
        check(
            &format!("CREATE TABLE t (value BINARY, offset BIGINT) {kafka}, 'value.format' 'raw')"),
            &format!("kafka [] {options} [] => `value`, `offset`"),
        );
    }

    #[test]
    fn what_spark_does_not_read_is_said_with_a_way_out() {
        let check = |text: &str, expected: &str| assert_eq!(shown(text), expected, "{text}");
        check(
            r#"CREATE TABLE t USING kafka OPTIONS ('kafka.bootstrap.servers' 'k:1', subscribe 't', 'value.format' 'avro', 'avro.confluent' 'true', 'avro.schema' '{"type":"record","name":"r","fields":[{"name":"n","type":"null"}]}')"#,
            "table 't': values of its schema may be empty | give the schema a field, or leave 'avro.confluent' out: Spark would \
             take a record of another schema for an empty one",
        );
        check(
            "CREATE TABLE t USING sqlite OPTIONS (path 'x.db', table 't')",
            "Spark has no format 'sqlite', which table 't' is of | put its rows where both engines read them, into files or \
             a Delta table, and read those",
        );
        check(
            "CREATE TABLE t (a INT) USING json OPTIONS (path '/x', maxFilePerTrigger '1')",
            "table 't': Spark's json has no option 'maxFilePerTrigger' | leave it out, or run this table on Highwater alone",
        );
        let avro = "USING kafka OPTIONS ('kafka.bootstrap.servers' 'k:1', subscribe 't', 'value.format' 'avro'";
        check(
            &format!("CREATE TABLE t (a INT) {avro}, mode 'DROPMALFORMED')"),
            "table 't': Spark's from_avro has no mode DROPMALFORMED | use PERMISSIVE, and leave rows of nulls out in the query",
        );
        check(
            &format!("CREATE TABLE t (a INT, _corrupt_record STRING) {avro})"),
            "table 't': Spark's from_avro keeps no malformed values, as column '_corrupt_record' does | leave the column out",
        );
        check(
            "CREATE TABLE t USING kafka OPTIONS ('kafka.bootstrap.servers' 'k:1', subscribe 't', 'kafka.auto.offset.reset' 'latest')",
            "Spark's Kafka source refuses option 'kafka.auto.offset.reset' | say where to begin with startingOffsets",
        );
    }
}
