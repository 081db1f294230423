//! The Arrow form of listed chunks: the schema, and building and reading its batches.

use std::fmt::Write as _;
use std::sync::Arc;

use arrow_array::builder::StringBuilder;
use arrow_array::cast::AsArray as _;
use arrow_array::types::{TimestampMicrosecondType, UInt32Type, UInt64Type};
use arrow_array::{
    ArrayRef, FixedSizeListArray, RecordBatch, RecordBatchOptions, StringArray,
    TimestampMicrosecondArray, UInt32Array, UInt64Array,
};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef, TimeUnit};

use crate::zarr::key::ChunkKeyEncoding;
use crate::{Error, ErrorKind, Result};

/// The schema of chunk record batches.
///
/// `chunk: fixed_size_list<uint32>[ndim]` (grid coordinates), `size: uint64` (bytes),
/// `last_modified: timestamp[us, UTC]`, `e_tag: string?` (as the service gave it).
///
/// # Errors
///
/// [`ErrorKind::UnsupportedArray`] for more dimensions than Arrow can hold (2³¹).
pub fn chunk_schema(ndim: usize) -> Result<SchemaRef> {
    Ok(Arc::clone(
        &RecordLayout::new(ndim, ChunkKeyEncoding::parse("v2", ".")?, None, false, true)?.schema,
    ))
}

/// What the record batches of a listing hold.
#[derive(Debug)]
pub(super) struct RecordLayout {
    ndim: usize,
    encoding: ChunkKeyEncoding,
    paths: Option<String>,
    flat: bool,
    e_tags: bool,
    schema: SchemaRef,
}

impl RecordLayout {
    /// With `paths`, a column `path` of that path, `/` and the key; `flat` gives each dimension a
    /// column of its own; without `e_tags` that column stays empty.
    pub(super) fn new(
        ndim: usize,
        encoding: ChunkKeyEncoding,
        paths: Option<String>,
        flat: bool,
        e_tags: bool,
    ) -> Result<Self> {
        let width = i32::try_from(ndim).map_err(|_| {
            Error::new(ErrorKind::UnsupportedArray, format!("an array of {ndim} dimensions"))
        })?;
        let mut fields = Vec::new();
        if flat {
            let name = |axis| Field::new(format!("chunk_{axis}"), DataType::UInt32, false);
            fields.extend((0..ndim).map(name));
        } else {
            let list = DataType::FixedSizeList(coordinate_field(), width);
            fields.push(Field::new("chunk", list, false));
        }
        let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        fields.push(Field::new("size", DataType::UInt64, false));
        fields.push(Field::new("last_modified", time, false));
        fields.push(Field::new("e_tag", DataType::Utf8, true));
        if paths.is_some() {
            fields.push(Field::new("path", DataType::Utf8, false));
        }
        let paths = paths.map(|path| if path.is_empty() { path } else { format!("{path}/") });
        Ok(Self { ndim, encoding, paths, flat, e_tags, schema: Arc::new(Schema::new(fields)) })
    }

    /// Whether rows tell `ETag`s; otherwise nobody needs to look for them.
    pub(super) fn tells_e_tags(&self) -> bool {
        self.e_tags
    }

    pub(super) fn ndim(&self) -> usize {
        self.ndim
    }

    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }
}

fn coordinate_field() -> Arc<Field> {
    Arc::new(Field::new("item", DataType::UInt32, false))
}

fn arrow_error(error: &ArrowError) -> Error {
    Error::new(ErrorKind::Listing, format!("cannot build a record batch: {error}"))
}

/// Fills one record batch.
pub(super) struct ChunkRecords {
    layout: Arc<RecordLayout>,
    coords: Vec<u32>,
    sizes: Vec<u64>,
    times: Vec<i64>,
    e_tags: StringBuilder,
    paths: StringBuilder,
    key: String,
}

impl ChunkRecords {
    pub(super) fn new(layout: Arc<RecordLayout>) -> Self {
        Self::with_capacity(layout, 0)
    }

    /// With room for so many rows.
    pub(super) fn with_capacity(layout: Arc<RecordLayout>, rows: usize) -> Self {
        Self {
            coords: Vec::with_capacity(rows * layout.ndim),
            sizes: Vec::with_capacity(rows),
            times: Vec::with_capacity(rows),
            layout,
            e_tags: StringBuilder::new(),
            paths: StringBuilder::new(),
            key: String::new(),
        }
    }

    pub(super) fn rows(&self) -> usize {
        self.sizes.len()
    }

    /// Adds a chunk; `coords` are as many as the array has dimensions, time is in µs since 1970.
    pub(super) fn push(
        &mut self,
        coords: &[u32],
        size: u64,
        last_modified: i64,
        e_tag: Option<&str>,
    ) {
        debug_assert_eq!(coords.len(), self.layout.ndim);
        self.coords.extend_from_slice(coords);
        self.sizes.push(size);
        self.times.push(last_modified);
        self.e_tags.append_option(e_tag.filter(|_| self.layout.e_tags));
        if let Some(prefix) = &self.layout.paths {
            self.key.clear();
            // Writing to a String does not fail.
            let _ = write!(self.key, "{prefix}{}", self.layout.encoding.encode(coords));
            self.paths.append_value(&self.key);
        }
    }

