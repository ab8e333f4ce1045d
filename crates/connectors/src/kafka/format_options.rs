//! The options of `value.format`: what each format takes, read once; those that it does not have are refused.
//!
//! Silence would let a `sep` on JSON, or a `mode` on values that nobody decodes, look as if it worked.

use highwater_engine::error::{EngineError, Result};
use highwater_engine::plan::catalog::OptionReader;

use super::avro::AvroSettings;
use super::options::ValueFormat;
use crate::format::{CsvWriteOptions, JsonWriteOptions};

/// Options of the value's format, as given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FormatOptions {
    /// `mode`: what happens to a value that does not parse.
    pub mode: Option<String>,
    /// `columnNameOfCorruptRecord`.
    pub corrupt_column: Option<String>,
    /// `timestampFormat`.
    pub timestamp_format: Option<String>,
    /// `timestampNTZFormat`.
    pub timestamp_ntz_format: Option<String>,
    /// `dateFormat`.
    pub date_format: Option<String>,
    /// `sep` of CSV.
    pub separator: Option<String>,
    /// `avro.schema` and what else is said of Avro.
    pub avro: AvroSettings,
}

/// The options that not every format has; those of Avro check themselves.
const OPTIONS: [&str; 6] =
    ["mode", "columnNameOfCorruptRecord", "timestampFormat", "timestampNTZFormat", "dateFormat", "sep"];

impl ValueFormat {
    /// What `value.format` says for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Csv => "csv",
            Self::Avro => "avro",
            Self::Raw => "raw",
        }
    }

    /// How many of [`OPTIONS`] it has, from the first on.
    fn options(self) -> &'static [&'static str] {
        match self {
            Self::Csv => &OPTIONS,
            Self::Json => &OPTIONS[..5],
            Self::Avro => &OPTIONS[..2],
            Self::Raw => &[],
        }
    }
}

impl FormatOptions {
    /// Reads the options, whatever the format.
    pub fn read(object: &str, reader: &mut OptionReader<'_>) -> Result<Self> {
        let avro = AvroSettings::read(object, reader)?;
        let mut text = |key: &str| reader.text(key).map(str::to_owned);
        Ok(Self {
            mode: text("mode"),
            corrupt_column: text("columnNameOfCorruptRecord"),
            timestamp_format: text("timestampFormat"),
            timestamp_ntz_format: text("timestampNTZFormat"),
            date_format: text("dateFormat"),
            separator: text("sep"),
            avro,
        })
    }

    /// Refuses what the format does not have. `is_said` tells whether an option named it.
    pub fn check(&self, object: &str, format: ValueFormat, is_said: bool) -> Result<()> {
        if format != ValueFormat::Avro {
            self.avro.refuse_for_others(object)?;
        }
        let given = [
            &self.mode,
            &self.corrupt_column,
            &self.timestamp_format,
            &self.timestamp_ntz_format,
            &self.date_format,
            &self.separator,
        ];
        let has = format.options();
        let stranger = OPTIONS.iter().zip(given).find(|(name, given)| given.is_some() && !has.contains(name));
        let Some((name, _)) = stranger else { return Ok(()) };
        let word = format.word();
        let found = if is_said {
            format!("{object}: option '{name}' is not for 'value.format' = '{word}'")
        } else if format == ValueFormat::Raw {
            format!("{object}: option '{name}' is for values that are decoded, and the table declares no columns")
        } else {
            format!("{object}: option '{name}' is not for {word}, which is the format without 'value.format'")
        };
        let help = match has {
            [] => "leave it out, or name a format: 'value.format' = 'json', csv or avro".to_owned(),
            has => format!("leave it out; {word} has {}", has.join(", ")),
        };
        Err(EngineError::config(found).help(help))
    }

    /// How rows are written as JSON.
    pub fn json_write(&self) -> JsonWriteOptions {
        JsonWriteOptions {
            timestamp_format: self.timestamp_format.clone(),
            timestamp_ntz_format: self.timestamp_ntz_format.clone(),
            date_format: self.date_format.clone(),
            ..JsonWriteOptions::default()
        }
    }

    /// How rows are written as CSV.
    pub fn csv_write(&self) -> CsvWriteOptions {
        let defaults = CsvWriteOptions::default();
        CsvWriteOptions {
            sep: self.separator.clone().unwrap_or(defaults.sep),
            timestamp_format: self.timestamp_format.clone(),
            timestamp_ntz_format: self.timestamp_ntz_format.clone(),
            date_format: self.date_format.clone(),
            ..defaults
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_format_has_its_own_options() {
        let check = |option: &str, format: ValueFormat, is_said: bool, expected: Option<&str>| {
            let mut options = FormatOptions::default();
            match option {
                "sep" => options.separator = Some(";".to_owned()),
                "mode" => options.mode = Some("FAILFAST".to_owned()),
                _ => options.date_format = Some("yyyy".to_owned()),
            }
            let found = options
                .check("t", format, is_said)
                .map_err(|error| format!("{error}; {}", error.next_step().unwrap_or_default()));
            assert_eq!(found.err().as_deref(), expected, "{option} of {format:?}");
        };
        for (option, format) in [
            ("sep", ValueFormat::Csv),
            ("mode", ValueFormat::Csv),
            ("mode", ValueFormat::Json),
            ("mode", ValueFormat::Avro),
            ("dateFormat", ValueFormat::Json),
        ] {
            check(option, format, true, None);
        }
        let of_json =
            "leave it out; json has mode, columnNameOfCorruptRecord, timestampFormat, timestampNTZFormat, dateFormat";
        let said = format!("t: option 'sep' is not for 'value.format' = 'json'; {of_json}");
        check("sep", ValueFormat::Json, true, Some(&said));
        let unsaid = format!("t: option 'sep' is not for json, which is the format without 'value.format'; {of_json}");
        check("sep", ValueFormat::Json, false, Some(&unsaid));
        let help = "leave it out, or name a format: 'value.format' = 'json', csv or avro";
        check(
            "mode",
            ValueFormat::Raw,
            true,
            Some(&format!("t: option 'mode' is not for 'value.format' = 'raw'; {help}")),
        );
        let undeclared = "t: option 'mode' is for values that are decoded, and the table declares no columns";
        check("mode", ValueFormat::Raw, false, Some(&format!("{undeclared}; {help}")));
        let of_avro = "leave it out; avro has mode, columnNameOfCorruptRecord";
        check(
            "dateFormat",
            ValueFormat::Avro,
            true,
            Some(&format!("t: option 'dateFormat' is not for 'value.format' = 'avro'; {of_avro}")),
        );
    }
}
