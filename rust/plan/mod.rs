//! What an ingest will do, decided before anything is listed: manifest splits and batches.
//!
//! A plan is a value. Its fingerprint covers what determines the result (source, nodes, layouts)
//! and not what only determines the work (commit size), so that the same ingest can be recognised.

mod batches;
mod limits;
mod splits;

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use crate::zarr::metadata::{ArrayNode, GroupNode};
pub use batches::{Batches, ExpectedArray, Part};
pub use limits::{
    DEFAULT_MEMORY, DEFAULT_REFERENCES_PER_MANIFEST, LEAST_MEMORY, LimitOptions,
    MAX_REFERENCES_PER_MANIFEST, PlanLimits,
};
pub use splits::{SplitRule, manifest_split, possible_chunks};

/// The largest number of arrays for which a split is stored even when one manifest holds the
/// whole array. Icechunk matches every rule against every array it commits.
const MOST_SMALL_ARRAYS_WITH_RULES: usize = 64;

/// The splits of the referenced arrays; `expected` chunks of each, by position, exist.
#[must_use]
pub fn split_rules(arrays: &[ArrayNode], expected: &[u64], limits: PlanLimits) -> Vec<SplitRule> {
    let split = || {
        let known = arrays.iter().zip(expected);
        known.filter(|(array, _)| !array.loaded && array.layout.ndim() > 0)
    };
    let small = |expected: u64| expected <= u64::from(limits.references_per_manifest);
    let large = split().filter(|(_, expected)| !small(**expected)).count();
    let keep_small = split().count() - large <= MOST_SMALL_ARRAYS_WITH_RULES;
    let references = limits.references_per_manifest_of(large);
    split()
        .filter(|(_, expected)| keep_small || !small(**expected))
        .map(|(array, expected)| SplitRule {
            path: array.path.clone(),
            split: manifest_split(
                array.layout.grid_shape(),
                possible_chunks(references, array.layout.chunks(), *expected),
            ),
        })
        .collect()
}

/// Hexadecimal digest of everything that determines the result of ingesting `groups` and `arrays`
/// from `source_url` (free of credentials) with `options`.
#[must_use]
pub fn fingerprint(
    source_url: &str,
    groups: &[GroupNode],
    arrays: &[ArrayNode],
    options: &str,
) -> String {
    let mut digest = Sha256::new();
    // Every field is preceded by its length, so that no two plans share a byte sequence.
    let mut add = |field: &[u8]| {
        digest.update((field.len() as u64).to_le_bytes());
        digest.update(field);
    };
    add(source_url.as_bytes());
    add(options.as_bytes());
    for group in groups {
        add(group.path.as_bytes());
        add(&group.document);
    }
    for array in arrays {
        add(array.path.as_bytes());
        add(array.source_path.as_bytes());
        add(&array.document);
        add(format!("{:?} {}", array.layout, array.loaded).as_bytes());
    }
    // Half of it tells plans apart, and every commit carries it.
    hex(digest.finalize().get(..16).unwrap_or_default())
}

/// The first `bytes` of a text's digest, in hexadecimal.
pub(crate) fn short_digest(text: &str, bytes: usize) -> String {
    hex(Sha256::digest(text).get(..bytes).unwrap_or_default())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
