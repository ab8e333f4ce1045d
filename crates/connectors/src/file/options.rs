//! The options of file tables, with Spark's names and meanings, checked once when the table is defined.
//!
//! Options of a format the table does not have are refused like misspelled ones: silence would let a `header` on a
//! JSON table look as if it worked.

use std::time::Duration;

use highwater_engine::error::{EngineError, Result};
use highwater_engine::plan::catalog::{OptionReader, TableDefinition};
use highwater_engine::plan::size::parse_size;
use parquet::basic::{Compression, ZstdLevel};

/// How a file's bytes become rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileFormat {
    Json,
    Csv,
    Parquet,
    Text,
}

impl FileFormat {
    /// All of them, for the registry.
    pub(crate) const ALL: [Self; 4] = [Self::Json, Self::Csv, Self::Parquet, Self::Text];

    /// The word after `USING`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Csv => "csv",
            Self::Parquet => "parquet",
            Self::Text => "text",
        }
    }

    /// The end of file names.
    pub(crate) fn extension(self) -> &'static str {
        match self {
            Self::Text => "txt",
            other => other.name(),
        }
    }
}

/// What to do with a record that does not parse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Mode {
    /// A row of nulls, and the text in the corrupt-record column if there is one.
    #[default]
    Permissive,
    /// No row.
    DropMalformed,
    /// An error.
    FailFast,
}

/// What to do with a file whose rows are committed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum CleanSource {
    #[default]
    Off,
    Delete,
    /// Move it below this folder.
    Archive(String),
}

/// Options of the text formats.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct RecordOptions {
    pub(crate) mode: Mode,
    pub(crate) corrupt_column: Option<String>,
    pub(crate) timestamp_format: Option<String>,
    pub(crate) timestamp_ntz_format: Option<String>,
    pub(crate) date_format: Option<String>,
    pub(crate) separator: Option<String>,
    pub(crate) quote: Option<String>,
    pub(crate) escape: Option<String>,
    pub(crate) comment: Option<String>,
    pub(crate) null_value: Option<String>,
    pub(crate) header: bool,
    pub(crate) infer_schema: bool,
}

/// All options of a file table.
#[derive(Debug, Clone)]
pub(crate) struct FileOptions {
    pub(crate) path: String,
    pub(crate) max_files_per_trigger: Option<usize>,
    pub(crate) max_bytes_per_trigger: Option<u64>,
    pub(crate) latest_first: bool,
    pub(crate) max_file_age: Duration,
    pub(crate) file_name_only: bool,
    pub(crate) recursive: bool,
    pub(crate) path_glob_filter: Option<glob::Pattern>,
    pub(crate) clean_source: CleanSource,
    pub(crate) ignore_missing_files: bool,
    pub(crate) ignore_corrupt_files: bool,
    pub(crate) record: RecordOptions,
    pub(crate) compression: Compression,
    pub(crate) max_records_per_file: Option<usize>,
}

impl FileOptions {
    /// Reads and checks the options of a definition.
    pub(crate) fn read(definition: &TableDefinition, format: FileFormat) -> Result<Self> {
        let object = format!("table {} (USING {})", definition.name, format.name());
        let mut reader = definition.options.reader(&object);
        let path = reader.required("path", "/data/events")?;
        let options = Self {
            path: local_path(&object, path)?,
            max_files_per_trigger: positive(&object, &mut reader, "maxFilesPerTrigger")?,
            max_bytes_per_trigger: size(&object, &mut reader, "maxBytesPerTrigger")?,
            latest_first: reader.flag("latestFirst", false)?,
            max_file_age: age(&object, &mut reader)?,
            file_name_only: reader.flag("fileNameOnly", false)?,
            recursive: reader.flag("recursiveFileLookup", false)?,
            path_glob_filter: glob_filter(&object, &mut reader)?,
            clean_source: clean_source(&object, &mut reader)?,
            ignore_missing_files: reader.flag("ignoreMissingFiles", false)?,
            ignore_corrupt_files: reader.flag("ignoreCorruptFiles", false)?,
            record: record(&object, &mut reader, format)?,
            compression: compression(&object, &mut reader, format)?,
            max_records_per_file: positive(&object, &mut reader, "maxRecordsPerFile")?,
        };
        reader.finish()?;
        if options.max_files_per_trigger.is_some() && options.max_bytes_per_trigger.is_some() {
            return Err(EngineError::config(format!(
                "{object} has both 'maxFilesPerTrigger' and 'maxBytesPerTrigger'"
            ))
            .help("keep one of the two"));
        }
        Ok(options)
    }

