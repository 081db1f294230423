//! What users ask for: whole jobs, made of everything below.

pub mod ingest;
mod publish;
mod status;
pub mod verify;

pub use publish::{PublishJob, PublishReport, publish};
pub use status::{RunStatus, status};