    pub(super) fn finish(mut self) -> Result<RecordBatch> {
        let (ndim, rows) = (self.layout.ndim, self.sizes.len());
        let mut columns: Vec<ArrayRef> = Vec::new();
        if self.layout.flat {
            for axis in 0..ndim {
                let coords = self.coords.iter().skip(axis).step_by(ndim).copied();
                columns.push(Arc::new(UInt32Array::from_iter_values(coords)));
            }
        } else {
            // With a length, because a scalar's list of no coordinates says nothing of the rows.
            let chunk = FixedSizeListArray::try_new_with_length(
                coordinate_field(),
                i32::try_from(ndim).unwrap_or(i32::MAX),
                Arc::new(UInt32Array::from(self.coords)) as ArrayRef,
                None,
                rows,
            );
            columns.push(Arc::new(chunk.map_err(|error| arrow_error(&error))?));
        }
        columns.push(Arc::new(UInt64Array::from(self.sizes)));
        columns.push(Arc::new(TimestampMicrosecondArray::from(self.times).with_timezone("UTC")));
        columns.push(Arc::new(self.e_tags.finish()));
        if self.layout.paths.is_some() {
            columns.push(Arc::new(self.paths.finish()));
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(Arc::clone(&self.layout.schema), columns, &options)
            .map_err(|error| arrow_error(&error))
    }
}

/// The columns of a batch in [`chunk_schema`], as plain slices.
#[derive(Debug, Clone, Copy)]
pub struct ChunkColumns<'a> {
    /// Grid coordinates, `ndim` for each row.
    pub coords: &'a [u32],
    /// Bytes of each object.
    pub sizes: &'a [u64],
    /// Microseconds since 1970-01-01 UTC.
    pub last_modified: &'a [i64],
    /// As the service gave them.
    pub e_tags: &'a StringArray,
}

impl<'a> ChunkColumns<'a> {
    /// Views a batch that was made in [`chunk_schema`].
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Listing`] when the batch has another schema.
    pub fn of(batch: &'a RecordBatch) -> Result<Self> {
        let view = || {
            Some(Self {
                coords: batch
                    .column_by_name("chunk")?
                    .as_fixed_size_list_opt()?
                    .values()
                    .as_primitive_opt::<UInt32Type>()?
                    .values(),
                sizes: batch.column_by_name("size")?.as_primitive_opt::<UInt64Type>()?.values(),
                last_modified: batch
                    .column_by_name("last_modified")?
                    .as_primitive_opt::<TimestampMicrosecondType>()?
                    .values(),
                e_tags: batch.column_by_name("e_tag")?.as_string_opt()?,
            })
        };
        view().ok_or_else(|| {
            Error::new(ErrorKind::Listing, "a record batch is not in the schema of chunk listings")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(ndim: usize, paths: Option<&str>, flat: bool) -> ChunkRecords {
        let encoding = ChunkKeyEncoding::parse("default", "/").unwrap();
        let paths = paths.map(str::to_owned);
        let layout = RecordLayout::new(ndim, encoding, paths, flat, true).unwrap();
        ChunkRecords::new(Arc::new(layout))
    }

    #[test]
    fn a_batch_gives_back_its_columns() {
        let mut records = records(2, None, false);
        records.push(&[1, 2], 10, 77, Some("\"tag\""));
        records.push(&[3, 4], 20, 78, None);
        let batch = records.finish().unwrap();
        assert_eq!(batch.schema(), chunk_schema(2).unwrap());
        let columns = ChunkColumns::of(&batch).unwrap();
        assert_eq!(columns.coords, [1, 2, 3, 4]);
        assert_eq!(columns.sizes, [10, 20]);
        assert_eq!(columns.last_modified, [77, 78]);
        assert_eq!(columns.e_tags.iter().collect::<Vec<_>>(), [Some("\"tag\""), None]);
    }

    #[test]
    fn tags_that_nobody_wants_are_left_out() {
        let encoding = ChunkKeyEncoding::parse("default", "/").unwrap();
        let layout = RecordLayout::new(1, encoding, None, false, false).unwrap();
        let mut records = ChunkRecords::new(Arc::new(layout));
        records.push(&[1], 10, 77, Some("\"tag\""));
        let batch = records.finish().unwrap();
        assert_eq!(batch.schema(), chunk_schema(1).unwrap());
        assert_eq!(ChunkColumns::of(&batch).unwrap().e_tags.iter().collect::<Vec<_>>(), [None]);
    }

    #[test]
    fn a_scalar_has_a_row_without_coordinates() {
        let mut records = records(0, None, false);
        records.push(&[], 10, 77, None);
        let batch = records.finish().unwrap();
        assert_eq!(batch.num_rows(), 1);
        assert_eq!(ChunkColumns::of(&batch).unwrap().coords, [0_u32; 0]);
    }

    #[test]
    fn flat_batches_have_a_column_a_dimension_and_paths_name_objects() {
        let mut records = records(2, Some("a/b"), true);
        records.push(&[1, 2], 10, 77, None);
        records.push(&[3, 4], 20, 78, None);
        let batch = records.finish().unwrap();
        let column = |name| batch.column_by_name(name).unwrap();
        assert_eq!(column("chunk_1").as_primitive::<UInt32Type>().values(), &[2, 4]);
        assert_eq!(column("path").as_string::<i32>().value(1), "a/b/c/3/4");
    }
}
