//! What an ingest is asked to do.

use chrono::DateTime;
use icechunk::format::SnapshotId;

use super::crew::Crew;
use super::decoded::Decoder;
use crate::batch::{ChecksumBy, EmptyChunks};
use crate::commit::RunOptions;
use crate::grid::chunk_box::ChunkBox;
use crate::grid::piece::Piece;
use crate::manifest::NativeChunk;
use crate::plan::{Determinants, Fingerprint, LimitOptions, PlanLimits};
use crate::source::Source;
use crate::target::TargetLocation;
use crate::target::locations::Locations;
use crate::zarr::metadata::{ArraySpec, GroupSpec};

/// What becomes of what stands in the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// The arrays must not be there.
    #[default]
    Create,
    /// The arrays are there and grow.
    Append,
    /// What is there is replaced.
    Overwrite,
    /// References of a region are made equal to the source.
    Update,
    /// Everything is made equal to the source: references, metadata, and which arrays there are.
    Sync,
}

impl Mode {
    /// Its name in options and reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Append => "append",
            Self::Overwrite => "overwrite",
            Self::Update => "update",
            Self::Sync => "sync",
        }
    }

    /// Whether arrays are in the target already, and stay the same arrays.
    #[must_use]
    pub fn keeps_arrays(self) -> bool {
        matches!(self, Self::Append | Self::Update | Self::Sync)
    }
}

/// One of the stores that chunks come from.
#[derive(Debug, Clone)]
pub struct JobSource {
    /// Where its chunks are.
    pub source: Source,
    /// The source as the user named it, free of credentials.
    pub url: String,
}

/// An array of an ingest: its spec in the target and where its chunks come from.
#[derive(Debug, Clone)]
pub struct JobArray {
    /// The spec as it will be in the target. Its source path and chunk keys are those of the
    /// first source.
    pub spec: ArraySpec,
    /// Where its chunks are; the boxes do not overlap. None are listed of a copied array.
    pub pieces: Vec<Piece>,
    /// The chunks of a copied array; `None` copies all of them from its only piece.
    pub chunks: Option<Vec<NativeChunk>>,
}

impl JobArray {
    /// All of an array, from the first source.
    #[must_use]
    pub fn whole(spec: ArraySpec) -> Self {
        let pieces = vec![Piece::whole(0, &spec)];
        Self { spec, pieces, chunks: None }
    }

    /// The piece that holds a chunk of the target.
    #[must_use]
    pub fn piece_at(&self, coords: &[u32]) -> Option<&Piece> {
        self.pieces.iter().find(|piece| piece.target.contains(coords))
    }

    /// The key of a chunk in its source.
    #[must_use]
    pub fn source_key(&self, coords: &[u32]) -> String {
        let piece = self.piece_at(coords);
        piece.map_or_else(|| self.spec.source_key(coords), |piece| piece.source_key(coords))
    }

    /// Gives the array another shape: what lies beyond is left out.
    pub(super) fn reshape(&mut self, spec: ArraySpec) {
        let whole = ChunkBox::whole(&spec.layout);
        self.pieces.retain_mut(|piece| match piece.target.intersection(&whole) {
            Some(within) => {
                piece.target = within;
                true
            }
            None => false,
        });
        self.spec = spec;
    }
}

/// Everything an ingest needs to know.
#[derive(Debug)]
pub struct IngestJob {
    /// Where the chunks are; pieces know them by position.
    pub sources: Vec<JobSource>,
    /// Where the repository is or will be.
    pub target: TargetLocation,
    /// The branch to publish on.
    pub branch: String,
    /// What becomes of what is there.
    pub mode: Mode,
    /// The snapshot that arrays which stay were read from: the tip of the branch.
    pub base: Option<SnapshotId>,
    /// Paths of specs that are removed before anything is created.
    pub replaced: Vec<String>,
    /// Paths of arrays that a sync adds to those that are there.
    pub added: Vec<String>,
    /// Groups to create or, by a sync, to give other attributes; parents before children.
    pub groups: Vec<GroupSpec>,
    /// Arrays to create or to change, and to fill.
    pub arrays: Vec<JobArray>,
    /// Options that determine the result besides all that, as text.
    pub plan: String,
    /// When the listing was made, as ISO 8601, if the sources are not listed; commits say so.
    pub listing: Option<String>,
    /// What to do with empty objects under chunk keys.
    pub empty_chunks: EmptyChunks,
    /// How readers notice that an object has changed.
    pub checksum: ChecksumBy,
    /// How references name their objects.
    pub locations: Locations,
    /// A sync: keep the checksum of the references that stand, instead of `checksum`.
    pub keep_checksum: bool,
    /// How many references go where.
    pub limits: LimitOptions,
    /// The user's message for every commit.
    pub message: Option<String>,
    /// What to do when everything is committed.
    pub finish: Finish,
    /// Decodes chunks that are to be copied, with codecs that the core does not know.
    pub decoder: Option<Decoder>,
    /// Who lists and writes; this process when there is none.
    pub crew: Option<Crew>,
    /// Discard an unfinished run of these arrays instead of resuming it.
    pub restart: bool,
    /// Take a target that may not be safe for concurrent writers.
    pub unsafe_target: bool,
}

