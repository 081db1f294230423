//! Commits: the staging branch of a run, and snapshots made from manifests that are written.
//!
//! Readers of the target branch see nothing of either before they are published.
//! Metadata and native chunks are committed by an Icechunk session; references by a snapshot that
//! is put together from the parent's nodes and new manifests.

mod branch;
mod draft;
mod first;
mod log;
mod record;
mod register;
mod replay;
mod rivals;
mod runs;
mod snapshot;
mod staging;
mod stored;

pub use branch::{Sorted, publish, remove, remove_finished, snapshot_id};
pub use draft::Draft;
pub use first::commit_first;
pub use record::{
    ArrayAddition, Completed, RecordedArray, RunIdentity, RunOptions, RunRecord, completed, mode,
    new_run_id, record,
};
pub(crate) use record::{StoredPart, restored, stored};
pub use replay::{Touched, is_below, replay};
pub use rivals::{is_overtaken, published_instead};
pub(crate) use runs::staging_branch;
pub use runs::{
    LostRun, PublishedRun, STAGING_PREFIX, StagedRun, ToldOf, find_published, history, lost_runs,
    missing_examples, published_runs, run_branches, staged_runs, told_of,
};
pub use snapshot::{MOST_CHUNKS_PER_COMMIT, commit_draft, commit_manifests, commit_nothing};
pub use staging::Staging;
pub(crate) use stored::manifest_boxes;
pub use stored::manifest_ids;
