//! The columns of an inventory, of whatever Arrow types its file has them in.

use std::borrow::Cow;

use arrow_array::cast::AsArray as _;
use arrow_array::types::{Int64Type, TimestampMicrosecondType, UInt64Type};
use arrow_array::{Array, ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray};
use arrow_array::{TimestampMicrosecondArray, UInt64Array};
use arrow_cast::cast;
use arrow_schema::{DataType, TimeUnit};
use chrono::DateTime;
use percent_encoding::percent_decode;

use super::blocks::Row;
use crate::{Error, ErrorKind, Result};

/// Which columns hold what, and in which form.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InventoryColumns {
    /// Names of the columns of keys, sizes in bytes, and times.
    pub key: String,
    /// Sizes in bytes.
    pub size: String,
    /// Times: timestamps, text (ISO 8601 or as in HTTP), or numbers since 1970 UTC.
    pub last_modified: String,
    /// Tags.
    pub e_tag: Option<String>,
    /// MD5 of the bytes in Base64, of which services make tags.
    pub md5: Option<String>,
    /// Buckets of the keys.
    pub bucket: Option<String>,
    /// The bucket of all keys, where no column tells.
    pub of_bucket: Option<String>,
    /// Rows are left out unless this is true: older versions are not.
    pub is_latest: Vec<String>,
    /// Rows are left out where one of these is true: delete markers, folders.
    pub is_left_out: Vec<String>,
    /// Rows are left out where one of these holds anything: times of deletion, snapshots.
    pub is_absent: Vec<String>,
    /// Keys are URL-encoded.
    pub encoded_keys: bool,
    /// Tags are to be in quotes, as the service gives them.
    pub quoted_tags: bool,
}

/// The columns of a batch.
pub(super) struct Read {
    keys: StringArray,
    sizes: UInt64Array,
    times: Times,
    tags: Option<StringArray>,
    digests: Option<StringArray>,
    buckets: Option<StringArray>,
    of_bucket: Option<String>,
    latest: Vec<BooleanArray>,
    left_out: Vec<BooleanArray>,
    absent: Vec<StringArray>,
    encoded_keys: bool,
    quoted_tags: bool,
}

impl Read {
    pub(super) fn new(batch: &RecordBatch, columns: &InventoryColumns) -> Result<Self> {
        let text = |name: &str| -> Result<StringArray> {
            Ok(converted(batch, name, &DataType::Utf8)?.as_string::<i32>().clone())
        };
        let flag = |name: &String| -> Result<BooleanArray> {
            Ok(converted(batch, name, &DataType::Boolean)?.as_boolean().clone())
        };
        let sizes = converted(batch, &columns.size, &DataType::UInt64)?;
        Ok(Self {
            keys: text(&columns.key)?,
            sizes: sizes.as_primitive::<UInt64Type>().clone(),
            times: Times::new(batch, &columns.last_modified)?,
            tags: columns.e_tag.as_deref().map(text).transpose()?,
            digests: columns.md5.as_deref().map(text).transpose()?,
            buckets: columns.bucket.as_deref().map(text).transpose()?,
            of_bucket: columns.of_bucket.clone(),
            latest: columns.is_latest.iter().map(flag).collect::<Result<_>>()?,
            left_out: columns.is_left_out.iter().map(flag).collect::<Result<_>>()?,
            absent: columns.is_absent.iter().map(|name| text(name)).collect::<Result<_>>()?,
            encoded_keys: columns.encoded_keys,
            quoted_tags: columns.quoted_tags,
        })
    }

    /// Whether a row is of no object that is there: an older version, a delete marker, a folder.
    pub(super) fn is_left_out(&self, at: usize) -> bool {
        self.latest.iter().any(|flags| flags.is_valid(at) && !flags.value(at))
            || self.left_out.iter().any(|flags| flags.is_valid(at) && flags.value(at))
            || self.absent.iter().any(|texts| texts.is_valid(at) && !texts.value(at).is_empty())
    }

