//! Lists an array on a local file system: only the folders of a region, several at a time.
//!
//! With `/` between coordinates every coordinate is a folder, and folders outside the region are
//! not entered. With `.` there is one folder, read once. `stat` is called only for chunks of the
//! region. Order is the file system's unless that of the keys is asked for, which one worker keeps
//! that goes into a folder before it goes on beside it; symbolic links are followed, as zarr-python's reads do.

use std::collections::VecDeque;
use std::fs::{DirEntry, FileType};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use arrow_array::RecordBatch;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use tokio::sync::mpsc;

use super::array_keys::ArrayKeys;
use super::records::ChunkRecords;
use super::stats::{SharedStats, update};
use super::wanted::{DanglingLinks, Wanted};
use crate::grid::chunk_box::ChunkBox;
use crate::source::page::PAGE_SIZE;
use crate::source::{LocalSource, ObjectInfo, is_absent, no_file, unreadable};
use crate::zarr::key::{ChunkKeyForm, ChunkKeySeparator};
use crate::zarr::metadata::ArraySpec;
use crate::{Error, ErrorKind, Result};

/// Folders read at a time, at most; more than there are cores, for file systems on a network.
const MOST_WORKERS: usize = 16;

/// Record batches of the wanted chunks; dropping the stream stops the walk.
pub(super) fn list(
    source: &LocalSource,
    wanted: Wanted,
    stats: SharedStats,
    concurrency: usize,
    ordered: bool,
) -> BoxStream<'static, Result<RecordBatch>> {
    let (sender, receiver) = mpsc::channel(4);
    let (root, folder) = (source.path(""), source.path(&wanted.array.source_path));
    tokio::task::spawn_blocking(move || {
        let walk = Walk {
            wanted: &wanted,
            stats: &stats,
            sender: &sender,
            root,
            queue: Mutex::new(Queue { folders: VecDeque::from([Folder::root(folder)]), busy: 0 }),
            changed: Condvar::new(),
            stopped: Mutex::new(None),
            ordered,
        };
        let workers = concurrency.clamp(1, MOST_WORKERS);
        std::thread::scope(|scope| {
            for _ in 1..workers {
                scope.spawn(|| walk.work());
            }
            walk.work();
        });
        if let Some(Stopped::Failed(error)) = lock(&walk.stopped).take() {
            // Nobody listens any more: nothing to tell.
            let _ = sender.blocking_send(Err(error));
        }
    });
    futures::stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|batch| (batch, receiver))
    })
    .boxed()
}

/// A folder that is to be read, and the coordinates that led to it.
struct Folder {
    path: PathBuf,
    coords: Vec<u32>,
    /// Below the array's own folder, where chunks are looked for.
    below_lead: bool,
}

impl Folder {
    fn root(path: PathBuf) -> Self {
        Self { path, coords: Vec::new(), below_lead: false }
    }
}

struct Queue {
    folders: VecDeque<Folder>,
    /// Workers that may still add folders.
    busy: usize,
}

/// Why a walk ended early.
enum Stopped {
    Failed(Error),
    /// The receiving end is gone.
    Dropped,
}

