//! What users ask for: whole jobs, made of everything below.

mod copy;
mod gc;
pub mod ingest;
mod publish;
mod relocate;
mod status;
pub mod verify;

pub use copy::{CopiedArray, CopyJob, CopyPlace, CopyReport, copy};
pub use gc::{GcJob, GcReport, gc};
pub use publish::{PublishJob, PublishReport, publish};
pub use relocate::{RelocateJob, RelocateReport, relocate};
pub use status::{ContainerStatus, RunStatus, Status, status};
