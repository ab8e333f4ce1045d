//! The options of `USING kafka`, with Spark's names, checked once when the table is defined.
//!
//! Keys that begin with `kafka.` are the client's own, in the words of Kafka's documentation; the ones our reading
//! client has use for are read here, all of them go to the producer. Anything else that is unknown is refused.
//!
//! Where Spark's words mean something else here:
//!
//! | option | here |
//! |---|---|
//! | `maxRecordsPerPartition` | a reader has at most so many records; one partition may have several readers |
//! | `fetchOffset.numRetries` | how often topics and offsets are asked for again; without it, for `kafka.default.api.timeout.ms` |
//! | `fetchOffset.retryIntervalMs` | the pause between those tries; without it, `kafka.retry.backoff.ms`, doubling |
//! | `groupIdPrefix`, `kafka.group.id` | no effect: there is no consumer group, the checkpoint has the position |
//! | `kafkaConsumer.pollTimeoutMs` | no effect: `kafka.request.timeout.ms` and `kafka.default.api.timeout.ms` are the limits |
//!
//! What has no effect is logged when the table is opened. TLS and SASL: `security.rs`.

use std::sync::Arc;
use std::time::Duration;

use highwater_engine::error::{EngineError, Result};
use highwater_engine::plan::catalog::{OptionReader, TableDefinition};
use regex::Regex;

use super::client::cluster::{ClientSettings, TopicPartition};
pub use super::format_options::FormatOptions;
use super::limits::PartLimits;
use super::offsets::{self, PartitionOffsets};
use super::security::Security;

/// Everything a table's definition says about Kafka.
#[derive(Debug, Clone)]
pub struct KafkaOptions {
    /// The table as error messages name it.
    pub object: String,
    /// How to reach the cluster.
    pub client: ClientSettings,
    /// What to read; none for a table that is only written to.
    pub selection: Option<Selection>,
    /// Where a stream without a checkpoint begins, and a static read; without one behind the last record and at the first.
    pub starting: Option<StartingPoint>,
    /// Where a static read ends.
    pub ending: StartingPoint,
    /// What to do when a timestamp lies behind the last record.
    pub timestamp_strategy: TimestampStrategy,
    /// Whether records that are gone end the query.
    pub fail_on_data_loss: bool,
    /// Records a batch holds at most.
    pub max_offsets_per_trigger: Option<u64>,
    /// Records that must wait before a batch is made.
    pub min_offsets_per_trigger: Option<u64>,
    /// How long `min_offsets_per_trigger` may hold a batch back.
    pub max_trigger_delay: Duration,
    /// How many readers a batch has: `minPartitions`, `maxRecordsPerPartition`.
    pub part_limits: PartLimits,
    /// Whether the table has a column of headers.
    pub include_headers: bool,
    /// The topic rows are written to when they name none.
    pub topic: Option<String>,
    /// Whether batches are written in transactions.
    pub transactional: Transactional,
    /// Whether rows are sent and seen as they come, before their batch is committed: at least once.
    pub is_immediate: bool,
    /// The columns whose values make the key of an encoded row.
    pub key_columns: Vec<String>,
    /// What `value.format` says.
    pub value_format: Option<ValueFormat>,
    /// `mode`, `timestampFormat` and the like, for the format's decoder.
    pub format: FormatOptions,
    /// How the cluster wants to be spoken to.
    pub security: Security,
    /// All `kafka.` options, without the prefix, in the words of the client that writes.
    pub passed_through: Vec<(String, String)>,
    /// Options that were given and change nothing, each with the reason.
    pub without_effect: Vec<(&'static str, &'static str)>,
}

/// What to read.
#[derive(Debug, Clone)]
pub enum Selection {
    /// All partitions of these topics.
    Subscribe(Vec<Arc<str>>),
    /// All partitions of all topics whose whole name matches.
    Pattern(Regex),
    /// These partitions.
    Assign(Vec<TopicPartition>),
}

/// Where to begin, or to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartingPoint {
    /// At the first record there is.
    Earliest,
    /// Behind the last record.
    Latest,
    /// At these offsets, -2 for the earliest and -1 for the latest.
    Offsets(PartitionOffsets),
    /// In all partitions at the first record not older than this, in milliseconds.
    Timestamp(i64),
    /// The same for each partition.
    Timestamps(PartitionOffsets),
}

