//! Keys and values as bytes, in Arrow's row format, of all layouts an operator's rows may be in.
//!
//! ```text
//!   value   the columns of layout 0  │  0x80 + layout, its columns          a value without parts is empty
//!   key     as the oldest format writes it, if that can hold it  │  0x80 + layout, its columns
//! ```
//!
//! Arrow's format never begins with a byte that large, so that what was written before there were layouts is layout 0.
//! A value is written in the newest layout. A key must be the same bytes for ever, because its place follows from them:
//! it is written in the oldest format that holds it, and 5 is where it was when keys were `INT`, while 5,000,000,000 has
//! bytes of its own.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, new_null_array};
use arrow::compute::{CastOptions, cast, cast_with_options, interleave};
use arrow::datatypes::DataType;
use arrow::row::{RowConverter, Rows};

use super::{History, types};
use crate::error::{EngineError, Result};
use crate::operator::keyed::row_converter;

const TAG: u8 = 0x80;

/// The layout a stored row says it is of, and its columns.
fn split_tag(bytes: &[u8]) -> (u8, &[u8]) {
    match bytes.split_first() {
        Some((tag, rest)) if *tag >= TAG => (tag & !TAG, rest),
        _ => (0, bytes),
    }
}

fn unknown(version: u8) -> EngineError {
    EngineError::data(format!("a state row is of layout {version}, which the checkpoint's metadata does not have"))
        .help("restore the checkpoint from a backup, or give the query a new checkpoint location to start over")
}

fn tag_of(version: usize) -> Option<u8> {
    u8::try_from(version).ok().filter(|version| *version > 0).map(|version| TAG | version)
}

/// Rows with the tag that stands before each.
pub(crate) struct Encoded {
    tag: Option<u8>,
    rows: Rows,
}

impl Encoded {
    /// The bytes of a row; `buffer` is room to put them together in.
    pub(crate) fn get<'a>(&'a self, row: usize, buffer: &'a mut Vec<u8>) -> &'a [u8] {
        let Some(tag) = self.tag else { return self.rows.row(row).data() };
        buffer.clear();
        buffer.push(tag);
        buffer.extend_from_slice(self.rows.row(row).data());
        buffer
    }

    /// The columns of a row, without the tag.
    pub(crate) fn columns_of(&self, row: usize) -> &[u8] {
        self.rows.row(row).data()
    }
}

/// The values of one table.
pub(crate) struct ValueCodec {
    versions: Vec<Version>,
    /// The types of each part of now.
    parts: Vec<Vec<DataType>>,
}

/// Values of one layout.
struct Version {
    rows: RowConverter,
    /// For each part of now its columns in values of this layout.
    places: Vec<Option<Range<usize>>>,
}

/// Values of one layout, as parts of now.
pub(crate) struct Decoded {
    /// Which of the values.
    pub(crate) rows: Vec<u32>,
    /// The columns of each part; none for a part that these values do not have.
    pub(crate) parts: Vec<Option<Vec<ArrayRef>>>,
}

impl ValueCodec {
    /// Of table `at` of an operator.
    pub(crate) fn new(history: &History, at: usize) -> Result<Self> {
        let no_parts = Vec::new();
        let parts_of = |layout: &super::Layout| layout.tables.get(at).unwrap_or(&no_parts).clone();
        let now = history.now().map(parts_of).unwrap_or_default();
        let version = |layout: &super::Layout| {
            let (mut columns, mut ranges) = (Vec::new(), BTreeMap::new());
            for part in parts_of(layout) {
                let first = columns.len();
                columns.extend(part.state_types());
                ranges.insert(part.number, first..columns.len());
            }
            let places = now.iter().map(|part| ranges.get(&part.number).cloned()).collect();
            Ok(Version { rows: row_converter(&columns)?, places })
        };
        let versions = history.0.iter().map(version).collect::<Result<_>>()?;
        Ok(Self { versions, parts: now.iter().map(|part| types(&part.state)).collect() })
    }

