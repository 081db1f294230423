//! What an ingest will do, decided before anything is listed: manifest splits and batches.
//!
//! A plan is a value. Its fingerprint covers what determines the result, so that the same ingest can
//! be recognised.

mod batches;
mod fingerprint;
mod limits;
mod splits;

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use crate::zarr::metadata::ArraySpec;
pub use batches::{Batches, ExpectedArray, Part};
pub use fingerprint::{Determinants, Fingerprint, earlier_keys};
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
pub fn split_rules(arrays: &[ArraySpec], expected: &[u64], limits: PlanLimits) -> Vec<SplitRule> {
    let split = || {
        let known = arrays.iter().zip(expected);
        known.filter(|(array, _)| !array.copied && array.layout.ndim() > 0)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::layout;

    fn array(path: &str, shape: &[u64], copied: bool) -> ArraySpec {
        let (source_path, document) = (path.to_owned(), b"{}".to_vec());
        ArraySpec { path: path.to_owned(), source_path, document, layout: layout(shape), copied }
    }

    #[test]
    fn referenced_arrays_have_rules_and_many_small_ones_have_none() {
        let options = LimitOptions { references_per_manifest: Some(5), ..LimitOptions::default() };
        let limits = PlanLimits::from(options);
        let paths = |arrays: &[ArraySpec]| -> Vec<String> {
            let expected: Vec<_> = arrays.iter().map(|array| array.layout.chunks()).collect();
            let rules = split_rules(arrays, &expected, limits);
            rules.into_iter().map(|rule| rule.path).collect()
        };
        let mut arrays = vec![
            array("/large", &[6], false),
            array("/copied", &[6], true),
            array("/scalar", &[], false),
        ];
        arrays.extend((0..64).map(|at| array(&format!("/small{at}"), &[5], false)));
        // Each referenced array has one as long as the small ones are not more than 64.
        assert_eq!(paths(&arrays).len(), 65);
        assert!(!paths(&arrays).iter().any(|path| path == "/copied" || path == "/scalar"));
        arrays.push(array("/small64", &[5], false));
        assert_eq!(paths(&arrays), ["/large"]);
    }
}