/// What to do when no record is as new as the timestamp asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampStrategy {
    /// Refuse to start.
    Error,
    /// Begin behind the last record.
    Latest,
}

/// Whether batches are written in transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transactional {
    /// If the broker can.
    Auto,
    /// Or not at all.
    Always,
    /// Never.
    Never,
}

/// How values become columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueFormat {
    /// A JSON object a record.
    Json,
    /// A line of CSV a record.
    Csv,
    /// A value of Avro a record.
    Avro,
    /// Not at all.
    Raw,
}

impl KafkaOptions {
    /// Reads and checks the options of a definition.
    pub fn parse(definition: &TableDefinition) -> Result<Self> {
        let object = format!("table {} (USING kafka)", definition.name);
        let mut reader = definition.options.reader(object.clone());
        let passed_through = reader.with_prefix("kafka.");
        let security = Security::read(&object, "kafka.", &passed_through)?;
        let mut client = client_settings(&object, &mut reader, &passed_through)?;
        security.apply(&mut client.connection);
        let passed_through = security.translate(passed_through);
        let options = Self {
            client,
            selection: selection(&object, &mut reader)?,
            starting: point(&object, &mut reader, "starting")?,
            ending: point(&object, &mut reader, "ending")?.unwrap_or(StartingPoint::Latest),
            timestamp_strategy: choice(
                &object,
                &mut reader,
                "startingOffsetsByTimestampStrategy",
                &[("error", TimestampStrategy::Error), ("latest", TimestampStrategy::Latest)],
            )?
            .unwrap_or(TimestampStrategy::Error),
            fail_on_data_loss: reader.flag("failOnDataLoss", true)?,
            max_offsets_per_trigger: positive(&object, &mut reader, "maxOffsetsPerTrigger")?,
            min_offsets_per_trigger: positive(&object, &mut reader, "minOffsetsPerTrigger")?,
            max_trigger_delay: duration(&object, &mut reader, "maxTriggerDelay")?
                .unwrap_or(Duration::from_secs(15 * 60)),
            part_limits: PartLimits {
                min_parts: positive(&object, &mut reader, "minPartitions")?
                    .map(|number| usize::try_from(number).unwrap_or(usize::MAX)),
                max_records: positive(&object, &mut reader, "maxRecordsPerPartition")?,
            },
            include_headers: reader.flag("includeHeaders", false)?,
            topic: reader.text("topic").map(str::to_owned),
            transactional: choice(
                &object,
                &mut reader,
                "transactional",
                &[("auto", Transactional::Auto), ("true", Transactional::Always), ("false", Transactional::Never)],
            )?
            .unwrap_or(Transactional::Auto),
            is_immediate: choice(&object, &mut reader, "visibility", &[("committed", false), ("immediate", true)])?
                .unwrap_or(false),
            key_columns: key_columns(&mut reader),
            value_format: choice(
                &object,
                &mut reader,
                "value.format",
                &[
                    ("json", ValueFormat::Json),
                    ("csv", ValueFormat::Csv),
                    ("avro", ValueFormat::Avro),
                    ("raw", ValueFormat::Raw),
                ],
            )?,
            format: FormatOptions::read(&object, &mut reader)?,
            without_effect: without_effect(&mut reader, &passed_through),
            passed_through,
            security,
            object: object.clone(),
        };
        reader.finish()?;
        let is_declared = definition.schema.is_some();
        let format = options.value_format.unwrap_or(if is_declared { ValueFormat::Json } else { ValueFormat::Raw });
        options.format.check(&object, format, options.value_format.is_some())?;
        options.check()
    }

