//! Options of the JSON, CSV and Avro functions: what `map('name', 'value', ...)` says, checked.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use chrono_tz::Tz;
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::logical_expr::ColumnarValue;
use highwater_engine::plan::datetime_pattern::zone::Zone;

use super::{failed, is_text, refused};

/// Options as a call gives them, their names in lower case.
#[derive(Debug, Default)]
pub(super) struct Given {
    values: BTreeMap<String, String>,
}

/// Spark's options of JSON that change what is read or written and that nothing here knows, with the value that is no
/// change.
const UNSUPPORTED_OF_JSON: &[(&str, &str)] = &[
    ("allowBackslashEscapingAnyCharacter", "false"),
    ("allowComments", "false"),
    ("allowNonNumericNumbers", "true"),
    ("allowNumericLeadingZeros", "false"),
    ("allowSingleQuotes", "true"),
    ("allowUnquotedControlChars", "false"),
    ("allowUnquotedFieldNames", "false"),
    ("dropFieldIfAllNull", "false"),
    ("enableDateTimeParsingFallback", "false"),
    ("inferTimestamp", "false"),
    ("locale", "en-US"),
    ("prefersDecimal", "false"),
    ("primitivesAsString", "false"),
    ("sortKeys", "false"),
    ("writeNonAsciiCharacterAsCodePoint", "false"),
];

/// The same of CSV.
const UNSUPPORTED_OF_CSV: &[(&str, &str)] = &[
    ("charToEscapeQuoteEscaping", "\\"),
    ("enableDateTimeParsingFallback", "false"),
    ("escapeQuotes", "true"),
    ("locale", "en-US"),
    ("maxColumns", "20480"),
    ("maxCharsPerColumn", "-1"),
    ("preferDate", "true"),
    ("unescapedQuoteHandling", "STOP_AT_DELIMITER"),
];

/// Checks the type of the argument that gives the options.
pub(super) fn check_type(data_type: &DataType) -> Result<()> {
    let DataType::Map(entries, _) = data_type else {
        return Err(refused("INVALID_OPTIONS.NON_MAP_FUNCTION", "options are written as map('name', 'value', ...)"));
    };
    match entries.data_type() {
        DataType::Struct(sides) if sides.iter().all(|side| is_text(side.data_type())) => Ok(()),
        _ => Err(refused("INVALID_OPTIONS.NON_STRING_TYPE", "names and values of options are strings")),
    }
}

/// Options that are computed row by row.
pub(super) fn not_constant() -> DataFusionError {
    refused("INVALID_OPTIONS.NON_MAP_FUNCTION", "options are constants: map('name', 'value', ...)")
}

impl Given {
    /// The options in an argument, if there is one.
    pub(super) fn of_argument(argument: Option<&ColumnarValue>) -> Result<Self> {
        match argument {
            None => Ok(Self::default()),
            Some(ColumnarValue::Scalar(value)) => Self::of_scalar(value),
            Some(ColumnarValue::Array(_)) => Err(not_constant()),
        }
    }

    /// The options of JSON in a constant.
    pub(super) fn of_scalar(value: &ScalarValue) -> Result<Self> {
        Self::read(value, UNSUPPORTED_OF_JSON)
    }

    /// The options of CSV in a constant.
    pub(super) fn of_csv(value: &ScalarValue) -> Result<Self> {
        Self::read(value, UNSUPPORTED_OF_CSV)
    }

    fn read(value: &ScalarValue, unsupported: &[(&str, &str)]) -> Result<Self> {
        check_type(&value.data_type())?;
        let ScalarValue::Map(maps) = value else { return Ok(Self::default()) };
        let (names, texts) = (cast(maps.keys(), &DataType::Utf8)?, cast(maps.values(), &DataType::Utf8)?);
        let (names, texts) = (names.as_string::<i32>(), texts.as_string::<i32>());
        let given = (0..names.len()).filter(|row| texts.is_valid(*row));
        let given =
            Self { values: given.map(|row| (names.value(row).to_lowercase(), texts.value(row).to_owned())).collect() };
        for (name, default) in unsupported {
            if let Some(value) = given.text(name).filter(|value| !value.eq_ignore_ascii_case(default)) {
                let message = format!("option '{name}' is '{value}', which is not supported; it is always '{default}'");
                return Err(refused("UNSUPPORTED_OPTION", message));
            }
        }
        Ok(given)
    }

    /// Options whose names and values come in turn, each a constant text.
    pub(super) fn of_pairs<'a>(texts: impl Iterator<Item = Option<&'a str>>) -> Result<Self> {
        let texts: Option<Vec<&str>> = texts.collect();
        match texts.as_deref().map(|texts| texts.as_chunks::<2>()) {
            Some((pairs, [])) => {
                let pairs = pairs.iter().map(|[name, value]| (name.to_lowercase(), (*value).to_owned()));
                Ok(Self { values: pairs.collect() })
            }
            _ => {
                let message = "options are constants: map('name', 'value', ...)";
                Err(refused("INVALID_OPTIONS.NON_MAP_FUNCTION", message))
            }
        }
    }

    /// The value of an option, whatever the case of its name.
    pub(super) fn text(&self, name: &str) -> Option<&String> {
        self.values.get(&name.to_lowercase())
    }

    /// An option that is true or false.
    pub(super) fn flag(&self, name: &str, default: bool) -> Result<bool> {
        match self.text(name).map(|text| text.to_lowercase()).as_deref() {
            None => Ok(default),
            Some("true") => Ok(true),
            Some("false") => Ok(false),
            Some(other) => {
                Err(refused("INVALID_OPTIONS", format!("option '{name}' is '{other}', expected true or false")))
            }
        }
    }

    /// The zone that `timeZone` names, or else the session's, for values of a type.
    ///
    /// Only regions and offsets of whole hours are known here; without an instant in the type it does not matter.
    pub(super) fn zone(&self, session: Option<&str>, data_type: &DataType) -> Result<Tz> {
        let Some(name) = self.text("timeZone").map(String::as_str).or(session) else { return Ok(Tz::UTC) };
        let zone = Zone::parse(name)
            .ok_or_else(|| failed("INVALID_TIMEZONE", format!("the time zone '{name}' is not known")))?;
        match region(zone) {
            Some(region) => Ok(region),
            None if !has_instants(data_type) => Ok(Tz::UTC),
            None => {
                let message = format!("the time zone '{name}' is no region and no offset of whole hours");
                Err(refused("UNSUPPORTED_OPTION", format!("{message}, which is needed for TIMESTAMP")))
            }
        }
    }
}

fn region(zone: Zone) -> Option<Tz> {
    match zone {
        Zone::Region(region) => Some(region),
        Zone::Fixed(0) => Some(Tz::UTC),
        // The names count westward.
        Zone::Fixed(seconds) if seconds % 3600 == 0 => format!("Etc/GMT{:+}", -seconds / 3600).parse().ok(),
        Zone::Fixed(_) => None,
    }
}

fn has_instants(data_type: &DataType) -> bool {
    match data_type {
        DataType::Timestamp(_, zone) => zone.is_some(),
        DataType::Struct(fields) => fields.iter().any(|field| has_instants(field.data_type())),
        DataType::List(field) | DataType::Map(field, _) => has_instants(field.data_type()),
        _ => false,
    }
}
