//! The options of Spark's formats, as its documentation of 4.3 lists them: what a table says beside them is ours, or a
//! mistake that Spark would not report, because it skips options it does not know.

/// Options of every file source.
const FILE_SOURCE: [&str; 12] = [
    "path",
    "maxFilesPerTrigger",
    "maxBytesPerTrigger",
    "latestFirst",
    "maxFileAge",
    "maxCachedFiles",
    "fileNameOnly",
    "cleanSource",
    "sourceArchiveDir",
    "pathGlobFilter",
    "recursiveFileLookup",
    "ignoreMissingFiles",
];

/// The others of every file source.
const FILE_SOURCE_MORE: [&str; 5] =
    ["ignoreCorruptFiles", "modifiedBefore", "modifiedAfter", "discardPartialLines", "mergeSchema"];

/// Options of JSON, read or written, in files and in `from_json`.
const JSON: [&str; 24] = [
    "timeZone",
    "primitivesAsString",
    "prefersDecimal",
    "allowComments",
    "allowUnquotedFieldNames",
    "allowSingleQuotes",
    "allowNumericLeadingZeros",
    "allowBackslashEscapingAnyCharacter",
    "mode",
    "columnNameOfCorruptRecord",
    "dateFormat",
    "timestampFormat",
    "timestampNTZFormat",
    "enableDateTimeParsingFallback",
    "multiLine",
    "allowUnquotedControlChars",
    "encoding",
    "charset",
    "lineSep",
    "samplingRatio",
    "dropFieldIfAllNull",
    "locale",
    "allowNonNumericNumbers",
    "ignoreNullFields",
];

/// Options of CSV, read or written, in files and in `from_csv`.
const CSV: [&str; 33] = [
    "sep",
    "delimiter",
    "encoding",
    "charset",
    "quote",
    "quoteAll",
    "escape",
    "escapeQuotes",
    "comment",
    "header",
    "inferSchema",
    "preferDate",
    "enforceSchema",
    "ignoreLeadingWhiteSpace",
    "ignoreTrailingWhiteSpace",
    "nullValue",
    "nanValue",
    "positiveInf",
    "negativeInf",
    "dateFormat",
    "timestampFormat",
    "timestampNTZFormat",
    "enableDateTimeParsingFallback",
    "maxColumns",
    "maxCharsPerColumn",
    "mode",
    "columnNameOfCorruptRecord",
    "multiLine",
    "charToEscapeQuoteEscaping",
    "samplingRatio",
    "emptyValue",
    "locale",
    "lineSep",
];

/// Options of Kafka, beside those that begin with `kafka.`.
const KAFKA: [&str; 27] = [
    "assign",
    "subscribe",
    "subscribePattern",
    "startingOffsets",
    "startingTimestamp",
    "startingOffsetsByTimestamp",
    "startingOffsetsByTimestampStrategy",
    "endingOffsets",
    "endingTimestamp",
    "endingOffsetsByTimestamp",
    "failOnDataLoss",
    "maxOffsetsPerTrigger",
    "minOffsetsPerTrigger",
    "maxTriggerDelay",
    "minPartitions",
    "maxRecordsPerPartition",
    "groupIdPrefix",
    "includeHeaders",
    "topic",
    "kafkaConsumer.pollTimeoutMs",
    "fetchOffset.numRetries",
    "fetchOffset.retryIntervalMs",
    "kafka.group.id",
    "kafka.bootstrap.servers",
    "kafka.isolation.level",
    "kafka.security.protocol",
    "kafka.client.id",
];

/// Options of Kafka's clients that Spark's connector sets itself and refuses, with what to do instead.
pub(super) const KAFKA_REFUSED: [(&str, &str); 6] = [
    ("kafka.auto.offset.reset", "say where to begin with startingOffsets"),
    ("kafka.key.deserializer", "leave it out: keys are bytes, cast them in the query"),
    ("kafka.value.deserializer", "leave it out: values are bytes, cast them in the query"),
    ("kafka.enable.auto.commit", "leave it out: the checkpoint has the position"),
    ("kafka.interceptor.classes", "leave it out: the connector takes none"),
    ("kafka.key.serializer", "leave it out: keys are bytes"),
];

/// The options a format has in Spark; none for a format that is not looked at.
pub(super) fn known(format: &str) -> Option<Vec<&'static str>> {
    let files = || FILE_SOURCE.into_iter().chain(FILE_SOURCE_MORE);
    Some(match format {
        "json" => files().chain(JSON).chain(["compression"]).collect(),
        "csv" => files().chain(CSV).chain(["compression"]).collect(),
        "text" => files().chain(["wholetext", "lineSep", "compression", "encoding"]).collect(),
        "parquet" => {
            files().chain(["datetimeRebaseMode", "int96RebaseMode", "compression", "maxRecordsPerFile"]).collect()
        }
        "kafka" => KAFKA.to_vec(),
        "rate" => vec!["rowsPerSecond", "rampUpTime", "numPartitions"],
        "rate-micro-batch" => vec!["rowsPerBatch", "numPartitions", "startTimestamp", "advanceMillisPerBatch"],
        "console" => vec!["numRows", "truncate"],
        "noop" => Vec::new(),
        _ => return None,
    })
}

/// Whether a key stands in a list, in any case.
pub(super) fn is_in(key: &str, list: &[&str]) -> bool {
    list.iter().any(|known| known.eq_ignore_ascii_case(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_option_stands_once() {
        for format in ["json", "csv", "text", "parquet", "kafka", "rate", "rate-micro-batch", "console"] {
            let mut keys: Vec<String> = known(format).unwrap().iter().map(|key| key.to_lowercase()).collect();
            let all = keys.len();
            keys.sort();
            keys.dedup();
            assert_eq!(keys.len(), all, "{format}");
        }
        assert!(known("delta").is_none());
    }
}