    fn check(self) -> Result<Self> {
        let object = &self.object;
        if self.is_immediate && self.transactional == Transactional::Always {
            return Err(EngineError::config(format!(
                "{object}: options 'transactional' = 'true' and 'visibility' = 'immediate' exclude each other"
            ))
            .help("rows of a transaction are seen when it is committed; leave one of the options out"));
        }
        if let (Some(min), Some(max)) = (self.min_offsets_per_trigger, self.max_offsets_per_trigger)
            && min > max
        {
            return Err(EngineError::config(format!(
                "{object}: 'minOffsetsPerTrigger' is {min}, expected at most 'maxOffsetsPerTrigger', which is {max}"
            )));
        }
        if self.selection.is_none() && self.topic.is_none() {
            return Err(EngineError::config(format!("{object} names no topic"))
                .help("add one of 'subscribe', 'subscribePattern', 'assign' to read, or 'topic' to write"));
        }
        Ok(self)
    }
}

impl Selection {
    /// The words Spark puts into a source's description.
    pub fn description(&self) -> String {
        match self {
            Self::Subscribe(topics) => format!("Subscribe[{}]", topics.join(", ")),
            Self::Pattern(pattern) => format!("SubscribePattern[{}]", pattern_text(pattern)),
            Self::Assign(partitions) => {
                let names: Vec<String> = partitions.iter().map(ToString::to_string).collect();
                format!("Assign[{}]", names.join(", "))
            }
        }
    }
}

/// A pattern must match the whole name, as Java's `matches` does.
fn whole_name_pattern(text: &str) -> Result<Regex, regex::Error> {
    Regex::new(&format!("^(?:{text})$"))
}

fn pattern_text(pattern: &Regex) -> &str {
    pattern.as_str().strip_prefix("^(?:").and_then(|text| text.strip_suffix(")$")).unwrap_or(pattern.as_str())
}

fn selection(object: &str, reader: &mut OptionReader<'_>) -> Result<Option<Selection>> {
    let found = [reader.text("subscribe"), reader.text("subscribePattern"), reader.text("assign")];
    match found {
        [None, None, None] => Ok(None),
        [Some(topics), None, None] => {
            let mut topics: Vec<Arc<str>> =
                topics.split(',').map(str::trim).filter(|topic| !topic.is_empty()).map(Arc::from).collect();
            topics.sort_unstable();
            topics.dedup();
            if topics.is_empty() {
                return Err(EngineError::config(format!("{object}: option 'subscribe' names no topic")));
            }
            Ok(Some(Selection::Subscribe(topics)))
        }
        [None, Some(pattern), None] => match whole_name_pattern(pattern) {
            Ok(pattern) => Ok(Some(Selection::Pattern(pattern))),
            Err(error) => Err(EngineError::config(format!(
                "{object}: option 'subscribePattern' is '{pattern}', expected a regular expression"
            ))
            .caused_by(error)),
        },
        [None, None, Some(text)] => {
            let partitions = offsets::assignment_from_text(text, &format!("{object}: option 'assign'"))?;
            Ok(Some(Selection::Assign(partitions)))
        }
        _ => Err(EngineError::config(format!(
            "{object} has more than one of 'subscribe', 'subscribePattern' and 'assign', expected exactly one"
        ))
        .help("keep one of them")),
    }
}

