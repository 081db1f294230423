//! What goes between a coordinator and its workers: the plan, units of it and their results, as
//! versioned JSON documents. They hold no secret and nothing of a machine; nothing is done here.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::super::worker::Staged;
use super::super::{IngestJob, JobArray};
use crate::batch::{ChecksumBy, EmptyChunks};
use crate::commit::{StoredPart, restored, stored};
use crate::error::target_error;
use crate::grid::chunk_box::ChunkBox;
use crate::grid::piece::Piece;
use crate::manifest::CommittedChunks;
use crate::plan::{Part, PlanLimits};
use crate::target::locations::Locations;
use crate::zarr::key::ChunkKeyEncoding;
use crate::zarr::metadata::{ArrayLayout, ArraySpec};
use crate::{Error, ErrorKind, Result};

/// Layout of the documents.
const FORMAT: u32 = 1;

/// Bytes of chunks that a result holds itself.
const MOST_INSIDE: usize = 4 << 10;

/// The version that writes and reads them: workers of another one might do other work.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What a worker must know of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct WorkPlan {
    format: u32,
    refreeze: String,
    pub(super) run_id: String,
    empty_chunks: String,
    checksum: String,
    locations: String,
    /// Whether there may be references already.
    pub(super) replaces: bool,
    pub(super) references_per_commit: u64,
    pub(super) references_per_manifest: u32,
    pub(super) arrays: Vec<PlannedArray>,
}

/// An array of a run; what is copied has no pieces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PlannedArray {
    path: String,
    source_path: String,
    layout: StoredLayout,
    pub(super) split: Vec<u32>,
    pieces: Vec<StoredPiece>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct StoredLayout {
    shape: Vec<u64>,
    chunk_shape: Vec<u64>,
    /// Such as `default/` and `v2.`.
    keys: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct StoredPiece {
    source: usize,
    source_path: String,
    layout: StoredLayout,
    target: Vec<(u32, u32)>,
    shift: Vec<i64>,
}

/// A share of a run that one worker does at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct Unit {
    pub(in super::super) number: u64,
    /// The batches that it is made of; none when it is made of parts that were left over.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(in super::super) batches: Option<(u64, u64)>,
    /// The snapshot that its manifests follow.
    pub(in super::super) parent: String,
    pub(in super::super) parts: Vec<StoredPart>,
}

/// What has become of a unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct UnitResult {
    format: u32,
    refreeze: String,
    pub(in super::super) unit: Unit,
    /// What fits a commit.
    pub(in super::super) staged: Staged,
    /// The file beside the result that holds the chunks for the log, where they take much room.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) chunks: Option<String>,
    /// What was denser than expected and is left for others.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub(in super::super) rest: Vec<StoredPart>,
}

impl WorkPlan {
    pub(in super::super) fn new(
        run_id: &str,
        job: &IngestJob,
        splits: &[Vec<u32>],
        limits: PlanLimits,
    ) -> Self {
        let planned = job.arrays.iter().zip(splits);
        Self {
            format: FORMAT,
            refreeze: VERSION.to_owned(),
            run_id: run_id.to_owned(),
            empty_chunks: job.empty_chunks.name().to_owned(),
            checksum: job.checksum.name().to_owned(),
            locations: job.locations.name().to_owned(),
            replaces: job.mode.keeps_arrays(),
            references_per_commit: limits.references_per_commit,
            references_per_manifest: limits.references_per_manifest,
            arrays: planned.map(|(array, split)| PlannedArray::new(array, split)).collect(),
        }
    }

    pub(super) fn parse(text: &str) -> Result<Self> {
        check_version(text, "the plan")?;
        parsed(text, "the plan")
    }

    pub(super) fn empty_chunks(&self) -> EmptyChunks {
        let skip = self.empty_chunks == EmptyChunks::Skip.name();
        if skip { EmptyChunks::Skip } else { EmptyChunks::Error }
    }