impl IngestJob {
    /// The sources as the user named them.
    #[must_use]
    pub fn source_urls(&self) -> String {
        self.sources.iter().map(|source| source.url.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// Lists `ETag`s where references carry those, with room for them in memory.
    pub(in crate::jobs) fn list_tags(&mut self) {
        if self.checksum != ChecksumBy::ETag {
            return;
        }
        for source in &mut self.sources {
            source.source = source.source.clone().with_e_tags();
        }
        // A tag takes as much memory as two references.
        let possible = PlanLimits::from(self.limits).references_per_commit / 3;
        self.limits.references_per_commit = Some(possible.max(1));
    }

    /// When the listing was made, in seconds since 1970, unless the sources are listed.
    pub(super) fn listed_at(&self) -> Option<i64> {
        let date = DateTime::parse_from_rfc3339(self.listing.as_deref()?).ok()?;
        Some(date.timestamp())
    }

    /// The specs of the arrays, by position.
    pub(super) fn specs(&self) -> Vec<ArraySpec> {
        self.arrays.iter().map(|array| array.spec.clone()).collect()
    }

    /// Whether specs come or go, or groups change, where arrays stay: more than a draft can hold.
    pub(super) fn changes_nodes(&self) -> bool {
        self.mode == Mode::Sync
            && !(self.added.is_empty() && self.groups.is_empty() && self.replaced.is_empty())
    }

    pub(super) fn has_references(&self) -> bool {
        self.arrays.iter().any(|array| !array.spec.copied)
    }

    fn url_prefixes(&self) -> String {
        let prefixes = self.sources.iter().map(|source| source.source.url_prefix());
        prefixes.collect::<Vec<_>>().join(", ")
    }

    /// Options beside those that have a name of their own in a fingerprint, which may not change
    /// for what earlier versions have done.
    fn request(&self) -> String {
        match self.checksum {
            ChecksumBy::LastModified => self.plan.clone(),
            other => format!("{} checksum={}", self.plan, other.name()),
        }
    }

    /// What the same ingest is known by.
    pub(super) fn fingerprint(&self) -> Fingerprint {
        let arrays: Vec<_> =
            self.arrays.iter().map(|array| (&array.spec, array.pieces.as_slice())).collect();
        Fingerprint::of(&Determinants {
            sources: &self.url_prefixes(),
            mode: self.mode.name(),
            empty_chunks: self.empty_chunks.name(),
            locations: self.locations.name(),
            replaced: &self.replaced,
            request: &self.request(),
            groups: &self.groups,
            arrays: &arrays,
        })
    }

    /// The options that must be the same when a run is resumed.
    pub(super) fn run_options(&self) -> RunOptions {
        RunOptions {
            source: self.url_prefixes(),
            mode: self.mode.name().to_owned(),
            empty_chunks: self.empty_chunks.name().to_owned(),
            locations: self.locations.name().to_owned(),
            checksum: self.checksum.name().to_owned(),
            plan: self.plan.clone(),
        }
    }
}

/// What is checked, and done, when everything is committed to the staging branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finish {
    /// Publish; otherwise the run stays staged.
    pub publish: bool,
    /// Every chunk must be there.
    pub expect_complete: bool,
    /// There must be so many references, over all arrays.
    pub expect_count: Option<u64>,
    /// Read one reference of each array.
    pub read_check: bool,
}

impl Default for Finish {
    fn default() -> Self {
        Self { publish: true, expect_complete: false, expect_count: None, read_check: true }
    }
}