struct Walk<'a> {
    wanted: &'a Wanted,
    stats: &'a SharedStats,
    sender: &'a mpsc::Sender<Result<RecordBatch>>,
    /// The source's, which examples of foreign keys are shown relative to.
    root: PathBuf,
    queue: Mutex<Queue>,
    changed: Condvar,
    stopped: Mutex<Option<Stopped>>,
    /// In the byte order of keys, which is that of the names, folder by folder.
    ordered: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Walk<'_> {
    /// Reads folders until there are no more, or somebody failed.
    fn work(&self) {
        let mut records = self.wanted.records();
        while let Some(folder) = self.take() {
            let outcome = self.read(&folder, &mut records);
            lock(&self.queue).busy -= 1;
            self.changed.notify_all();
            if let Err(stopped) = outcome {
                return self.stop(stopped);
            }
        }
        if records.rows() > 0
            && let Err(stopped) = self.send(&mut records)
        {
            self.stop(stopped);
        }
    }

    fn take(&self) -> Option<Folder> {
        let mut queue = lock(&self.queue);
        loop {
            if lock(&self.stopped).is_some() {
                return None;
            }
            if let Some(folder) = queue.folders.pop_front() {
                queue.busy += 1;
                return Some(folder);
            }
            if queue.busy == 0 {
                return None;
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn stop(&self, why: Stopped) {
        lock(&self.stopped).get_or_insert(why);
        self.changed.notify_all();
    }

    fn send(&self, records: &mut ChunkRecords) -> std::result::Result<(), Stopped> {
        let full = std::mem::replace(records, self.wanted.records());
        let batch = full.finish().map_err(Stopped::Failed)?;
        update(self.stats, |stats| stats.chunks += batch.num_rows() as u64);
        self.sender.blocking_send(Ok(batch)).map_err(|_| Stopped::Dropped)
    }

    fn read(
        &self,
        folder: &Folder,
        records: &mut ChunkRecords,
    ) -> std::result::Result<(), Stopped> {
        let failed = |error: &io::Error| Stopped::Failed(unreadable(&folder.path, error));
        let entries = match std::fs::read_dir(&folder.path) {
            Ok(entries) => entries,
            // Gone since it was listed, or never there: no chunks.
            Err(error) if is_absent(&error) => return Ok(()),
            Err(error) => return Err(failed(&error)),
        };
        update(self.stats, |stats| stats.list_requests += 1);
        let mut entries: Box<dyn Iterator<Item = io::Result<DirEntry>>> = Box::new(entries);
        if self.ordered {
            let mut all: Vec<_> =
                entries.collect::<io::Result<_>>().map_err(|error| failed(&error))?;
            all.sort_by_cached_key(DirEntry::file_name);
            entries = Box::new(all.into_iter().map(Ok));
        }
        let waiting = lock(&self.queue).folders.len();
        // Counted here and told once a page: the workers would wait for each other's counts.
        let mut seen = 0;
        let mut coords = folder.coords.clone();
        for entry in entries {
            let entry = entry.map_err(|error| failed(&error))?;
            seen += self.visit(folder, &entry, records, &mut coords)?;
            if records.rows() == PAGE_SIZE as usize {
                self.count(&mut seen);
                self.send(records)?;
            }
        }
        self.count(&mut seen);
        if self.ordered {
            // What was put in line behind the others goes before them.
            lock(&self.queue).folders.rotate_left(waiting);
        }
        Ok(())
    }

    fn count(&self, seen: &mut u64) {
        let seen = std::mem::take(seen);
        update(self.stats, |stats| stats.keys_listed += seen);
    }

    /// Takes an entry of a folder; how many keys it is that are not counted yet. `coords` is room for
    /// those of a chunk.
    fn visit(
        &self,
        folder: &Folder,
        entry: &DirEntry,
        records: &mut ChunkRecords,
        coords: &mut Vec<u32>,
    ) -> std::result::Result<u64, Stopped> {
        let name = entry.file_name();
        let name = name.as_encoded_bytes();
        let Wanted { array, region, .. } = self.wanted;
        let (kind, linked) = match kind_of(entry) {
            Kind::Of { kind, linked } => (kind, linked),
            Kind::Gone => return Ok(0),
            Kind::Dangling => return self.dangling(folder, entry, name).map(|()| 0),
        };
        coords.clear();
        coords.extend_from_slice(&folder.coords);
        match meaning(array, region, folder.below_lead, coords, name, kind.is_dir()) {
            Meaning::Folder => {
                let coords = coords.clone();
                let below = Folder { path: entry.path(), coords, below_lead: true };
                lock(&self.queue).folders.push_back(below);
                self.changed.notify_one();
            }
            Meaning::Chunk if !kind.is_file() => {
                return Err(Stopped::Failed(no_file(&entry.path())));
            }
            Meaning::Chunk => {
                // Of an entry that is no link the folder is asked, without its path.
                let found = if linked { std::fs::metadata(entry.path()) } else { entry.metadata() };
                let info =
                    LocalSource::info_of(found, self.wanted.layout.tells_e_tags(), || entry.path());
                if let Some(info) = info.map_err(Stopped::Failed)? {
                    records.push(coords, info.size, info.last_modified, info.e_tag.as_deref());
                    return Ok(1);
                }
            }
            Meaning::Outside if kind.is_dir() => {}
            Meaning::Outside => return Ok(1),
            Meaning::Stranger if kind.is_dir() => {
                for foreign in walkdir::WalkDir::new(entry.path()).into_iter().flatten() {
                    if !foreign.file_type().is_dir() {
                        self.foreign(foreign.path());
                    }
                }
            }
            Meaning::Stranger => self.foreign(&entry.path()),
        }
        Ok(0)
    }

    fn foreign(&self, path: &Path) {
        update(self.stats, |stats| {
            stats.keys_listed += 1;
            stats.foreign_keys += 1;
            stats.foreign_example.get_or_insert_with(|| self.shown(path));
        });
    }

    /// A path relative to the source.
    fn shown(&self, path: &Path) -> String {
        path.strip_prefix(&self.root).unwrap_or(path).display().to_string()
    }

    /// A link that leads nowhere, where a chunk or a folder of chunks of the region may be.
    fn dangling(
        &self,
        folder: &Folder,
        entry: &DirEntry,
        name: &[u8],
    ) -> std::result::Result<(), Stopped> {
        let path = entry.path();
        let Wanted { array, region, .. } = self.wanted;
        let as_what = |is_dir| {
            let mut coords = folder.coords.clone();
            meaning(array, region, folder.below_lead, &mut coords, name, is_dir)
        };
        match (as_what(false), as_what(true)) {
            (Meaning::Chunk, _) | (_, Meaning::Folder) => {
                skip_dangling(&path, self.wanted, self.stats, || self.shown(&path))
                    .map_err(Stopped::Failed)?;
            }
            (Meaning::Outside, _) | (_, Meaning::Outside) => {}
            _ => self.foreign(&path),
        }
        Ok(())
    }
}

/// Size and time of the one chunk of a scalar.
pub(super) fn chunk(
    path: &Path,
    wanted: &Wanted,
    stats: &SharedStats,
    key: &str,
) -> Result<Option<ObjectInfo>> {
    match std::fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() && !metadata.is_dir() => Err(no_file(path)),
        Err(error) if error.kind() != io::ErrorKind::PermissionDenied && path.is_symlink() => {
            skip_dangling(path, wanted, stats, || key.to_owned())?;
            Ok(None)
        }
        _ => LocalSource::info(path),
    }
}

/// Counts a chunk that cannot be reached as missing, if that is wanted.
fn skip_dangling(
    path: &Path,
    wanted: &Wanted,
    stats: &SharedStats,
    shown: impl FnOnce() -> String,
) -> Result<()> {
    match std::fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Err(unreadable(path, &error));
        }
        _ => {}
    }
    if wanted.dangling_links == DanglingLinks::Error {
        return Err(Error::new(
            ErrorKind::UnsupportedArray,
            format!(
                "a chunk of array {} cannot be reached: {} is a symbolic link that leads nowhere",
                wanted.array.path,
                path.display()
            ),
        )
        .with_hint(
            "fetch its content (git annex get), or treat such chunks as missing with \
             --empty-chunks skip",
        ));
    }
    update(stats, |stats| {
        stats.keys_listed += 1;
        stats.dangling_links += 1;
        stats.dangling_example.get_or_insert_with(shown);
    });
    Ok(())
}

