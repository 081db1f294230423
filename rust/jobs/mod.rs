//! What users ask for: whole jobs, made of everything below.

mod copy;
pub mod ingest;
mod publish;
mod relocate;
mod status;
pub mod verify;

pub use copy::{CopiedArray, CopyJob, CopyPlace, CopyReport, copy};
pub use publish::{PublishJob, PublishReport, publish};
pub use relocate::{RelocateJob, RelocateReport, relocate};
pub use status::{ContainerStatus, RunStatus, Status, status};