    pub(super) fn checksum(&self) -> ChecksumBy {
        let all = [ChecksumBy::LastModified, ChecksumBy::ETag, ChecksumBy::None];
        let named = all.into_iter().find(|checksum| checksum.name() == self.checksum);
        named.unwrap_or_default()
    }

    pub(super) fn locations(&self) -> Locations {
        let absolute = self.locations == Locations::Absolute.name();
        if absolute { Locations::Absolute } else { Locations::Relative }
    }

    pub(super) fn job_arrays(&self) -> Result<Vec<JobArray>> {
        self.arrays.iter().map(PlannedArray::job_array).collect()
    }
}

impl PlannedArray {
    fn new(JobArray { spec, pieces, .. }: &JobArray, split: &[u32]) -> Self {
        let pieces = if spec.copied { &[][..] } else { pieces };
        Self {
            path: spec.path.clone(),
            source_path: spec.source_path.clone(),
            layout: StoredLayout::of(&spec.layout),
            split: split.to_vec(),
            pieces: pieces
                .iter()
                .map(|piece| StoredPiece {
                    source: piece.source,
                    source_path: piece.array.source_path.clone(),
                    layout: StoredLayout::of(&piece.array.layout),
                    target: piece.target.ranges().iter().map(|r| (r.start, r.end)).collect(),
                    shift: piece.shift.chunks(spec.layout.ndim()),
                })
                .collect(),
        }
    }

    fn job_array(&self) -> Result<JobArray> {
        let spec = |source_path: &str, layout: &StoredLayout| {
            Ok::<_, Error>(ArraySpec {
                path: self.path.clone(),
                source_path: source_path.to_owned(),
                // A worker does not look at it.
                document: Vec::new(),
                layout: layout.layout()?,
                copied: self.pieces.is_empty(),
            })
        };
        let array = spec(&self.source_path, &self.layout)?;
        let piece = |stored: &StoredPiece| {
            let StoredPiece { source, source_path, layout, target, shift } = stored;
            let ranges = target.iter().map(|(start, end)| *start..*end).collect();
            let there = spec(source_path, layout)?;
            Piece::of(&array, *source, there, ChunkBox::from_ranges(ranges), shift.clone())
        };
        let pieces = self.pieces.iter().map(piece).collect::<Result<_>>()?;
        Ok(JobArray { spec: array, pieces, chunks: None })
    }
}

impl StoredLayout {
    fn of(layout: &ArrayLayout) -> Self {
        Self {
            shape: layout.shape().to_vec(),
            chunk_shape: layout.chunk_shape().to_vec(),
            keys: layout.encoding().name().to_owned(),
        }
    }

    fn layout(&self) -> Result<ArrayLayout> {
        let separator = self.keys.get(self.keys.len().saturating_sub(1)..).unwrap_or_default();
        let name = self.keys.strip_suffix(separator).unwrap_or_default();
        let encoding = ChunkKeyEncoding::parse(name, separator)?;
        ArrayLayout::new(self.shape.clone(), self.chunk_shape.clone(), encoding)
    }
}

impl Unit {
    pub(in super::super) fn parse(text: &str) -> Result<Self> {
        parsed(text, "the unit")
    }

    pub(in super::super) fn parts(&self) -> Vec<Part> {
        self.parts.iter().map(restored).collect()
    }

    /// What its result is filed under: the same for the same chunks, whoever does them.
    pub(super) fn digest(&self) -> String {
        let text = serde_json::to_string(&self.parts).unwrap_or_default();
        let digest = Sha256::digest(text);
        let start = digest.first_chunk::<16>().copied().unwrap_or_default();
        format!("{:032x}", u128::from_be_bytes(start))
    }

    /// What is left of it, as a unit, if anything is.
    pub(super) fn rest(&self, rest: Vec<StoredPart>) -> Option<Self> {
        (!rest.is_empty()).then(|| Self { batches: None, parts: rest, ..self.clone() })
    }
}