/// What an entry of a folder is, through links.
pub(crate) enum Kind {
    Of {
        kind: FileType,
        /// Whether that is what a link leads to.
        linked: bool,
    },
    /// Since it was listed.
    Gone,
    /// A link that leads nowhere, or back to itself.
    Dangling,
}

/// What an entry of a folder is. One that may not be looked at is a folder or a file by what is
/// said when it is read.
pub(crate) fn kind_of(entry: &DirEntry) -> Kind {
    let Ok(kind) = entry.file_type() else { return Kind::Gone };
    if !kind.is_symlink() {
        return Kind::Of { kind, linked: false };
    }
    match std::fs::metadata(entry.path()) {
        Ok(metadata) => Kind::Of { kind: metadata.file_type(), linked: true },
        Err(_) if entry.path().is_symlink() => Kind::Dangling,
        Err(_) => Kind::Gone,
    }
}

/// What a name in a folder of the array is.
pub(crate) enum Meaning {
    /// Leads to chunks of the region.
    Folder,
    /// A chunk of the region.
    Chunk,
    /// Zarr metadata, or chunks outside the region.
    Outside,
    Stranger,
}

/// What `name` means in a folder of `array` that the coordinates `coords` lead to, which become
/// those of a folder or chunk of the region.
pub(crate) fn meaning(
    array: &ArraySpec,
    region: &ChunkBox,
    below_lead: bool,
    coords: &mut Vec<u32>,
    name: &[u8],
    is_dir: bool,
) -> Meaning {
    let layout = &array.layout;
    let encoding = layout.encoding();
    let nested = encoding.separator == ChunkKeySeparator::Slash && layout.ndim() > 0;
    if !below_lead && ArrayKeys::is_metadata(name) && !is_dir {
        return Meaning::Outside;
    }
    if nested && encoding.form == ChunkKeyForm::Default && !below_lead {
        let is_lead = is_dir && name == b"c";
        return if is_lead { Meaning::Folder } else { Meaning::Stranger };
    }
    if !nested {
        coords.clear();
        coords.resize(layout.ndim(), 0);
        return match encoding.decode(name, layout.grid_shape(), coords) {
            true if is_dir => Meaning::Stranger,
            true if region.contains(coords) => Meaning::Chunk,
            true => Meaning::Outside,
            false => Meaning::Stranger,
        };
    }
    let axis = coords.len();
    let (Some(extent), Some(range)) = (layout.grid_shape().get(axis), region.ranges().get(axis))
    else {
        return Meaning::Stranger;
    };
    let last = axis + 1 == layout.ndim();
    match crate::zarr::key::coordinate(name).filter(|coord| u64::from(*coord) < *extent) {
        Some(_) if last == is_dir => Meaning::Stranger,
        Some(coord) if range.contains(&coord) => {
            coords.push(coord);
            if last { Meaning::Chunk } else { Meaning::Folder }
        }
        Some(_) => Meaning::Outside,
        None => Meaning::Stranger,
    }
}
