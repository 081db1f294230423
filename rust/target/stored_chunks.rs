//! The chunks that an array of a snapshot has, as a stream of Arrow record batches.
//!
//! Manifests are read one after another and none is kept: memory is that of two of them. What the
//! chunks hold is not looked at.

use std::sync::Arc;

use arrow_array::builder::{
    FixedSizeListBuilder, StringBuilder, TimestampMicrosecondBuilder, UInt32Builder, UInt64Builder,
};
use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef, TimeUnit};
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use icechunk::Repository;
use icechunk::asset_manager::AssetManager;
use icechunk::format::manifest::{Checksum, ChunkPayload, ManifestRef};
use icechunk::format::snapshot::NodeData;
use icechunk::format::{NodeId, SnapshotId};

use crate::format::files::without_cache;
use crate::format::manifest_chunks::manifest_chunks;
use crate::format::node::node_at;
use crate::{Error, ErrorKind, Result};

/// Rows of a record batch, but for the last of a manifest.
const ROWS: usize = 65_536;

/// A stream of the chunks of an array, and its schema.
pub struct StoredChunks {
    /// `chunk: fixed_size_list<uint32>[ndim]`, or with `flat` a column `chunk_0`, `chunk_1`, … for
    /// each dimension; `size: uint64` (bytes); `last_modified: timestamp[us, UTC]?` and
    /// `e_tag: string?` as references carry them; `kind: string` (`native` or `virtual`);
    /// `location: string?` of virtual ones, as it is stored.
    pub schema: SchemaRef,
    /// Record batches, none of them empty.
    pub batches: BoxStream<'static, Result<RecordBatch>>,
}

/// Reads the manifests of an array in a snapshot.
///
/// # Errors
///
/// [`ErrorKind::TargetNotFound`] when there is no such array; [`ErrorKind::Target`] when the
/// repository cannot be read, through the stream too.
pub async fn stored_chunks(
    repository: &Repository,
    snapshot: &SnapshotId,
    path: &str,
    flat: bool,
) -> Result<StoredChunks> {
    let assets = Arc::new(without_cache(repository));
    let node = node_at(&assets, snapshot, path, || format!("read array {path}")).await?;
    let NodeData::Array { manifests, shape, .. } = &node.node_data else {
        return Err(Error::new(ErrorKind::TargetNotFound, format!("{path} is a group")));
    };
    let ndim = shape.len();
    let columns = Arc::new(Columns { ndim, flat, schema: Arc::new(schema_of(ndim, flat)?) });
    let schema = Arc::clone(&columns.schema);
    let (path, id, manifests) = (path.to_owned(), node.id.clone(), manifests.clone());
    let batches = futures::stream::iter(manifests)
        .then(move |manifest| {
            let (assets, columns) = (Arc::clone(&assets), Arc::clone(&columns));
            let (path, id) = (path.clone(), id.clone());
            async move {
                let batches = batches_of(&assets, &id, &path, &manifest, &columns).await?;
                Ok::<_, Error>(futures::stream::iter(batches.into_iter().map(Ok)))
            }
        })
        .try_flatten()
        .boxed();
    Ok(StoredChunks { schema, batches })
}

async fn batches_of(
    assets: &AssetManager,
    node: &NodeId,
    path: &str,
    manifest: &ManifestRef,
    columns: &Columns,
) -> Result<Vec<RecordBatch>> {
    let mut rows = Rows::of(columns);
    let mut batches = Vec::new();
    for chunk in manifest_chunks(assets, path, node, &manifest.object_id).await? {
        let (coords, payload) = chunk?;
        rows.push(&coords.0, &payload);
        if rows.count == ROWS {
            batches.push(std::mem::replace(&mut rows, Rows::of(columns)).finish(columns)?);
        }
    }
    if rows.count > 0 {
        batches.push(rows.finish(columns)?);
    }
    Ok(batches)
}

struct Columns {
    ndim: usize,
    flat: bool,
    schema: SchemaRef,
}

fn coordinate() -> Arc<Field> {
    Arc::new(Field::new("item", DataType::UInt32, false))
}

