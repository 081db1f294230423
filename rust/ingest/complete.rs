//! Whether as many chunks were found as the caller expects, before anything is published.

use super::IngestJob;
use super::tally::Tally;
use crate::{Error, ErrorKind, Result};

/// Arrays named in a message.
const EXAMPLES: usize = 3;

/// Compares what was found with what was expected.
pub(super) fn check(job: &IngestJob, tally: &Tally<'_>) -> Result<()> {
    let incomplete = |message: String| {
        Err(Error::new(ErrorKind::Incomplete, message).with_hint(
            "nothing was published: complete the source and ingest again with --restart, or \
             publish what is there by running the command without this expectation",
        ))
    };
    let finish = job.finish;
    if finish.expect_complete {
        let lacking: Vec<_> = tally
            .reports
            .iter()
            .zip(&tally.missing)
            .zip(&job.arrays)
            .filter(|((report, _), _)| report.missing > 0)
            .collect();
        let missing: u64 = lacking.iter().map(|((report, _), _)| report.missing).sum();
        if missing > 0 {
            let examples: Vec<_> = lacking
                .iter()
                .take(EXAMPLES)
                .map(|((report, coords), array)| match coords {
                    Some(coords) => {
                        format!("{} of array {}", array.source_key(coords), report.path)
                    }
                    None => format!("{} chunks of array {}", report.missing, report.path),
                })
                .collect();
            return incomplete(format!(
                "{missing} chunks are missing in {} of {} arrays, for example {}",
                lacking.len(),
                tally.reports.len(),
                examples.join(", ")
            ));
        }
    }
    let found: u64 = tally.reports.iter().map(|report| report.references).sum();
    match finish.expect_count {
        Some(expected) if expected != found => {
            incomplete(format!("{found} references were found, not {expected}"))
        }
        _ => Ok(()),
    }
}
