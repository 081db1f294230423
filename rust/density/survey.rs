//! Looks at arrays before they are planned: a few requests for each large one, not many in all.
//!
//! Decides which arrays are worth a look and how many requests each gets; how to look is
//! [`probe`]'s business. Small arrays are taken to be full.

use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _};

use crate::Result;
use crate::density::probe::probe;
use crate::density::{DEFAULT_PROBE_REQUESTS, Density, Looks};
use crate::grid::chunk_box::ChunkBox;
use crate::list::limit::ConcurrencyLimit;
use crate::source::Source;
use crate::zarr::metadata::ArraySpec;

/// Regions of at most so many chunks, a page of S3, are not looked at.
const MOST_UNSEEN: u64 = 1_000;

/// LIST requests for all arrays together.
const MOST_REQUESTS: usize = 64;

/// Arrays that are looked at at the same time.
const ARRAYS_AT_ONCE: usize = 16;

/// How full the regions of `arrays` are; `None` for those that were not looked at.
///
/// The largest regions come first. When there are so many that their requests are used up, the
/// rest is not looked at.
///
/// # Errors
///
/// As [`probe`].
pub async fn survey(
    source: &Source,
    arrays: &[(ArraySpec, ChunkBox)],
    limit: &Arc<ConcurrencyLimit>,
) -> Result<Vec<Option<Density>>> {
    let looks = chosen(arrays.iter().map(|(_, region)| region.chunks()));
    let probes = looks.into_iter().filter_map(|position| {
        let (array, region) = arrays.get(position)?;
        let limit = Arc::clone(limit);
        Some(async move {
            let density = probe(source, array, region, Looks::default(), limit).await?;
            Ok::<_, crate::Error>((position, density))
        })
    });
    let probes: Vec<_> = probes.collect();
    let found: Vec<(usize, Density)> =
        futures::stream::iter(probes).buffer_unordered(ARRAYS_AT_ONCE).try_collect().await?;
    let mut densities = vec![None; arrays.len()];
    for (position, density) in found {
        if let Some(place) = densities.get_mut(position) {
            *place = Some(density);
        }
    }
    Ok(densities)
}

/// The positions of the regions to look at, given the chunks that each has room for.
fn chosen(chunks: impl Iterator<Item = u64>) -> Vec<usize> {
    let mut large: Vec<_> =
        chunks.enumerate().filter(|(_, chunks)| *chunks > MOST_UNSEEN).collect();
    large.sort_by_key(|(position, chunks)| (std::cmp::Reverse(*chunks), *position));
    large.truncate(MOST_REQUESTS / DEFAULT_PROBE_REQUESTS);
    large.into_iter().map(|(position, _)| position).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_are_looked_at_and_not_too_many() {
        assert_eq!(chosen([5, 1_000, 1_001, 9_000].into_iter()), [3, 2]);
        assert_eq!(chosen(std::iter::repeat_n(2_000, 100)), [0, 1, 2, 3, 4, 5, 6, 7]);
    }
}
