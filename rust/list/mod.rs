//! An array's chunks as a stream of Arrow record batches, one a page of the listing.
//!
//! Which keys are chunks is decided here; what they become is not. Each chunk comes once, in
//! unspecified order. Listing is serial within an array.

mod records;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::RecordBatch;
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};

use records::ChunkRecords;
pub use records::{ChunkColumns, chunk_schema};

use crate::metadata::ArrayNode;
use crate::source::{Page, Source};
use crate::{Error, ErrorKind, Result};

/// Empty objects looked at together.
const CONCURRENT_HEADS: usize = 16;

/// Zarr's own documents, which are neither chunks nor strangers below an array.
const METADATA_KEYS: [&[u8]; 5] = [b"zarr.json", b".zarray", b".zattrs", b".zgroup", b".zmetadata"];

/// What a listing cost and met; complete once its stream has ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListStats {
    /// LIST requests, retries included; on a local file system, directories read.
    pub list_requests: u64,
    /// Keys on all pages.
    pub keys_listed: u64,
    /// Keys that are chunks of the array.
    pub chunks: u64,
    /// Keys that are neither chunks nor Zarr metadata.
    pub foreign_keys: u64,
    /// One of those, relative to the source's root.
    pub foreign_example: Option<String>,
}

/// The running or finished listing of one array.
pub struct Listing {
    /// Record batches in [`chunk_schema`], none of them empty.
    pub batches: BoxStream<'static, Result<RecordBatch>>,
    stats: Arc<Mutex<ListStats>>,
}