    /// Values that always had these parts, given by the types of their columns.
    pub(crate) fn plain(parts: Vec<Vec<DataType>>) -> Result<Self> {
        let mut first = 0;
        let place = |types: &Vec<DataType>| {
            let place = first..first + types.len();
            first = place.end;
            Some(place)
        };
        let places = parts.iter().map(place).collect();
        Ok(Self { versions: vec![Version { rows: row_converter(&parts.concat())?, places }], parts })
    }

    /// The number of the layout that is written.
    pub(crate) fn version(&self) -> u8 {
        u8::try_from(self.versions.len().saturating_sub(1)).unwrap_or(u8::MAX)
    }

    /// Values from the columns of all parts, one after the other; none if no part has any.
    pub(crate) fn encode(&self, columns: &[ArrayRef]) -> Result<Option<Encoded>> {
        let Some(version) = self.versions.last().filter(|_| !columns.is_empty()) else { return Ok(None) };
        Ok(Some(Encoded { tag: tag_of(self.versions.len() - 1), rows: version.rows.convert_columns(columns)? }))
    }

    /// Stored values as parts of now, those of one layout together.
    pub(crate) fn decode(&self, values: &[impl AsRef<[u8]>]) -> Result<Vec<Decoded>> {
        self.decode_tagged(values.iter().map(|value| split_tag(value.as_ref())))
    }

    /// The same with the layout of each told apart from its columns.
    fn decode_tagged<'a>(&self, values: impl Iterator<Item = (u8, &'a [u8])>) -> Result<Vec<Decoded>> {
        let mut by_version: BTreeMap<u8, (Vec<u32>, Vec<&[u8]>)> = BTreeMap::new();
        for (row, (version, bytes)) in (0_u32..).zip(values) {
            // What has no columns has no parts, whatever its layout.
            if !bytes.is_empty() {
                let (rows, of_version) = by_version.entry(version).or_default();
                rows.push(row);
                of_version.push(bytes);
            }
        }
        let of_version = |(number, (rows, values)): (u8, (Vec<u32>, Vec<&[u8]>))| {
            let version = self.versions.get(usize::from(number)).ok_or_else(|| unknown(number))?;
            let parser = version.rows.parser();
            let columns = version.rows.convert_rows(values.into_iter().map(|value| parser.parse(value)))?;
            let part = |(place, types): (&Option<Range<usize>>, &Vec<DataType>)| {
                let place = place.clone()?;
                Some(
                    columns[place]
                        .iter()
                        .zip(types)
                        .map(|(column, to)| widened(column, to))
                        .collect::<Result<Vec<_>>>(),
                )
            };
            let parts = version.places.iter().zip(&self.parts).map(|pair| part(pair).transpose());
            Ok(Decoded { rows, parts: parts.collect::<Result<_>>()? })
        };
        by_version.into_iter().map(of_version).collect()
    }

    /// Stored rows of columns, in their order; NULL where a row does not have a column.
    pub(crate) fn decode_rows<'a>(&self, rows: impl Iterator<Item = (u8, &'a [u8])>) -> Result<Vec<ArrayRef>> {
        let mut count = 0;
        let decoded = self.decode_tagged(rows.inspect(|_| count += 1))?;
        let column = |part: usize| {
            let kind = self.parts[part].first().cloned().unwrap_or(DataType::Null);
            let columns = decoded.iter().map(|decoded| match &decoded.parts[part] {
                Some(columns) => Arc::clone(&columns[0]),
                None => new_null_array(&kind, decoded.rows.len()),
            });
            in_order(&columns.collect::<Vec<_>>(), decoded.iter().map(|decoded| decoded.rows.as_slice()), &kind, count)
        };
        (0..self.parts.len()).map(column).collect()
    }
}

/// A column cast to a wider type.
fn widened(column: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    Ok(if column.data_type() == to { Arc::clone(column) } else { cast(column, to)? })
}

