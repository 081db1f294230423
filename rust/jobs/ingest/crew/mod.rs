//! Many machines: an ingest whose listing and writing others do, unit by unit. What they are
//! (threads, processes, a cluster, a batch queue) is not known here; the coordinator commits what
//! they give back, in the order in which it arrives.

mod carry_out;
mod coordinator;
mod documents;
mod results;

use std::fmt;
use std::sync::Arc;

use crate::Result;

pub use carry_out::carry_out;
pub(super) use coordinator::{Coordinator, collect, drive, harvest, plan};
pub(super) use documents::WorkPlan;
pub(in crate::jobs) use results::{RESULTS, Results, delete, named_in_results};

/// Those who do the units. Calls may block: they are made on threads for that.
pub trait Workers: Send + Sync {
    /// How many there are, as far as is known: units are sized by it.
    fn count(&self) -> Result<u64>;

    /// The plan that all units are of, as JSON.
    fn start(&self, plan: &str) -> Result<()>;

    /// Hands out a unit, as JSON.
    fn submit(&self, unit: &str) -> Result<()>;

    /// Results that have arrived, as JSON; may be none, after a short time.
    fn arrived(&self) -> Result<Vec<String>>;
}

/// Who lists and writes.
#[derive(Clone)]
pub enum Crew {
    /// Nobody yet: the run begins with its first commit, and the plan is in the report.
    Later,
    /// Nobody any more: what others have left in the target is committed.
    Nobody,
    /// These.
    Workers(Arc<dyn Workers>),
}

impl fmt::Debug for Crew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Later => "Later",
            Self::Nobody => "Nobody",
            Self::Workers(_) => "Workers",
        })
    }
}

/// Workers that a plan for a batch queue is cut for, whose number is not known when it is made.
const UNKNOWN_WORKERS: u64 = 32;

/// Units that each worker should get: the last ones end at about the same time.
const UNITS_EACH: u64 = 8;

impl Crew {
    /// Expected references of a unit, when there are `expected` in all.
    pub(super) async fn references_per_unit(
        &self,
        expected: u64,
        least: u64,
        most: u64,
    ) -> Result<u64> {
        let workers = match self {
            Self::Workers(workers) => {
                let workers = Arc::clone(workers);
                coordinator::blocking(move || workers.count()).await?
            }
            Self::Later | Self::Nobody => UNKNOWN_WORKERS,
        };
        let units = workers.max(1).saturating_mul(UNITS_EACH);
        Ok((expected / units).max(least).min(most).max(1))
    }
}