    /// Options for writing Parquet files of another table format.
    pub(crate) fn for_parts(compression: Compression) -> Self {
        Self {
            path: String::new(),
            max_files_per_trigger: None,
            max_bytes_per_trigger: None,
            latest_first: false,
            max_file_age: Duration::MAX,
            file_name_only: false,
            recursive: false,
            path_glob_filter: None,
            clean_source: CleanSource::Off,
            ignore_missing_files: false,
            ignore_corrupt_files: false,
            record: RecordOptions::default(),
            compression,
            max_records_per_file: None,
        }
    }

    /// Whether a batch has any limit.
    pub(crate) fn limited(&self) -> bool {
        self.max_files_per_trigger.is_some() || self.max_bytes_per_trigger.is_some()
    }
}

/// A path of this machine from a plain path or a `file:` URL.
pub(crate) fn local_path(object: &str, path: &str) -> Result<String> {
    let plain = path.strip_prefix("file://").or_else(|| path.strip_prefix("file:")).unwrap_or(path);
    match plain.split_once("://") {
        Some((scheme, _)) => Err(EngineError::config(format!(
            "{object}: option 'path' is '{path}', a location of kind '{scheme}', expected a path of this machine"
        ))
        .help("mount or copy the data to a local folder")),
        None if plain.is_empty() => {
            Err(EngineError::config(format!("{object}: option 'path' is empty, expected a file, a folder or a glob")))
        }
        None => Ok(plain.to_owned()),
    }
}

fn record(object: &str, reader: &mut OptionReader<'_>, format: FileFormat) -> Result<RecordOptions> {
    let mut options = RecordOptions::default();
    if matches!(format, FileFormat::Parquet | FileFormat::Text) {
        return Ok(options);
    }
    options.mode = match reader.text("mode").map(str::to_ascii_uppercase).as_deref() {
        None | Some("PERMISSIVE") => Mode::Permissive,
        Some("DROPMALFORMED") => Mode::DropMalformed,
        Some("FAILFAST") => Mode::FailFast,
        Some(other) => {
            return Err(EngineError::config(format!(
                "{object}: option 'mode' is '{other}', expected PERMISSIVE, DROPMALFORMED or FAILFAST"
            )));
        }
    };
    options.corrupt_column = reader.text("columnNameOfCorruptRecord").map(str::to_owned);
    options.timestamp_format = reader.text("timestampFormat").map(str::to_owned);
    options.timestamp_ntz_format = reader.text("timestampNTZFormat").map(str::to_owned);
    options.date_format = reader.text("dateFormat").map(str::to_owned);
    if reader.flag("multiLine", false)? {
        return Err(EngineError::config(format!("{object}: option 'multiLine' is true, expected one record a line"))
            .help("rewrite the files with one record a line"));
    }
    if format == FileFormat::Csv {
        let delimiter = reader.text("delimiter");
        options.separator = reader.text("sep").or(delimiter).map(str::to_owned);
        options.quote = reader.text("quote").map(str::to_owned);
        options.escape = reader.text("escape").map(str::to_owned);
        options.comment = reader.text("comment").map(str::to_owned);
        options.null_value = reader.text("nullValue").map(str::to_owned);
        options.header = reader.flag("header", false)?;
        options.infer_schema = reader.flag("inferSchema", false)?;
    }
    Ok(options)
}

fn compression(object: &str, reader: &mut OptionReader<'_>, format: FileFormat) -> Result<Compression> {
    let name = reader.text("compression").map(str::to_ascii_lowercase);
    let plain = || {
        EngineError::config(format!(
            "{object}: option 'compression' is '{}', expected none for {}",
            name.as_deref().unwrap_or_default(),
            format.name()
        ))
        .help("files that end in .gz are read; compressed output needs USING parquet")
    };
    match (format, name.as_deref()) {
        (FileFormat::Parquet, value) => parquet_compression(object, value),
        (_, None | Some("none" | "uncompressed")) => Ok(Compression::UNCOMPRESSED),
        _ => Err(plain()),
    }
}