/// `startingTimestamp` goes over `startingOffsetsByTimestamp`, that over `startingOffsets`; the same for `ending`.
fn point(object: &str, reader: &mut OptionReader<'_>, prefix: &str) -> Result<Option<StartingPoint>> {
    let (timestamp_key, by_timestamp_key, offsets_key) =
        (format!("{prefix}Timestamp"), format!("{prefix}OffsetsByTimestamp"), format!("{prefix}Offsets"));
    let timestamp: Option<i64> = reader.parsed(&timestamp_key, "milliseconds since 1970")?;
    let (by_timestamp, text) = (reader.text(&by_timestamp_key), reader.text(&offsets_key));
    if let Some(timestamp) = timestamp {
        return Ok(Some(StartingPoint::Timestamp(timestamp)));
    }
    if let Some(text) = by_timestamp {
        let name = format!("{object}: option '{by_timestamp_key}'");
        return Ok(Some(StartingPoint::Timestamps(offsets::from_text(text, &name)?)));
    }
    match text.map(|text| (text, text.trim().to_ascii_lowercase())) {
        None => Ok(None),
        Some((_, word)) if word == "earliest" && prefix == "starting" => Ok(Some(StartingPoint::Earliest)),
        Some((_, word)) if word == "latest" => Ok(Some(StartingPoint::Latest)),
        Some((text, _)) if text.trim_start().starts_with('{') => {
            let name = format!("{object}: option '{offsets_key}'");
            Ok(Some(StartingPoint::Offsets(offsets::from_text(text, &name)?)))
        }
        Some((text, _)) => {
            let words = if prefix == "starting" { "earliest, latest" } else { "latest" };
            Err(EngineError::config(format!(
                "{object}: option '{offsets_key}' is '{text}', expected {words} or offsets as JSON"
            ))
            .help(r#"offsets are written like {"payments":{"0":123,"1":-2}}"#))
        }
    }
}

fn client_settings(
    object: &str,
    reader: &mut OptionReader<'_>,
    passed_through: &[(String, String)],
) -> Result<ClientSettings> {
    let kafka = |key: &str| passed_through.iter().find(|(k, _)| k.eq_ignore_ascii_case(key)).map(|(_, v)| v.as_str());
    let number = |key: &str| -> Result<Option<u64>> {
        let parse = |text: &str| {
            text.trim().parse().map_err(|_| {
                EngineError::config(format!("{object}: option 'kafka.{key}' is '{text}', expected a whole number"))
            })
        };
        kafka(key).map(parse).transpose()
    };
    let millis = |key: &str| Ok::<_, EngineError>(number(key)?.map(Duration::from_millis));
    let servers = reader.required("kafka.bootstrap.servers", "localhost:9092")?;
    let mut settings = ClientSettings { bootstrap: bootstrap(object, servers)?, ..ClientSettings::default() };
    settings.read_committed = match kafka("isolation.level") {
        None | Some("read_committed") => true,
        Some("read_uncommitted") => false,
        Some(other) => {
            return Err(EngineError::config(format!(
                "{object}: option 'kafka.isolation.level' is '{other}', expected read_committed or read_uncommitted"
            )));
        }
    };
    if let Some(client_id) = kafka("client.id") {
        client_id.clone_into(&mut settings.connection.client_id);
    }
    let connection = &mut settings.connection;
    connection.connect_timeout = millis("socket.connection.setup.timeout.ms")?.unwrap_or(connection.connect_timeout);
    connection.request_timeout = millis("request.timeout.ms")?.unwrap_or(connection.request_timeout);
    settings.retry_limit = millis("default.api.timeout.ms")?.unwrap_or(settings.retry_limit);
    settings.retry_backoff = millis("retry.backoff.ms")?.unwrap_or(settings.retry_backoff);
    settings.fetch_max_wait = millis("fetch.max.wait.ms")?.unwrap_or(settings.fetch_max_wait);
    if let Some(bytes) = number("max.partition.fetch.bytes")? {
        settings.fetch_max_bytes = i32::try_from(bytes).unwrap_or(i32::MAX).max(1);
    }
    settings.lookup_retries = reader.parsed("fetchOffset.numRetries", "a whole number")?;
    settings.lookup_interval =
        reader.parsed("fetchOffset.retryIntervalMs", "a whole number of milliseconds")?.map(Duration::from_millis);
    Ok(settings)
}

/// What of the options changes nothing, with the reason.
fn without_effect(
    reader: &mut OptionReader<'_>,
    passed_through: &[(String, String)],
) -> Vec<(&'static str, &'static str)> {
    const NO_GROUP: &str = "there is no consumer group, the checkpoint has the position";
    const NO_POLL: &str = "kafka.request.timeout.ms and kafka.default.api.timeout.ms limit how long reading takes";
    let mut found: Vec<(&'static str, &'static str)> =
        [("groupIdPrefix", NO_GROUP), ("kafkaConsumer.pollTimeoutMs", NO_POLL)]
            .into_iter()
            .filter(|(key, _)| reader.text(key).is_some())
            .collect();
    if passed_through.iter().any(|(key, _)| key.eq_ignore_ascii_case("group.id")) {
        found.push(("kafka.group.id", NO_GROUP));
    }
    found
}

/// Splits a list of `host:port`.
pub fn bootstrap(object: &str, servers: &str) -> Result<Vec<String>> {
    let addresses: Vec<String> = servers
        .split(',')
        .map(str::trim)
        .filter(|address| !address.is_empty())
        .map(|address| address.split_once("://").map_or(address, |(_, address)| address).to_owned())
        .collect();
    let has_port = |address: &String| {
        address.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
    };
    if addresses.is_empty() || !addresses.iter().all(has_port) {
        return Err(EngineError::config(format!(
            "{object}: option 'kafka.bootstrap.servers' is '{servers}', expected host:port, several separated by commas"
        )));
    }
    Ok(addresses)
}

fn key_columns(reader: &mut OptionReader<'_>) -> Vec<String> {
    let (one, several) = (reader.text("key.column"), reader.text("key.columns"));
    let names = several.or(one).unwrap_or_default();
    names.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn choice<T: Copy>(object: &str, reader: &mut OptionReader<'_>, key: &str, choices: &[(&str, T)]) -> Result<Option<T>> {
    let Some(text) = reader.text(key) else { return Ok(None) };
    match choices.iter().find(|(word, _)| word.eq_ignore_ascii_case(text.trim())) {
        Some((_, choice)) => Ok(Some(*choice)),
        None => {
            let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
            Err(EngineError::config(format!(
                "{object}: option '{key}' is '{text}', expected one of {}",
                words.join(", ")
            )))
        }
    }
}

fn positive(object: &str, reader: &mut OptionReader<'_>, key: &str) -> Result<Option<u64>> {
    match reader.parsed::<u64>(key, "a whole number above 0")? {
        Some(0) => {
            Err(EngineError::config(format!("{object}: option '{key}' is '0', expected a whole number above 0")))
        }
        number => Ok(number),
    }
}

/// A time as Spark writes it: `15m`, `30s`, `500ms`, `1h`, `1 day`; a bare number is milliseconds.
fn duration(object: &str, reader: &mut OptionReader<'_>, key: &str) -> Result<Option<Duration>> {
    let Some(text) = reader.text(key) else { return Ok(None) };
    let trimmed = text.trim();
    let digits = trimmed.find(|c: char| !c.is_ascii_digit()).unwrap_or(trimmed.len());
    let unit_ms = match trimmed[digits..].trim().to_ascii_lowercase().as_str() {
        "" | "ms" => Some(1),
        "s" | "sec" | "second" | "seconds" => Some(1_000),
        "m" | "min" | "minute" | "minutes" => Some(60_000),
        "h" | "hour" | "hours" => Some(3_600_000),
        "d" | "day" | "days" => Some(86_400_000),
        _ => None,
    };
    let number: Option<u64> = trimmed[..digits].parse().ok();
    match number.zip(unit_ms).and_then(|(number, unit_ms)| number.checked_mul(unit_ms)) {
        Some(time_ms) => Ok(Some(Duration::from_millis(time_ms))),
        None => {
            Err(EngineError::config(format!("{object}: option '{key}' is '{text}', expected a time like 15m or 30s")))
        }
    }
}

#[cfg(test)]
mod tests {
    use highwater_engine::plan::catalog::Options;

    use super::*;

    fn parse(options: &[(&str, &str)]) -> Result<KafkaOptions> {
        let mut all: Options = options.iter().copied().collect();
        if all.get("kafka.bootstrap.servers").is_none() {
            all.set("kafka.bootstrap.servers", "localhost:9092");
        }
        let definition = TableDefinition {
            name: "ev".to_owned(),
            format: "kafka".to_owned(),
            schema: None,
            options: all,
            partition_columns: Vec::new(),
        };
        KafkaOptions::parse(&definition)
    }

    #[test]
    fn the_defaults_are_sparks() {
        let options = parse(&[("subscribe", "b, a")]).unwrap();
        assert_eq!(options.selection.unwrap().description(), "Subscribe[a, b]");
        assert_eq!(options.starting, None);
        assert!(options.fail_on_data_loss);
        assert!(options.client.read_committed);
        assert_eq!(options.max_trigger_delay, Duration::from_secs(900));
        assert_eq!(options.max_offsets_per_trigger, None);
    }

    #[test]
    fn a_timestamp_goes_over_offsets() {
        let by_timestamp = r#"{"t":{"0":9}}"#;
        let starting = |options: &[(&str, &str)]| {
            let mut all = vec![("subscribe", "t")];
            all.extend(options);
            parse(&all).unwrap().starting.unwrap()
        };
        let all =
            [("startingOffsets", "earliest"), ("startingOffsetsByTimestamp", by_timestamp), ("startingTimestamp", "5")];
        assert_eq!(starting(&all), StartingPoint::Timestamp(5));
        assert!(matches!(starting(&all[..2]), StartingPoint::Timestamps(_)));
        assert_eq!(starting(&all[..1]), StartingPoint::Earliest);
    }

    #[test]
    fn options_of_spark_are_taken_or_said_to_have_no_effect() {
        let options = parse(&[
            ("subscribePattern", "pay.*"),
            ("kafka.some.future.key", "x"),
            ("kafkaConsumer.pollTimeoutMs", "1000"),
            ("fetchOffset.numRetries", "5"),
            ("fetchOffset.retryIntervalMs", "20"),
            ("groupIdPrefix", "p"),
            ("kafka.group.id", "g"),
            ("maxTriggerDelay", "2 minutes"),
            ("minPartitions", "3"),
            ("maxRecordsPerPartition", "1000"),
        ])
        .unwrap();
        let names: Vec<&str> = options.without_effect.iter().map(|(key, _)| *key).collect();
        assert_eq!(names, ["groupIdPrefix", "kafkaConsumer.pollTimeoutMs", "kafka.group.id"]);
        assert_eq!(options.client.lookup_retries, Some(5));
        assert_eq!(options.client.lookup_interval, Some(Duration::from_millis(20)));
        assert_eq!(options.part_limits, PartLimits { min_parts: Some(3), max_records: Some(1000) });
        assert_eq!(options.max_trigger_delay, Duration::from_secs(120));
        assert!(options.passed_through.contains(&("some.future.key".to_owned(), "x".to_owned())));
        let Some(Selection::Pattern(pattern)) = options.selection else { panic!("a pattern") };
        assert!(pattern.is_match("payments") && !pattern.is_match("prepay"));
    }

    #[test]
    fn errors_name_what_was_found_and_what_is_expected() {
        for (options, expected) in [
            (vec![], "table ev (USING kafka) names no topic"),
            (
                vec![("subscribe", "a"), ("assign", "{}")],
                "table ev (USING kafka) has more than one of 'subscribe', 'subscribePattern' and 'assign', expected exactly one",
            ),
            (vec![("subscribe", " , ")], "table ev (USING kafka): option 'subscribe' names no topic"),
            (
                vec![("subscribe", "a"), ("startingOffsets", "first")],
                "table ev (USING kafka): option 'startingOffsets' is 'first', expected earliest, latest or offsets as JSON",
            ),
            (
                vec![("subscribe", "a"), ("maxOffsetsPerTrigger", "0")],
                "table ev (USING kafka): option 'maxOffsetsPerTrigger' is '0', expected a whole number above 0",
            ),
            (
                vec![("subscribe", "a"), ("minOffsetsPerTrigger", "9"), ("maxOffsetsPerTrigger", "5")],
                "table ev (USING kafka): 'minOffsetsPerTrigger' is 9, expected at most 'maxOffsetsPerTrigger', which is 5",
            ),
            (
                vec![("subscribe", "a"), ("kafka.security.protocol", "TLS")],
                "table ev (USING kafka): option 'kafka.security.protocol' is 'TLS', expected PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL",
            ),
            (
                vec![("subscribe", "a"), ("kafka.bootstrap.servers", "localhost")],
                "table ev (USING kafka): option 'kafka.bootstrap.servers' is 'localhost', expected host:port, several separated by commas",
            ),
            (
                vec![("subscribe", "a"), ("startingOffset", "latest")],
                "table ev (USING kafka) has no option of the name 'startingOffset'",
            ),
            (
                vec![("subscribe", "a"), ("value.format", "xml")],
                "table ev (USING kafka): option 'value.format' is 'xml', expected one of json, csv, avro, raw",
            ),
        ] {
            assert_eq!(parse(&options).unwrap_err().to_string(), expected);
        }
    }
}