impl Listing {
    /// What the listing has cost and met so far.
    #[must_use]
    pub fn stats(&self) -> ListStats {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A handle to the statistics that outlives the stream.
    pub fn stats_handle(&self) -> impl Fn() -> ListStats + Send + Sync + use<> {
        let stats = Arc::clone(&self.stats);
        move || stats.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Lists the chunks of `array` in `source`.
///
/// Errors come through the stream: [`ErrorKind::Listing`] when a listing that should be in byte
/// order is not (S3, `ListObjectsV2`: "sorted in lexicographic order"), and whatever the source
/// fails with.
#[must_use]
pub fn list_chunks(source: &Source, array: &ArrayNode) -> Listing {
    let stats = Arc::new(Mutex::new(ListStats::default()));
    let batches = if array.layout.ndim() == 0 {
        scalar(source.clone(), array.clone(), Arc::clone(&stats))
    } else {
        grid(source, array.clone(), Arc::clone(&stats))
    };
    Listing { batches, stats }
}

/// A scalar has one possible key: it is asked for, not listed.
fn scalar(
    source: Source,
    array: ArrayNode,
    stats: Arc<Mutex<ListStats>>,
) -> BoxStream<'static, Result<RecordBatch>> {
    futures::stream::once(async move {
        let key = array.source_key(&[]);
        let found = source.head(&key).await?;
        let mut records = ChunkRecords::new(0);
        if let Some(info) = &found {
            records.push(&[], info.size, info.last_modified, info.e_tag.as_deref())?;
        }
        let mut stats = stats.lock().unwrap_or_else(PoisonError::into_inner);
        stats.keys_listed += u64::from(found.is_some());
        stats.chunks += u64::from(found.is_some());
        drop(stats);
        records.finish()
    })
    .try_filter(|batch| std::future::ready(batch.num_rows() > 0))
    .boxed()
}

fn grid(
    source: &Source,
    array: ArrayNode,
    stats: Arc<Mutex<ListStats>>,
) -> BoxStream<'static, Result<RecordBatch>> {
    let mut guard = source.is_ordered().then(OrderGuard::default);
    let (source, array) = (source.clone(), Arc::new(array));
    source
        .pages(&array.source_path)
        .then(move |page| {
            let checked = page.and_then(|page| {
                guard.as_mut().map_or(Ok(()), |guard| guard.check(&page, &array))?;
                Ok(page)
            });
            let (source, array, stats) = (source.clone(), Arc::clone(&array), Arc::clone(&stats));
            async move {
                let page = checked?;
                let markers = markers(&source, &page, &array).await?;
                scan(&page, &array, &markers, &stats)
            }
        })
        .try_filter(|batch| std::future::ready(batch.num_rows() > 0))
        .boxed()
}

/// Keys of the page that look like empty chunks and are markers of folders.
///
/// The object `c/0/` is listed as `c/0`: only asking for `c/0` tells whether that is an object.
async fn markers(source: &Source, page: &Page, array: &ArrayNode) -> Result<HashSet<Vec<u8>>> {
    if !source.has_markers() {
        return Ok(HashSet::new());
    }
    let layout = &array.layout;
    let mut coords = vec![0; layout.ndim()];
    let mut asked = Vec::new();
    for (key, size, ..) in page.iter() {
        if size == 0 && layout.encoding().decode(key, layout.grid_shape(), &mut coords) {
            let (key, path) = (key.to_vec(), array.source_key(&coords));
            asked.push(async move { Ok::<_, Error>((key, source.head(&path).await?)) }.boxed());
        }
    }
    futures::stream::iter(asked)
        .buffer_unordered(CONCURRENT_HEADS)
        .try_filter_map(|(key, found)| {
            let empty = found.is_some_and(|info| info.size == 0);
            std::future::ready(Ok((!empty).then_some(key)))
        })
        .try_collect()
        .await
}

fn scan(
    page: &Page,
    array: &ArrayNode,
    markers: &HashSet<Vec<u8>>,
    stats: &Mutex<ListStats>,
) -> Result<RecordBatch> {
    let layout = &array.layout;
    let mut records = ChunkRecords::new(layout.ndim());
    let mut coords = vec![0; layout.ndim()];
    let mut foreign = 0;
    let mut example = None;
    for (key, size, last_modified, e_tag) in page.iter() {
        let marker = size == 0 && markers.contains(key);
        if !marker && layout.encoding().decode(key, layout.grid_shape(), &mut coords) {
            let e_tag = std::str::from_utf8(e_tag).ok().filter(|e_tag| !e_tag.is_empty());
            records.push(&coords, size, last_modified, e_tag)?;
        } else if !METADATA_KEYS.contains(&key) {
            foreign += 1;
            example.get_or_insert_with(|| {
                format!("{}{}", array.source_prefix(), String::from_utf8_lossy(key))
            });
        }
    }
    let batch = records.finish()?;
    let mut stats = stats.lock().unwrap_or_else(PoisonError::into_inner);
    stats.list_requests += page.requests();
    stats.keys_listed += page.len() as u64;
    stats.chunks += batch.num_rows() as u64;
    stats.foreign_keys += foreign;
    if stats.foreign_example.is_none() {
        stats.foreign_example = example;
    }
    Ok(batch)
}

/// Holds a serial listing to its promise of byte order, so that no page came twice or was lost
/// to a restart.
#[derive(Default)]
struct OrderGuard {
    last: Vec<u8>,
    seen: bool,
}

impl OrderGuard {
    fn check(&mut self, page: &Page, array: &ArrayNode) -> Result<()> {
        for (key, size, ..) in page.iter() {
            // The marker of a folder, `c/0/`, arrives as `c/0`: it may follow `c/0` and `c/0-old`.
            let marker = size == 0 && [key, b"/"].concat() > self.last;
            let ascending = !self.seen || key > self.last.as_slice();
            if !ascending && !marker {
                let shown = |key: &[u8]| {
                    format!("{}{}", array.source_prefix(), String::from_utf8_lossy(key))
                };
                return Err(Error::new(
                    ErrorKind::Listing,
                    format!(
                        "the listing of array {} is not in order: {} comes after {}",
                        array.path,
                        shown(key),
                        shown(&self.last)
                    ),
                )
                .with_hint(
                    "this server's listings cannot be trusted (S3 Express and some clones are \
                     unordered); copy the store to one that lists in byte order",
                ));
            }
            self.seen = true;
            self.last.clear();
            self.last.extend_from_slice(key);
            if !ascending {
                self.last.push(b'/');
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::ChunkKeyEncoding;
    use crate::metadata::ArrayLayout;
    use crate::source::{LocalSource, PageBuilder};

    fn array(shape: &[u64]) -> ArrayNode {
        let encoding = ChunkKeyEncoding::parse("default", "/").unwrap();
        ArrayNode {
            path: "/air".to_owned(),
            source_path: "air".to_owned(),
            document: Vec::new(),
            layout: ArrayLayout::new(shape.to_vec(), vec![1; shape.len()], encoding).unwrap(),
            loaded: false,
        }
    }

    fn page(keys: &[&str]) -> Page {
        let mut builder = PageBuilder::default();
        for key in keys {
            builder.push(key.as_bytes(), 1, 0, b"");
        }
        builder.take()
    }

    #[test]
    fn disorder_and_repetition_are_noticed() {
        let array = array(&[20]);
        for pages in [
            vec![page(&["c/1", "c/0"])],
            vec![page(&["c/1", "c/1"])],
            vec![page(&["c/0", "c/1"]), page(&["c/0", "c/1"])],
        ] {
            let mut guard = OrderGuard::default();
            let error = pages.iter().try_for_each(|page| guard.check(page, &array)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Listing);
            assert!(error.message().contains("/air"), "{error}");
        }
    }

    #[test]
    fn a_folder_marker_may_follow_its_object_and_what_sorts_before_the_slash() {
        let mut builder = PageBuilder::default();
        builder.push(b"c/0", 9, 0, b"");
        builder.push(b"c/0-old", 9, 0, b"");
        builder.push(b"c/0", 0, 0, b"");
        builder.push(b"c/0/0", 9, 0, b"");
        assert!(OrderGuard::default().check(&builder.take(), &array(&[20])).is_ok());
        // The marker stands for `c/0/`: what sorts before that cannot come after it.
        builder.push(b"c/0-old", 9, 0, b"");
        builder.push(b"c/0", 0, 0, b"");
        builder.push(b"c/0.txt", 9, 0, b"");
        assert!(OrderGuard::default().check(&builder.take(), &array(&[20])).is_err());
    }

    #[tokio::test]
    async fn strangers_are_counted_and_metadata_is_not() {
        let dir = tempfile::tempdir().unwrap();
        for key in ["c/0/0", "c/1/2", "c/2/0", "c/1/02", "README", "zarr.json", ".zattrs"] {
            let path = dir.path().join("air").join(key);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"x").unwrap();
        }
        let source = Source::Local(LocalSource::new(dir.path()).unwrap());
        let mut listing = list_chunks(&source, &array(&[2, 3]));
        let mut chunks = Vec::new();
        while let Some(batch) = listing.batches.try_next().await.unwrap() {
            let columns = ChunkColumns::of(&batch).unwrap();
            chunks.extend(columns.coords.chunks_exact(2).map(<[u32]>::to_vec));
        }
        chunks.sort();
        assert_eq!(chunks, [vec![0, 0], vec![1, 2]]);
        let stats = listing.stats();
        assert_eq!((stats.chunks, stats.foreign_keys, stats.keys_listed), (2, 3, 7));
        assert!(stats.foreign_example.unwrap().starts_with("air/"));
    }
}