    pub(super) fn key(&self, at: usize) -> Option<Cow<'_, str>> {
        let key = self.keys.is_valid(at).then(|| self.keys.value(at))?;
        if !self.encoded_keys || !key.contains(['%', '+']) {
            return Some(Cow::Borrowed(key));
        }
        // A space is a plus there, and a plus is encoded.
        let key = key.replace('+', " ");
        let decoded = percent_decode(key.as_bytes()).decode_utf8_lossy().into_owned();
        Some(Cow::Owned(decoded))
    }

    pub(super) fn bucket(&self, at: usize) -> Option<&str> {
        let buckets = self.buckets.as_ref().filter(|buckets| buckets.is_valid(at));
        buckets.map(|buckets| buckets.value(at)).or(self.of_bucket.as_deref())
    }

    /// Everything but the key.
    pub(super) fn fill(&self, at: usize, key: &str, row: &mut Row) -> Result<()> {
        let lacking = |what: &str| {
            Error::new(ErrorKind::Listing, format!("the listing has no {what} for {key}"))
                .with_hint(format!("say which column holds it: --listing-columns {what}=…"))
        };
        let size = self.sizes.is_valid(at).then(|| self.sizes.value(at));
        row.size = size.ok_or_else(|| lacking("size"))?;
        row.last_modified = self.times.at(at).ok_or_else(|| lacking("last_modified"))?;
        row.e_tag.clear();
        let tag = self.tags.as_ref().filter(|tags| tags.is_valid(at)).map(|tags| tags.value(at));
        let digest = self.digests.as_ref().filter(|all| all.is_valid(at));
        let digest = digest.and_then(|digests| hexadecimal(digests.value(at)));
        let Some(tag) = digest.as_deref().or(tag).filter(|tag| !tag.is_empty()) else {
            return Ok(());
        };
        if self.quoted_tags && !tag.starts_with('"') && !tag.starts_with("W/") {
            row.e_tag.push(b'"');
            row.e_tag.extend_from_slice(tag.as_bytes());
            row.e_tag.push(b'"');
        } else {
            row.e_tag.extend_from_slice(tag.as_bytes());
        }
        Ok(())
    }
}

/// Times in microseconds, from timestamps, text or numbers.
struct Times {
    stamps: TimestampMicrosecondArray,
    /// Text that is no ISO 8601.
    texts: Option<StringArray>,
    numbers: Option<Int64Array>,
}

