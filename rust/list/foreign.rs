//! Finds an array's chunks in what another library lists of its store, page by page.
//!
//! A page is all that is held at a time, unless the keys are to come in order. That the listing is
//! complete is the other library's word.

use arrow_array::RecordBatch;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};

use super::array_keys::ArrayKeys;
use super::stats::{SharedStats, update};
use super::wanted::Wanted;
use crate::Result;
use crate::grid::chunk_box::ChunkBox;
use crate::source::{ForeignObject, ForeignSource};
use crate::zarr::metadata::ArraySpec;

pub(super) fn list(
    source: &ForeignSource,
    wanted: Wanted,
    stats: SharedStats,
    ordered: bool,
) -> BoxStream<'static, Result<RecordBatch>> {
    if let Some(warning) = source.warning() {
        update(&stats, |stats| stats.warnings.push(warning.to_owned()));
    }
    let pages = source.list(&wanted.array.source_prefix());
    if !ordered {
        return pages.map(move |page| chunks_of(&page?, &wanted, &stats)).boxed();
    }
    let all = async move {
        let mut all: Vec<ForeignObject> = pages.try_concat().await?;
        all.sort_unstable_by(|one, other| one.key.cmp(&other.key));
        chunks_of(&all, &wanted, &stats)
    };
    futures::stream::once(all).boxed()
}

/// How many chunks of `region` there are, and how many pages told so; `None` when there are more
/// pages than `most`.
pub(crate) async fn count(
    source: &ForeignSource,
    array: &ArraySpec,
    region: &ChunkBox,
    most: usize,
) -> Result<Option<u64>> {
    let prefix = array.source_prefix();
    let mut pages = source.list(&prefix);
    let mut coords = vec![0; array.layout.ndim()];
    let (mut chunks, mut seen) = (0, 0);
    while let Some(page) = pages.next().await {
        seen += 1;
        if seen > most {
            return Ok(None);
        }
        for object in page? {
            let Some(relative) = object.key.strip_prefix(&prefix) else { continue };
            let is_chunk = array.layout.encoding().decode(
                relative.as_bytes(),
                array.layout.grid_shape(),
                &mut coords,
            );
            chunks += u64::from(is_chunk && region.contains(&coords));
        }
    }
    Ok(Some(chunks))
}

fn chunks_of(page: &[ForeignObject], wanted: &Wanted, stats: &SharedStats) -> Result<RecordBatch> {
    let layout = &wanted.array.layout;
    let prefix = wanted.array.source_prefix();
    let mut coords = vec![0; layout.ndim()];
    let mut records = wanted.records();
    update(stats, |stats| {
        for ForeignObject { key, info } in page {
            let Some(relative) = key.strip_prefix(&prefix).map(str::as_bytes) else { continue };
            stats.keys_listed += 1;
            let is_chunk = layout.encoding().decode(relative, layout.grid_shape(), &mut coords);
            if !is_chunk && !ArrayKeys::is_metadata(relative) {
                stats.foreign_keys += 1;
                stats.foreign_example.get_or_insert_with(|| key.clone());
            }
            if is_chunk && wanted.region.contains(&coords) {
                records.push(&coords, info.size, info.last_modified, info.e_tag.as_deref());
                stats.chunks += 1;
            }
        }
    });
    records.finish()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::Array as _;
    use futures::FutureExt as _;
    use futures::future::BoxFuture;

    use super::*;
    use crate::list::{ListOptions, list_chunks, stats_of};
    use crate::source::{ForeignStore, ObjectInfo, Source};
    use crate::zarr::key::ChunkKeyEncoding;
    use crate::zarr::metadata::ArrayLayout;

    /// Pages of keys.
    struct Pages(Vec<Vec<&'static str>>);

    impl ForeignStore for Pages {
        fn list(&self, prefix: &str) -> BoxStream<'static, Result<Vec<ForeignObject>>> {
            let e_tag = Some("\"1\"".to_owned());
            let info = ObjectInfo { size: 1, last_modified: 0, e_tag };
            let object = |key: &&str| ForeignObject { key: (*key).to_owned(), info: info.clone() };
            let below = |page: &Vec<&str>| {
                page.iter().filter(|key| key.starts_with(prefix)).map(object).collect()
            };
            futures::stream::iter(self.0.iter().map(below).map(Ok).collect::<Vec<_>>()).boxed()
        }

        fn head(&self, _: &str) -> BoxFuture<'static, Result<Option<ObjectInfo>>> {
            async { Ok(None) }.boxed()
        }

        fn read(&self, _: &str) -> BoxFuture<'static, Result<Option<Vec<u8>>>> {
            async { Ok(None) }.boxed()
        }
    }

    #[tokio::test]
    async fn chunks_come_page_by_page_or_in_order() {
        let pages = Pages(vec![
            vec!["air/c/2", "air/c/10", "air/zarr.json"],
            vec!["air/c/x", "airs/c/1"],
            vec!["air/c/0"],
        ]);
        let source = ForeignSource::new(Arc::new(pages), "Model".to_owned(), Some("so".to_owned()));
        let encoding = ChunkKeyEncoding::parse("default", "/").unwrap();
        let array = ArraySpec {
            path: "/air".to_owned(),
            source_path: "air".to_owned(),
            document: Vec::new(),
            layout: ArrayLayout::new(vec![20], vec![1], encoding).unwrap(),
            copied: false,
        };
        let region = ChunkBox::whole(&array.layout);
        for (ordered, e_tags, rows) in [(false, true, vec![2, 1]), (true, false, vec![3])] {
            let options = ListOptions { ordered, e_tags, ..ListOptions::new(4) };
            let listing =
                list_chunks(&Source::Foreign(source.clone()), &array, region.clone(), options)
                    .unwrap();
            let batches: Vec<_> = listing.batches.try_collect().await.unwrap();
            let found: Vec<_> = batches.iter().map(RecordBatch::num_rows).collect();
            let tags = batches.iter().filter_map(|batch| batch.column_by_name("e_tag"));
            let without = tags.fold(0, |without, tags| without + tags.null_count());
            assert_eq!(without, if e_tags { 0 } else { 3 });
            let stats = stats_of(&listing.stats);
            assert_eq!((found, stats.warnings), (rows, vec!["so".to_owned()]));
            assert_eq!((stats.chunks, stats.keys_listed, stats.foreign_keys), (3, 5, 1));
        }
        assert_eq!(count(&source, &array, &region, 3).await.unwrap(), Some(3));
        assert_eq!(count(&source, &array, &region, 2).await.unwrap(), None);
    }
}