/// One column of `count` rows out of several, of which each says what rows it has; NULL for rows that none has.
fn in_order<'a>(
    columns: &[ArrayRef],
    rows: impl Iterator<Item = &'a [u32]>,
    kind: &DataType,
    count: usize,
) -> Result<ArrayRef> {
    let rows: Vec<&[u32]> = rows.collect();
    if let ([column], [rows]) = (columns, rows.as_slice())
        && rows.len() == count
    {
        return Ok(Arc::clone(column));
    }
    let none = new_null_array(kind, 1);
    let mut places = vec![(columns.len(), 0); count];
    for (at, rows) in rows.iter().enumerate() {
        rows.iter().enumerate().for_each(|(place, row)| places[*row as usize] = (at, place));
    }
    let columns: Vec<&dyn Array> = columns.iter().chain([&none]).map(AsRef::as_ref).collect();
    Ok(interleave(&columns, &places)?)
}

/// Keys of an operator.
pub(crate) struct KeyCodec {
    /// The oldest first; those whose keys are the same are one.
    formats: Vec<KeyFormat>,
    types: Vec<DataType>,
}

struct KeyFormat {
    tag: Option<u8>,
    rows: RowConverter,
    types: Vec<DataType>,
}

/// Keys as bytes.
pub(crate) enum EncodedKeys {
    /// Of one format.
    Plain(Rows),
    /// Of several.
    Mixed { bytes: Vec<u8>, ends: Vec<usize> },
}

impl EncodedKeys {
    pub(crate) fn get(&self, row: usize) -> &[u8] {
        match self {
            Self::Plain(rows) => rows.row(row).data(),
            Self::Mixed { bytes, ends } => {
                let start = if row == 0 { 0 } else { ends[row - 1] };
                &bytes[start..ends[row]]
            }
        }
    }
}

impl KeyCodec {
    /// Keys of these types, which they always had.
    pub(crate) fn plain(types: &[DataType]) -> Result<Self> {
        let format = KeyFormat { tag: None, rows: row_converter(types)?, types: types.to_vec() };
        Ok(Self { formats: vec![format], types: types.to_vec() })
    }

    /// Keys of an input of an operator that have these types now.
    pub(crate) fn of_input(types: &[DataType], history: Option<&History>) -> Result<Self> {
        match history.map(Self::new).transpose()? {
            Some(codec) if codec.formats.len() > 1 => Ok(codec),
            _ => Self::plain(types),
        }
    }

    /// Keys of an operator, in all formats they may be in.
    pub(crate) fn new(history: &History) -> Result<Self> {
        let mut formats: Vec<KeyFormat> = Vec::new();
        for (version, layout) in history.0.iter().enumerate() {
            let types = layout.key_types();
            if formats.last().is_none_or(|last| last.types != types) {
                formats.push(KeyFormat { tag: tag_of(version), rows: row_converter(&types)?, types });
            }
        }
        let types = formats.last().map(|format| format.types.clone()).unwrap_or_default();
        Ok(Self { formats, types })
    }

    /// The keys of rows; none if there are no columns.
    pub(crate) fn encode(&self, columns: &[ArrayRef]) -> Result<Option<EncodedKeys>> {
        let Some((newest, older)) = self.formats.split_last().filter(|_| !columns.is_empty()) else { return Ok(None) };
        let whole = newest.rows.convert_columns(columns)?;
        if older.is_empty() {
            return Ok(Some(EncodedKeys::Plain(whole)));
        }
        let mut narrowed = Vec::new();
        for format in older {
            let casts = |(column, kind): (&ArrayRef, &DataType)| {
                // What does not fit is NULL, and not what it was when it is cast back.
                let options = CastOptions { safe: true, ..CastOptions::default() };
                Ok(cast_with_options(column, kind, &options)?)
            };
            let narrow = columns.iter().zip(&format.types).map(casts).collect::<Result<Vec<_>>>()?;
            let back =
                narrow.iter().zip(&self.types).map(|(column, to)| widened(column, to)).collect::<Result<Vec<_>>>()?;
            narrowed.push((format, format.rows.convert_columns(&narrow)?, newest.rows.convert_columns(&back)?));
        }
        let (mut bytes, mut ends) = (Vec::new(), Vec::with_capacity(whole.num_rows()));
        for row in 0..whole.num_rows() {
            let key = whole.row(row).data();
            let fits = narrowed.iter().find(|(_, _, back)| back.row(row).data() == key);
            let (format, key) = fits.map_or((newest, key), |(format, narrow, _)| (*format, narrow.row(row).data()));
            bytes.extend(format.tag);
            bytes.extend_from_slice(key);
            ends.push(bytes.len());
        }
        Ok(Some(EncodedKeys::Mixed { bytes, ends }))
    }