impl Times {
    fn new(batch: &RecordBatch, name: &str) -> Result<Self> {
        let column = column(batch, name)?;
        let micros = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let texts = matches!(
            column.data_type(),
            DataType::Utf8
                | DataType::LargeUtf8
                | DataType::Utf8View
                | DataType::Binary
                | DataType::LargeBinary
                | DataType::BinaryView
                | DataType::Dictionary(_, _)
        );
        let texts = if texts {
            Some(converted(batch, name, &DataType::Utf8)?.as_string::<i32>().clone())
        } else {
            None
        };
        let nanoseconds =
            matches!(column.data_type(), DataType::Timestamp(TimeUnit::Nanosecond, _));
        let is_number = nanoseconds || column.data_type().is_numeric();
        let numbers = if is_number {
            Some(converted(batch, name, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
        } else {
            None
        };
        let of = match &texts {
            Some(texts) => cast(texts, &micros),
            None if is_number => Ok(arrow_array::new_null_array(&micros, column.len())),
            None => cast(column, &micros),
        };
        let stamps = of.map_err(|error| unusable(name, column, &error.to_string()))?;
        Ok(Self {
            stamps: stamps.as_primitive::<TimestampMicrosecondType>().clone(),
            texts,
            numbers,
        })
    }

    fn at(&self, at: usize) -> Option<i64> {
        if self.stamps.is_valid(at) {
            return Some(self.stamps.value(at));
        }
        if let Some(numbers) = self.numbers.as_ref().filter(|numbers| numbers.is_valid(at)) {
            return Some(micros_of(numbers.value(at)));
        }
        let text = self.texts.as_ref().filter(|texts| texts.is_valid(at))?.value(at).trim();
        let number = text.parse().map(micros_of).ok();
        number
            .or_else(|| DateTime::parse_from_rfc2822(text).ok().map(|time| time.timestamp_micros()))
    }
}

/// A number since 1970 in the unit that its size shows: seconds, milli-, micro- or nanoseconds.
fn micros_of(number: i64) -> i64 {
    match number.unsigned_abs() {
        0..100_000_000_000 => number.saturating_mul(1_000_000),
        100_000_000_000..100_000_000_000_000 => number.saturating_mul(1_000),
        100_000_000_000_000..100_000_000_000_000_000 => number,
        // Rounded up, as of every object.
        _ => -(-number).div_euclid(1_000),
    }
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef> {
    batch.column_by_name(name).ok_or_else(|| {
        let schema = batch.schema();
        let names: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        let message = format!("the listing has no column {name}, but {}", names.join(", "));
        Error::new(ErrorKind::Listing, message)
            .with_hint("say which columns to take: --listing-columns key=…,size=…,last_modified=…")
    })
}

/// A column as another type; what cannot be converted is null.
fn converted(batch: &RecordBatch, name: &str, wanted: &DataType) -> Result<ArrayRef> {
    let column = column(batch, name)?;
    cast(column, wanted).map_err(|error| unusable(name, column, &error.to_string()))
}

fn unusable(name: &str, column: &ArrayRef, why: &str) -> Error {
    let kind = column.data_type();
    let message =
        format!("column {name} of the listing holds {kind}, which is of no use here: {why}");
    Error::new(ErrorKind::Listing, message)
        .with_hint("say which columns to take: --listing-columns key=…,size=…,last_modified=…")
}

/// The hexadecimal digits of an MD5 that is given in Base64.
fn hexadecimal(base64: &str) -> Option<String> {
    let value = |byte: u8| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let text = base64.trim().trim_end_matches('=');
    let mut bits: u128 = 0;
    if text.len() != 22 {
        return None;
    }
    // 16 bytes are 128 bits: 21 digits and 2 bits of the last.
    for (at, byte) in text.bytes().enumerate() {
        let digit = u128::from(value(byte)?);
        bits = if at == 21 { (bits << 2) | (digit >> 4) } else { (bits << 6) | digit };
    }
    Some(format!("{bits:032x}"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{Float64Array, TimestampNanosecondArray};
    use arrow_schema::{Field, Schema};

    use super::*;

    fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
        let fields: Vec<_> = columns
            .iter()
            .map(|(name, column)| Field::new(*name, column.data_type().clone(), true))
            .collect();
        let arrays = columns.into_iter().map(|(_, column)| column).collect();
        RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap()
    }

    fn columns() -> InventoryColumns {
        InventoryColumns {
            key: "key".to_owned(),
            size: "size".to_owned(),
            last_modified: "time".to_owned(),
            ..InventoryColumns::default()
        }
    }

    fn text(texts: &[&str]) -> ArrayRef {
        Arc::new(StringArray::from(texts.to_vec()))
    }

    #[test]
    fn times_are_read_in_every_form() {
        let second = 1_700_000_000_000_000;
        let texts = text(&[
            "2023-11-14T22:13:20.000Z",
            "2023-11-14 22:13:20",
            "Tue, 14 Nov 2023 22:13:20 GMT",
            "1700000000",
            "1700000000000",
            "2023-11-14T22:13:20.0000000Z",
        ]);
        let given = batch(vec![("time", texts)]);
        let times = Times::new(&given, "time").unwrap();
        assert_eq!((0..6).map(|at| times.at(at)).collect::<Vec<_>>(), [Some(second); 6]);
        let nanos = TimestampNanosecondArray::from(vec![Some(1_700_000_000_000_000_001), None]);
        let given = batch(vec![("time", Arc::new(nanos))]);
        let times = Times::new(&given, "time").unwrap();
        assert_eq!((times.at(0), times.at(1)), (Some(second + 1), None));
        let millis = Int64Array::from(vec![1_700_000_000_000]);
        let given = batch(vec![("time", Arc::new(millis))]);
        assert_eq!(Times::new(&given, "time").unwrap().at(0), Some(second));
    }

    #[test]
    fn what_is_no_object_of_today_is_left_out() {
        let given = batch(vec![
            ("key", text(&["a", "b", "c", "d"])),
            ("size", text(&["1", "", "3", "4"])),
            ("time", text(&["1", "2", "3", "4"])),
            ("latest", text(&["true", "true", "false", "TRUE"])),
            ("marker", text(&["false", "true", "false", "false"])),
            ("deleted", text(&["", "", "", "2024-01-01"])),
        ]);
        let columns = InventoryColumns {
            is_latest: vec!["latest".to_owned()],
            is_left_out: vec!["marker".to_owned()],
            is_absent: vec!["deleted".to_owned()],
            ..columns()
        };
        let read = Read::new(&given, &columns).unwrap();
        let left_out: Vec<_> = (0..4).map(|at| read.is_left_out(at)).collect();
        assert_eq!(left_out, [false, true, true, true]);
    }

    #[test]
    fn keys_are_decoded_and_tags_quoted() {
        let given = batch(vec![
            ("key", text(&["a+b%2Bc%2F%C3%BC", "plain"])),
            ("size", Arc::new(Float64Array::from(vec![5.0, 6.0]))),
            ("time", text(&["1", "2"])),
            ("tag", text(&["abc-12", "\"abc\""])),
            ("md5", text(&["", "kAFQmDzST7DWlj99KOF/cg=="])),
        ]);
        let columns = InventoryColumns {
            e_tag: Some("tag".to_owned()),
            md5: Some("md5".to_owned()),
            encoded_keys: true,
            quoted_tags: true,
            ..columns()
        };
        let read = Read::new(&given, &columns).unwrap();
        assert_eq!(read.key(0).as_deref(), Some("a b+c/ü"));
        let mut row = Row::default();
        read.fill(0, "a", &mut row).unwrap();
        assert_eq!((row.size, row.e_tag.as_slice()), (5, b"\"abc-12\"".as_slice()));
        read.fill(1, "a", &mut row).unwrap();
        assert_eq!(row.e_tag, b"\"900150983cd24fb0d6963f7d28e17f72\"");
    }

    #[test]
    fn a_column_that_is_not_there_is_named_and_so_are_those_that_are() {
        let given = batch(vec![("name", text(&["a"])), ("bytes", text(&["1"]))]);
        let error = Read::new(&given, &columns()).err().unwrap();
        assert!(error.message().contains("no column") && error.message().contains("name, bytes"));
    }
}
