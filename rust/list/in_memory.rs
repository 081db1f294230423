//! Finds an array's chunks in a list of objects that another library has made.

use arrow_array::RecordBatch;
use futures::StreamExt as _;
use futures::stream::BoxStream;

use super::array_keys::ArrayKeys;
use super::stats::{SharedStats, update};
use super::wanted::Wanted;
use crate::Result;
use crate::grid::chunk_box::ChunkBox;
use crate::source::MemorySource;
use crate::source::page::PAGE_SIZE;
use crate::zarr::metadata::ArraySpec;

pub(super) fn list(
    source: &MemorySource,
    wanted: &Wanted,
    stats: &SharedStats,
) -> BoxStream<'static, Result<RecordBatch>> {
    let batches = find(source, wanted, stats);
    futures::stream::iter(batches).boxed()
}

/// How many chunks of `region` there are.
pub(crate) fn chunks(source: &MemorySource, array: &ArraySpec, region: &ChunkBox) -> u64 {
    let prefix = array.source_prefix();
    let mut coords = vec![0; array.layout.ndim()];
    let of_region = source.below(&prefix).filter(|(key, _)| {
        let relative = key.get(prefix.len()..).unwrap_or_default().as_bytes();
        array.layout.encoding().decode(relative, array.layout.grid_shape(), &mut coords)
            && region.contains(&coords)
    });
    of_region.count() as u64
}

fn find(source: &MemorySource, wanted: &Wanted, stats: &SharedStats) -> Vec<Result<RecordBatch>> {
    let layout = &wanted.array.layout;
    let prefix = wanted.array.source_prefix();
    let mut coords = vec![0; layout.ndim()];
    let mut records = wanted.records();
    let mut batches = Vec::new();
    for (key, info) in source.below(&prefix) {
        let relative = key.get(prefix.len()..).unwrap_or_default().as_bytes();
        let is_chunk = layout.encoding().decode(relative, layout.grid_shape(), &mut coords);
        update(stats, |stats| {
            stats.keys_listed += 1;
            if !is_chunk && !ArrayKeys::is_metadata(relative) {
                stats.foreign_keys += 1;
                stats.foreign_example.get_or_insert_with(|| key.to_owned());
            }
        });
        if is_chunk && wanted.region.contains(&coords) {
            records.push(&coords, info.size, info.last_modified, info.e_tag.as_deref());
            update(stats, |stats| stats.chunks += 1);
            if records.rows() >= PAGE_SIZE as usize {
                batches.push(std::mem::replace(&mut records, wanted.records()).finish());
            }
        }
    }
    batches.push(records.finish());
    batches
}