    /// The columns of keys.
    pub(crate) fn decode<'a>(&self, keys: impl Iterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>> {
        if let [only] = self.formats.as_slice() {
            let parser = only.rows.parser();
            return Ok(only.rows.convert_rows(keys.map(|key| parser.parse(key)))?);
        }
        let mut count = 0;
        let mut by_version: BTreeMap<u8, (Vec<u32>, Vec<&[u8]>)> = BTreeMap::new();
        for (row, key) in (0_u32..).zip(keys) {
            let (version, key) = split_tag(key);
            let (rows, of_version) = by_version.entry(version).or_default();
            rows.push(row);
            of_version.push(key);
            count += 1;
        }
        let mut decoded = Vec::new();
        for (version, (rows, keys)) in &by_version {
            let format = self.formats.iter().find(|format| format.tag.unwrap_or(TAG) == TAG | version);
            let format = format.ok_or_else(|| unknown(*version))?;
            let parser = format.rows.parser();
            let columns = format.rows.convert_rows(keys.iter().map(|key| parser.parse(key)))?;
            let columns =
                columns.iter().zip(&self.types).map(|(column, to)| widened(column, to)).collect::<Result<Vec<_>>>()?;
            decoded.push((rows, columns));
        }
        let column = |(at, kind): (usize, &DataType)| {
            let columns: Vec<ArrayRef> = decoded.iter().map(|(_, columns)| Arc::clone(&columns[at])).collect();
            in_order(&columns, decoded.iter().map(|(rows, _)| rows.as_slice()), kind, count)
        };
        self.types.iter().enumerate().map(column).collect()
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float32Array, Float64Array, Int32Array, Int64Array, StringArray};
    use proptest::prelude::*;

    use super::super::{Layout, Part};
    use super::*;

    fn history(layouts: &[Layout]) -> History {
        let first = History::new(layouts[0].clone());
        layouts[1..].iter().fold(first, |history, layout| history.evolve(layout).unwrap().0)
    }

    fn keys(types: &[DataType]) -> Layout {
        let keys = types.iter().enumerate().map(|(at, kind)| (format!("k{at}"), kind.clone())).collect();
        Layout::new("groups".to_owned(), keys, vec![Vec::new()])
    }

    fn key_bytes(history: &History, columns: &[ArrayRef]) -> Vec<Vec<u8>> {
        let keys = KeyCodec::new(history).unwrap().encode(columns).unwrap().unwrap();
        (0..columns[0].len()).map(|row| keys.get(row).to_vec()).collect()
    }

    #[test]
    fn a_key_that_was_there_before_stays_where_it_was() {
        let narrow = keys(&[DataType::Int32, DataType::Float32, DataType::Utf8]);
        let wide = keys(&[DataType::Int64, DataType::Float64, DataType::Utf8]);
        let strings: ArrayRef = Arc::new(StringArray::from(vec!["a", "b", "a", ""]));
        let old: [ArrayRef; 3] = [
            Arc::new(Int32Array::from(vec![Some(5), None, Some(i32::MIN), Some(0)])),
            Arc::new(Float32Array::from(vec![Some(0.1_f32), Some(f32::NAN), None, Some(1.0)])),
            Arc::clone(&strings),
        ];
        let new: [ArrayRef; 3] = [
            Arc::new(Int64Array::from(vec![Some(5), None, Some(i64::from(i32::MIN)), Some(1 << 40)])),
            Arc::new(Float64Array::from(vec![Some(f64::from(0.1_f32)), Some(f64::NAN), None, Some(1.0)])),
            strings,
        ];
        let before = key_bytes(&history(std::slice::from_ref(&narrow)), &old);
        let history = history(&[narrow, wide]);
        let after = key_bytes(&history, &new);
        assert_eq!(after[..3], before[..3]);
        assert!(after[3][0] == 0x81 && before.iter().all(|key| key[0] < TAG));
        let shown = KeyCodec::new(&history).unwrap().decode(after.iter().map(Vec::as_slice)).unwrap();
        assert_eq!(format!("{shown:?}"), format!("{new:?}"));
    }

    proptest! {
        #[test]
        fn equal_keys_are_equal_bytes_in_any_number_of_formats(
            values in proptest::collection::vec(prop_oneof![any::<i64>(), -300_i64..300, -70_000_i64..70_000], 1..40),
        ) {
            let layouts = [DataType::Int8, DataType::Int16, DataType::Int64].map(|kind| keys(&[kind]));
            let history = history(&layouts);
            let column: ArrayRef = Arc::new(Int64Array::from(values.clone()));
            let bytes = key_bytes(&history, &[Arc::clone(&column)]);
            for (a, of_a) in values.iter().zip(&bytes) {
                for (b, of_b) in values.iter().zip(&bytes) {
                    prop_assert_eq!(a == b, of_a == of_b);
                    // None begins another, so that the rows of a key are one range.
                    prop_assert!(a == b || !of_a.starts_with(of_b));
                }
            }
            let decoded = KeyCodec::new(&history).unwrap().decode(bytes.iter().map(Vec::as_slice)).unwrap();
            prop_assert_eq!(&decoded[0], &column);
        }
    }

    #[test]
    fn values_are_read_by_the_layout_they_were_written_in() {
        let part = |name: &str, kind: DataType| {
            Part::function(
                name.to_owned(),
                name.to_owned(),
                true,
                std::slice::from_ref(&kind),
                std::slice::from_ref(&kind),
            )
        };
        let layouts = [
            vec![part("min", DataType::Int32), part("max", DataType::Int32)],
            vec![part("max", DataType::Int64), part("sum", DataType::Float64)],
            vec![],
        ]
        .map(|parts| Layout::new("groups".to_owned(), Vec::new(), vec![parts]));
        let ints: ArrayRef = Arc::new(Int32Array::from(vec![1, 2]));
        let longs: ArrayRef = Arc::new(Int64Array::from(vec![3, 4]));
        let doubles: ArrayRef = Arc::new(Float64Array::from(vec![0.5, 1.5]));
        let mut buffer = Vec::new();
        let mut stored: Vec<Vec<u8>> = Vec::new();
        let first = ValueCodec::new(&history(&layouts[..1]), 0).unwrap();
        let encoded = first.encode(&[Arc::clone(&ints), Arc::clone(&ints)]).unwrap().unwrap();
        stored.extend((0..2).map(|row| encoded.get(row, &mut buffer).to_vec()));
        let second = ValueCodec::new(&history(&layouts[..2]), 0).unwrap();
        let encoded = second.encode(&[Arc::clone(&longs), Arc::clone(&doubles)]).unwrap().unwrap();
        stored.extend((0..2).map(|row| encoded.get(row, &mut buffer).to_vec()));
        // What has no functions.
        stored.push(Vec::new());
        let decoded = second.decode(&stored).unwrap();
        let rows: Vec<&[u32]> = decoded.iter().map(|decoded| decoded.rows.as_slice()).collect();
        assert_eq!(rows, [&[0, 1][..], &[2, 3]]);
        let max: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
        assert_eq!(decoded[0].parts, [Some(vec![max]), None]);
        assert_eq!(decoded[1].parts, [Some(vec![longs]), Some(vec![doubles])]);
        let third = ValueCodec::new(&history(&layouts), 0).unwrap();
        assert!(third.encode(&[]).unwrap().is_none());
        assert!(third.decode(&stored).unwrap().iter().all(|decoded| decoded.parts.is_empty()));
        assert!(first.decode(&stored).is_err());
    }
}