impl UnitResult {
    pub(super) fn new<'a>(
        unit: Unit,
        staged: Staged,
        rest: impl Iterator<Item = &'a Part>,
    ) -> Self {
        let rest = rest.map(stored).collect();
        Self { format: FORMAT, refreeze: VERSION.to_owned(), unit, staged, chunks: None, rest }
    }

    pub(in super::super) fn parse(text: &str) -> Result<Self> {
        check_version(text, "a worker's result")?;
        parsed(text, "a worker's result")
    }

    /// Takes the chunks for the log out, packed, when they would make the result large: runs of a
    /// dense part are a few numbers, and every chunk of a scattered one is a number of its own.
    pub(super) fn take_chunks(&mut self) -> Result<Option<Vec<u8>>> {
        if self.staged.chunks().map(|chunks| chunks.held_bytes()).sum::<usize>() <= MOST_INSIDE {
            return Ok(None);
        }
        let taken: Vec<_> = self.staged.chunks().map(CommittedChunks::take).collect();
        let failed = |error: &(dyn std::error::Error + Send + Sync + 'static)| {
            target_error("pack the chunks of a result", error)
        };
        let mut packed =
            zstd::stream::write::Encoder::new(Vec::new(), 0).map_err(|error| failed(&error))?;
        serde_json::to_writer(&mut packed, &taken).map_err(|error| failed(&error))?;
        packed.finish().map(Some).map_err(|error| failed(&error))
    }

    /// The manifests that were written for it.
    pub(super) fn manifests(&self) -> Vec<String> {
        self.staged.manifests().map(|file| file.id.to_string()).collect()
    }
}

/// Puts chunks back that [`UnitResult::take_chunks`] has taken out.
pub(super) fn put_chunks(staged: &mut Staged, packed: &[u8]) -> Result<()> {
    let failed = |error: &(dyn std::error::Error + Send + Sync + 'static)| {
        target_error("unpack the chunks of a result", error)
    };
    let bytes = zstd::stream::read::Decoder::new(packed).map_err(|error| failed(&error))?;
    let all: Vec<CommittedChunks> =
        serde_json::from_reader(std::io::BufReader::new(bytes)).map_err(|error| failed(&error))?;
    for (here, chunks) in staged.chunks().zip(all) {
        here.merge(chunks);
    }
    Ok(())
}

/// What is asked of a document before the rest of it is read.
#[derive(Deserialize)]
struct Version {
    format: u32,
    refreeze: String,
}

fn check_version(text: &str, what: &str) -> Result<()> {
    let Version { format, refreeze } = parsed(text, what)?;
    if refreeze == VERSION && format == FORMAT {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Mismatch,
        format!("{what} is of refreeze {refreeze} (format {format}), and this is refreeze {VERSION} (format {FORMAT})"),
    )
    .with_hint("install the same version of refreeze on every machine, or plan again"))
}

fn parsed<'a, T: Deserialize<'a>>(text: &'a str, what: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| {
        Error::new(ErrorKind::Mismatch, format!("{what} is not a document of refreeze: {error}"))
            .with_hint("make it again with refreeze plan SOURCE TARGET --output FILE")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::layout;

    #[test]
    fn an_array_comes_back_from_the_plan() {
        let spec = ArraySpec {
            path: "/g/x".to_owned(),
            source_path: "x".to_owned(),
            document: Vec::new(),
            layout: layout(&[64, 3]),
            copied: false,
        };
        let array = JobArray::whole(spec);
        let planned = PlannedArray::new(&array, &[4, 3]);
        let text = serde_json::to_string(&planned).unwrap();
        let back = serde_json::from_str::<PlannedArray>(&text).unwrap().job_array().unwrap();
        assert_eq!((back.spec, back.pieces), (array.spec, array.pieces));
    }

    #[test]
    fn a_document_of_another_version_names_both() {
        let text = r#"{"format": 1, "refreeze": "9.9.9"}"#;
        let error = WorkPlan::parse(text).unwrap_err();
        assert!(error.message().contains("9.9.9") && error.message().contains(VERSION), "{error}");
    }
}
