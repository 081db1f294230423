//! What a whole ingest takes: its arrays, cut into batches as the ingest itself would cut them.

use serde::Serialize;

use super::{ArrayEstimate, Strategy, estimate, share};
use crate::Result;
use crate::density::Density;
use crate::grid::chunk_box::ChunkBox;
use crate::list::array_keys::ArrayKeys;
use crate::list::limit::{InFlight, within_open_files};
use crate::list::pages::summary;
use crate::list::{Lister, PAGE_SIZE, ranked_region};
use crate::plan::{Batches, ExpectedArray, PlanLimits, split_rules};
use crate::source::Source;
use crate::zarr::metadata::{ArrayLayout, ArraySpec};

/// The most batches that are looked at one by one.
const MOST_BATCHES: u64 = 200;

/// The expected cost of an ingest.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct IngestEstimate {
    /// Of each array.
    pub arrays: Vec<ArrayEstimate>,
    /// LIST requests in flight that there is memory and files for, at the beginning and at most.
    pub in_flight: InFlight,
    /// References that a commit has room for.
    pub references_per_commit: u64,
    /// Commits: metadata and coordinates, and then the batches.
    pub commits: u64,
}

/// Estimates the ingest of `parts`, of which `densities` tell how full they are.
///
/// # Errors
///
/// As [`estimate`].
pub fn estimate_ingest(
    source: &Source,
    parts: &[(ArraySpec, ChunkBox)],
    densities: &[Option<Density>],
    limits: PlanLimits,
) -> Result<IngestEstimate> {
    let layouts: Vec<ArrayLayout> =
        parts.iter().map(|(array, region)| cut(&array.layout, region)).collect::<Result<_>>()?;
    let expected: Vec<u64> = parts
        .iter()
        .zip(densities)
        .map(|((_, region), density)| {
            let chunks = region.chunks();
            density.as_ref().map_or(chunks, |density| density.chunks_expected.min(chunks))
        })
        .collect();
    let specs: Vec<ArraySpec> = parts
        .iter()
        .zip(&layouts)
        .map(|((array, _), layout)| ArraySpec { layout: layout.clone(), ..array.clone() })
        .collect();
    let rules = split_rules(&specs, &expected, limits);
    let whole = |layout: &ArrayLayout| {
        let along = |extent: &u64| u32::try_from(*extent).unwrap_or(u32::MAX).max(1);
        layout.grid_shape().iter().map(along).collect::<Vec<_>>()
    };
    let splits: Vec<Vec<u32>> = specs
        .iter()
        .map(|spec| {
            let rule = rules.iter().find(|rule| rule.path == spec.path);
            rule.map_or_else(|| whole(&spec.layout), |rule| rule.split.clone())
        })
        .collect();
    let names: Vec<_> = specs.iter().map(ArraySpec::dimension_names).collect();
    let known = layouts.iter().zip(&splits).zip(&expected).zip(&names).enumerate();
    let referenced: Vec<_> = known
        .filter(|(position, _)| specs.get(*position).is_some_and(|spec| !spec.copied))
        .map(|(array, (((layout, split), expected), names))| ExpectedArray {
            array,
            layout,
            leading: names.first().and_then(Option::as_deref),
            split: split.clone(),
            expected: *expected,
        })
        .collect();
    let batches = Batches::new(&referenced, limits.references_per_commit);
    let mut arrays = Vec::with_capacity(parts.len());
    for (((array, region), density), split) in parts.iter().zip(densities).zip(&splits) {
        arrays.push(estimate(source, array, region, split, density.as_ref())?);
    }
    let count = batches.count(&layouts);
    let page_size = Lister::of(source).page_size().unwrap_or(PAGE_SIZE);
    spread(&mut arrays, &batches, &specs, count, page_size)?;
    let found: u64 = referenced.iter().map(|array| array.expected).fold(0, u64::saturating_add);
    // Small batches share a commit.
    let filled = if found <= limits.references_per_commit { count.min(1) } else { count };
    Ok(IngestEstimate {
        in_flight: within_open_files(limits.in_flight),
        arrays,
        references_per_commit: limits.references_per_commit,
        commits: 1 + filled,
    })
}

/// The layout of an array that is a region of another.
fn cut(layout: &ArrayLayout, region: &ChunkBox) -> Result<ArrayLayout> {
    let lengths = region.ranges().iter().zip(layout.chunk_shape()).zip(layout.shape());
    let shape = lengths.map(|((range, chunk), length)| {
        let end = (u64::from(range.end) * chunk).min(*length);
        end.saturating_sub(u64::from(range.start) * chunk)
    });
    ArrayLayout::new(shape.collect(), layout.chunk_shape().to_vec(), layout.encoding())
}

/// Requests and ranges of arrays that are listed batch by batch: every part has ranges of its own.
fn spread(
    arrays: &mut [ArrayEstimate],
    batches: &Batches,
    specs: &[ArraySpec],
    count: u64,
    page_size: u32,
) -> Result<()> {
    let layouts: Vec<ArrayLayout> = specs.iter().map(|spec| spec.layout.clone()).collect();
    let looked_at = count.min(MOST_BATCHES);
    let mut sums = vec![(0_u64, 0_u64, 0_u64); arrays.len()];
    for batch in 0..looked_at {
        for part in batches.parts(batch, &layouts) {
            let (Some(spec), Some(sum)) = (specs.get(part.array), sums.get_mut(part.array)) else {
                continue;
            };
            sum.0 += 1;
            if part.region == ChunkBox::whole(&spec.layout) {
                continue;
            }
            let (order, ranks) = ranked_region(spec, &part.region)?;
            let pages = summary(&ArrayKeys::new(&spec.source_path, order), &ranks, page_size);
            sum.1 += pages.pages;
            sum.2 += pages.ranges;
        }
    }
    for (position, (array, (parts, pages, ranges))) in arrays.iter_mut().zip(sums).enumerate() {
        array.batches = batches.count_of(position, &layouts);
        let scale = |number: u64| share(number, array.batches.max(parts), parts);
        if pages > 0 && array.strategy == Strategy::RankedPages {
            let expected = share(scale(pages), array.chunks_expected, array.chunks_in_region);
            array.list_requests = array.list_requests.max(expected);
            array.ranges = array.ranges.max(scale(ranges));
        }
    }
    Ok(())
}
