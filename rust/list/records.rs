//! The Arrow form of listed chunks: the schema, and building and reading its batches.

use std::sync::Arc;

use arrow_array::builder::{StringBuilder, TimestampMicrosecondBuilder, UInt64Builder};
use arrow_array::cast::AsArray as _;
use arrow_array::types::{TimestampMicrosecondType, UInt32Type, UInt64Type};
use arrow_array::{ArrayRef, FixedSizeListArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef, TimeUnit};

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
    let width = i32::try_from(ndim).map_err(|_| {
        Error::new(ErrorKind::UnsupportedArray, format!("an array of {ndim} dimensions"))
    })?;
    Ok(Arc::new(Schema::new(vec![
        Field::new("chunk", DataType::FixedSizeList(coordinate_field(), width), false),
        Field::new("size", DataType::UInt64, false),
        Field::new(
            "last_modified",
            DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            false,
        ),
        Field::new("e_tag", DataType::Utf8, true),
    ])))
}

fn coordinate_field() -> Arc<Field> {
    Arc::new(Field::new("item", DataType::UInt32, false))
}

fn arrow_error(error: &ArrowError) -> Error {
    Error::new(ErrorKind::Listing, format!("cannot build a record batch: {error}"))
}

/// Fills one record batch.
pub(super) struct ChunkRecords {
    ndim: usize,
    coords: Vec<u32>,
    sizes: UInt64Builder,
    times: TimestampMicrosecondBuilder,
    e_tags: StringBuilder,
    rows: usize,
}

impl ChunkRecords {
    pub(super) fn new(ndim: usize) -> Self {
        Self {
            ndim,
            coords: Vec::new(),
            sizes: UInt64Builder::new(),
            times: TimestampMicrosecondBuilder::new().with_timezone("UTC"),
            e_tags: StringBuilder::new(),
            rows: 0,
        }
    }

    /// Adds a chunk; `coords` must have the array's number of dimensions.
    pub(super) fn push(
        &mut self,
        coords: &[u32],
        size: u64,
        last_modified: i64,
        e_tag: Option<&str>,
    ) -> Result<()> {
        if coords.len() != self.ndim {
            return Err(Error::new(
                ErrorKind::Listing,
                format!("{} coordinates for {} dimensions", coords.len(), self.ndim),
            ));
        }
        self.coords.extend_from_slice(coords);
        self.sizes.append_value(size);
        self.times.append_value(last_modified);
        self.e_tags.append_option(e_tag);
        self.rows += 1;
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<RecordBatch> {
        let schema = chunk_schema(self.ndim)?;
        let width = i32::try_from(self.ndim).unwrap_or(i32::MAX);
        // `with_length` because a scalar's list of no coordinates says nothing of the rows.
        let chunk = FixedSizeListArray::try_new_with_length(
            coordinate_field(),
            width,
            Arc::new(UInt32Array::from(self.coords)) as ArrayRef,
            None,
            self.rows,
        )
        .map_err(|error| arrow_error(&error))?;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(chunk),
            Arc::new(self.sizes.finish()),
            Arc::new(self.times.finish()),
            Arc::new(self.e_tags.finish()),
        ];
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        RecordBatch::try_new_with_options(schema, columns, &options)
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

    #[test]
    fn a_batch_gives_back_its_columns() {
        let mut records = ChunkRecords::new(2);
        records.push(&[1, 2], 10, 77, Some("\"tag\"")).unwrap();
        records.push(&[3, 4], 20, 78, None).unwrap();
        assert!(records.push(&[1], 0, 0, None).is_err());
        let batch = records.finish().unwrap();
        assert_eq!(batch.schema(), chunk_schema(2).unwrap());
        let columns = ChunkColumns::of(&batch).unwrap();
        assert_eq!(columns.coords, [1, 2, 3, 4]);
        assert_eq!(columns.sizes, [10, 20]);
        assert_eq!(columns.last_modified, [77, 78]);
    }

    #[test]
    fn a_scalar_has_a_row_without_coordinates() {
        let mut records = ChunkRecords::new(0);
        records.push(&[], 10, 77, None).unwrap();
        let batch = records.finish().unwrap();
        assert_eq!(batch.num_rows(), 1);
        assert_eq!(ChunkColumns::of(&batch).unwrap().coords, [0_u32; 0]);
    }
}