fn width(ndim: usize) -> Result<i32> {
    i32::try_from(ndim).map_err(|_| {
        Error::new(ErrorKind::UnsupportedArray, format!("an array of {ndim} dimensions"))
    })
}

fn schema_of(ndim: usize, flat: bool) -> Result<Schema> {
    let mut fields = Vec::new();
    if flat {
        let axis = |axis| Field::new(format!("chunk_{axis}"), DataType::UInt32, false);
        fields.extend((0..ndim).map(axis));
    } else {
        let list = DataType::FixedSizeList(coordinate(), width(ndim)?);
        fields.push(Field::new("chunk", list, false));
    }
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    fields.push(Field::new("size", DataType::UInt64, false));
    fields.push(Field::new("last_modified", time, true));
    fields.push(Field::new("e_tag", DataType::Utf8, true));
    fields.push(Field::new("kind", DataType::Utf8, false));
    fields.push(Field::new("location", DataType::Utf8, true));
    Ok(Schema::new(fields))
}

struct Rows {
    count: usize,
    coords: Vec<UInt32Builder>,
    sizes: UInt64Builder,
    times: TimestampMicrosecondBuilder,
    e_tags: StringBuilder,
    kinds: StringBuilder,
    locations: StringBuilder,
}

impl Rows {
    fn of(columns: &Columns) -> Self {
        Self {
            count: 0,
            coords: (0..columns.ndim).map(|_| UInt32Builder::new()).collect(),
            sizes: UInt64Builder::new(),
            times: TimestampMicrosecondBuilder::new().with_timezone("UTC"),
            e_tags: StringBuilder::new(),
            kinds: StringBuilder::new(),
            locations: StringBuilder::new(),
        }
    }

    fn push(&mut self, coords: &[u32], payload: &ChunkPayload) {
        for (axis, column) in self.coords.iter_mut().enumerate() {
            column.append_value(coords.get(axis).copied().unwrap_or(u32::MAX));
        }
        let (size, checksum, location) = match payload {
            ChunkPayload::Inline(bytes) => (bytes.len() as u64, None, None),
            ChunkPayload::Ref(chunk) => (chunk.length, None, None),
            ChunkPayload::Virtual(chunk) => {
                (chunk.length, chunk.checksum.as_ref(), Some(chunk.location.url()))
            }
            _ => (0, None, None),
        };
        let (seconds, e_tag) = match checksum {
            Some(Checksum::LastModified(time)) => (Some(i64::from(time.0)), None),
            Some(Checksum::ETag(tag)) => (None, Some(tag.0.as_str())),
            None => (None, None),
        };
        self.sizes.append_value(size);
        self.times.append_option(seconds.map(|seconds| seconds * 1_000_000));
        self.e_tags.append_option(e_tag);
        self.kinds.append_value(if location.is_some() { "virtual" } else { "native" });
        self.locations.append_option(location);
        self.count += 1;
    }

    fn finish(mut self, columns: &Columns) -> Result<RecordBatch> {
        let failed = |error: ArrowError| {
            Error::new(ErrorKind::Target, format!("cannot build a record batch: {error}"))
        };
        let mut arrays: Vec<ArrayRef> = Vec::new();
        if columns.flat {
            arrays.extend(self.coords.iter_mut().map(|c| Arc::new(c.finish()) as ArrayRef));
        } else {
            let axes: Vec<_> = self.coords.iter_mut().map(UInt32Builder::finish).collect();
            let mut list = FixedSizeListBuilder::new(UInt32Builder::new(), width(columns.ndim)?)
                .with_field(coordinate());
            for row in 0..self.count {
                for axis in &axes {
                    list.values().append_value(axis.value(row));
                }
                list.append(true);
            }
            arrays.push(Arc::new(list.finish()));
        }
        arrays.push(Arc::new(self.sizes.finish()));
        arrays.push(Arc::new(self.times.finish()));
        arrays.push(Arc::new(self.e_tags.finish()));
        arrays.push(Arc::new(self.kinds.finish()));
        arrays.push(Arc::new(self.locations.finish()));
        let options = RecordBatchOptions::new().with_row_count(Some(self.count));
        RecordBatch::try_new_with_options(Arc::clone(&columns.schema), arrays, &options)
            .map_err(failed)
    }
}