/// The codec of a name in Spark's words; snappy without one.
pub(crate) fn parquet_compression(object: &str, name: Option<&str>) -> Result<Compression> {
    match name {
        None | Some("snappy") => Ok(Compression::SNAPPY),
        Some("none" | "uncompressed") => Ok(Compression::UNCOMPRESSED),
        Some("lz4" | "lz4_raw") => Ok(Compression::LZ4_RAW),
        Some("zstd") => Ok(Compression::ZSTD(ZstdLevel::default())),
        Some(other) => Err(EngineError::config(format!(
            "{object}: option 'compression' is '{other}', expected none, snappy, lz4 or zstd"
        ))),
    }
}

fn clean_source(object: &str, reader: &mut OptionReader<'_>) -> Result<CleanSource> {
    let archive = reader.text("sourceArchiveDir");
    match (reader.text("cleanSource").map(str::to_ascii_lowercase).as_deref(), archive) {
        (None | Some("off"), None) => Ok(CleanSource::Off),
        (None | Some("off"), Some(_)) => {
            Err(EngineError::config(format!("{object} has 'sourceArchiveDir' but 'cleanSource' is off"))
                .help("set 'cleanSource' to 'archive', or leave 'sourceArchiveDir' out"))
        }
        (Some("delete"), _) => Ok(CleanSource::Delete),
        (Some("archive"), Some(folder)) => Ok(CleanSource::Archive(local_path(object, folder)?)),
        (Some("archive"), None) => {
            Err(EngineError::config(format!("{object}: 'cleanSource' is 'archive' without 'sourceArchiveDir'"))
                .help("add it: OPTIONS ('sourceArchiveDir' = '/data/archive')"))
        }
        (Some(other), _) => Err(EngineError::config(format!(
            "{object}: option 'cleanSource' is '{other}', expected off, delete or archive"
        ))),
    }
}

fn positive(object: &str, reader: &mut OptionReader<'_>, key: &str) -> Result<Option<usize>> {
    match reader.parsed::<usize>(key, "a whole number above 0")? {
        Some(0) => {
            Err(EngineError::config(format!("{object}: option '{key}' is '0', expected a whole number above 0")))
        }
        other => Ok(other),
    }
}

/// A size in bytes, as all sizes are written, above 0.
pub(crate) fn size(object: &str, reader: &mut OptionReader<'_>, key: &str) -> Result<Option<u64>> {
    let Some(text) = reader.text(key) else { return Ok(None) };
    match parse_size(text) {
        Ok(bytes) if bytes > 0 => Ok(Some(bytes)),
        Ok(_) => Err(EngineError::config(format!("{object}: option '{key}' is '{text}', expected a size above 0"))),
        Err(mistake) => Err(EngineError::config(format!("{object}: option '{key}': {mistake}"))),
    }
}

fn age(object: &str, reader: &mut OptionReader<'_>) -> Result<Duration> {
    let text = reader.text("maxFileAge").unwrap_or("7d");
    parse_duration(text).ok_or_else(|| {
        EngineError::config(format!(
            "{object}: option 'maxFileAge' is '{text}', expected a time such as 7d, 12h or 30m"
        ))
    })
}

/// A time in Spark's short form: `7d`, `12h`, `30m`, `10s`, `500ms`; a bare number is milliseconds.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit_ms = match &lower[digits.len()..] {
        "" | "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    Some(Duration::from_millis(digits.trim().parse::<u64>().ok()?.checked_mul(unit_ms)?))
}

fn glob_filter(object: &str, reader: &mut OptionReader<'_>) -> Result<Option<glob::Pattern>> {
    reader
        .text("pathGlobFilter")
        .map(|text| {
            glob::Pattern::new(text).map_err(|error| {
                EngineError::config(format!(
                    "{object}: option 'pathGlobFilter' is '{text}', expected a glob such as *.json"
                ))
                .caused_by(error)
            })
        })
        .transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_spark_reads_them() {
        assert_eq!(parse_duration("7d"), Some(Duration::from_secs(7 * 86_400)));
        assert_eq!(parse_duration("250"), Some(Duration::from_millis(250)));
        assert_eq!(parse_duration("soon"), None);
    }

    #[test]
    fn a_location_elsewhere_is_refused() {
        assert_eq!(local_path("t", "file:///data/in").expect("a path"), "/data/in");
        let error = local_path("table t", "s3://bucket/in").expect_err("refused");
        assert!(error.to_string().contains("kind 's3'"), "{error}");
    }
}
