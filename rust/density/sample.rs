//! How full a region is, judged by a few pages spread over it.
//!
//! The region's ranks are cut into strata and a page is asked for at the beginning of each. What a
//! page answers for is counted; what is left of its stratum is taken to be as full as the page.
//! Nothing here is a proof: that is the listing's business, and a server that contradicts itself is
//! answered with the most that can be there.

use std::sync::{Arc, Mutex};

use futures::future::try_join_all;

use super::{Density, Looks};
use crate::Result;
use crate::key_order::rank_region::RankRegion;
use crate::list::array_keys::ArrayKeys;
use crate::list::paging::fetch::{Fetcher, page_error};
use crate::list::paging::inspect::{Distrust, Inspected, inspect};
use crate::list::paging::witness::{Witnesses, start_string};
use crate::list::paging::{Context, ScanOptions};
use crate::list::stats::ListStats;
use crate::source::page::{Page, PageErrorKind, PageRequest, PageSource};

/// Pages that are asked for in one place, when those before tell nothing: foreign keys fill them, or
/// they are empty and truncated.
const MOST_FOLLOWED: usize = 3;

/// A page of fewer chunks is not cut in halves to see which of them is fuller.
const LEAST_HALVED: usize = 32;

/// Estimates how many chunks of `region` there are with about as many pages as `looks` has requests,
/// at least three.
///
/// # Errors
///
/// As for a listing: the server fails or refuses. One that cannot be trusted is no error; every
/// chunk that is possible is expected then.
pub async fn sample(
    source: Arc<dyn PageSource>,
    keys: ArrayKeys,
    region: RankRegion,
    looks: Looks,
    options: ScanOptions,
) -> Result<Density> {
    let stats = Arc::new(Mutex::new(ListStats::default()));
    let capabilities = source.capabilities();
    let fetcher = Fetcher { source, limit: options.limit, retry: options.retry, stats };
    let page_size = options.page_size.max(1);
    let context =
        Context { capabilities, keys, region: Arc::new(region), page_size, ordered: false };
    let sampler = Sampler { context, fetcher };
    let outcome = sampler.run(looks).await;
    let list_requests = sampler.fetcher.stats().list_requests;
    match outcome {
        Ok((chunks_expected, exact)) => Ok(Density { chunks_expected, exact, list_requests }),
        Err(Stop::Untrusted) => {
            let chunks_expected = sampler.context.region.len();
            Ok(Density { chunks_expected, exact: false, list_requests })
        }
        Err(Stop::Failed(error)) => Err(error),
    }
}

/// Why there is no estimate.
enum Stop {
    Untrusted,
    Failed(crate::Error),
}

impl From<Distrust> for Stop {
    fn from(_: Distrust) -> Self {
        Self::Untrusted
    }
}

struct Sampler {
    context: Context,
    fetcher: Fetcher,
}

/// What one page tells of a stratum.
struct Look {
    /// Index among the region's ranks up to which the page answers, within the stratum.
    end: u64,
    /// The end of the stratum.
    to: u64,
    /// Chunks up to there.
    chunks: u64,
    /// Chunks expected for each rank from there on.
    onward: f64,
    /// The page itself, and the string that it was to follow.
    page: Page,
    after: Option<String>,
}

impl Look {
    /// Whether the page says that no key follows, having been asked to start somewhere.
    fn claims_an_end(&self) -> bool {
        self.after.is_some() && !self.page.truncated
    }

    fn expected(&self) -> u64 {
        self.chunks + portion(self.to - self.end, self.onward)
    }
}

impl Sampler {
    /// Chunks expected, and whether they were counted.
    async fn run(&self, Looks { requests, at_once }: Looks) -> Result<(u64, bool), Stop> {
        let all = self.context.region.len();
        if all == 0 {
            return Ok((0, true));
        }
        let page_size = u64::from(self.context.page_size);
        // What the first page covers is a stratum of its own.
        let (mut looks, mut opening) = (Vec::new(), None);
        let from = if at_once {
            let from = page_size.min(all);
            opening = Some(self.look(0, from));
            from
        } else {
            let first = self.look(0, all).await?;
            let from = first.end;
            looks.push(Look { to: from, ..first });
            from
        };
        // One request is kept for a question to a server that says that it has no more.
        let pages = (all - from).div_ceil(page_size);
        let strata = (requests.saturating_sub(2).max(1) as u64).min(pages);
        let bound = |stratum: u64| {
            let share = u128::from(all - from) * u128::from(stratum) / u128::from(strata);
            from + u64::try_from(share).unwrap_or(u64::MAX)
        };
        let strata = (0..strata).map(|stratum| self.look(bound(stratum), bound(stratum + 1)));
        looks.extend(try_join_all(opening.into_iter().chain(strata)).await?);
        self.believe(&looks).await?;
        let exact = looks.iter().all(|look| look.end == look.to);
        let chunks: u64 = looks.iter().map(Look::expected).sum();
        Ok((chunks.min(all), exact))
    }

    /// One page from index `from` on, for the stratum that ends at index `to`.
    async fn look(&self, from: u64, to: u64) -> Result<Look, Stop> {
        let Context { keys, region, page_size, .. } = &self.context;
        let rank = region.select(from).unwrap_or_default();
        // A hyphen sorts before separators and digits: no chunk is passed over, and the string is
        // no key, so that an answer tells that such strings are understood.
        let mut after = (rank > 0).then(|| format!("{}-", keys.before(rank)));
        let mut token: Option<String> = None;
        let mut last = Page::default();
        for _ in 0..MOST_FOLLOWED {
            let inspected = self.page(after.as_deref(), token.as_deref(), *page_size).await?;
            let end = if inspected.page.truncated {
                region.count_below(inspected.end)
            } else {
                region.len()
            };
            if end > from {
                return Ok(self.look_of(inspected, from..end, to, after));
            }
            match (inspected.page.keys().next_back(), &inspected.page.next_token) {
                (Some(key), _) => {
                    after = Some(start_string(key).ok_or(Stop::Untrusted)?);
                    token = None;
                }
                (None, Some(next)) if token.as_ref() != Some(next) => token = Some(next.clone()),
                (None, _) => return Err(Stop::Untrusted),
            }
            last = inspected.page;
        }
        Ok(Look { end: from, to, chunks: 0, onward: 1.0, page: last, after })
    }

    /// What a page says that answers for the indices `covered`.
    fn look_of(
        &self,
        inspected: Inspected,
        covered: std::ops::Range<u64>,
        to: u64,
        after: Option<String>,
    ) -> Look {
        let Context { keys, region, .. } = &self.context;
        let ndim = keys.order().grid_shape().len();
        let indices: Vec<u64> = (0..inspected.entries.len())
            .filter_map(|at| inspected.coords.get(at * ndim..(at + 1) * ndim))
            .filter_map(|coords| keys.order().rank(coords))
            .map(|rank| region.count_below(rank))
            .collect();
        let end = covered.end.min(to);
        let chunks = indices.partition_point(|index| *index < end);
        let mut onward = ratio(chunks as u64, end - covered.start);
        let half = chunks / 2;
        if chunks >= LEAST_HALVED
            && let Some(middle) = indices.get(half)
        {
            // The page may have begun in a gap: what comes is rather like its second half.
            onward = onward.max(ratio((chunks - half) as u64, end - middle));
        }
        Look { end, to, chunks: chunks as u64, onward, page: inspected.page, after }
    }

    /// Sees to it that the pages do not contradict each other, and that "nothing follows" means
    /// something on this server.
    async fn believe(&self, looks: &[Look]) -> Result<(), Stop> {
        let mut witnesses = Witnesses::default();
        for look in looks {
            witnesses.note(&look.page, look.after.as_deref());
        }
        if !looks.iter().any(Look::claims_an_end) {
            return Ok(());
        }
        for look in looks.iter().filter(|look| look.claims_an_end()) {
            let last = look.page.keys().next_back().map(String::from_utf8_lossy);
            let last = last.as_deref().or(look.after.as_deref()).unwrap_or_default();
            if witnesses.contradict(last) {
                return Err(Stop::Untrusted);
            }
        }
        if looks.iter().any(|look| look.after.is_some() && !look.page.is_empty()) {
            return Ok(());
        }
        if witnesses.is_none() {
            let opening = self.page(None, None, 3).await?;
            if opening.page.is_empty() {
                return if opening.page.truncated { Err(Stop::Untrusted) } else { Ok(()) };
            }
            witnesses.note(&opening.page, None);
        }
        let witness = witnesses.choose().ok_or(Stop::Untrusted)?;
        let answer = self.page(Some(&witness.question()), None, 3).await?;
        match answer.page.keys().next() {
            Some(first) if first == witness.key.as_slice() => Ok(()),
            _ => Err(Stop::Untrusted),
        }
    }

    async fn page(
        &self,
        after: Option<&str>,
        token: Option<&str>,
        max_keys: u32,
    ) -> Result<Inspected, Stop> {
        let Context { keys, region, .. } = &self.context;
        let request = PageRequest {
            prefix: keys.prefix(),
            start_after: after,
            token,
            max_keys,
            grouped: false,
        };
        match self.fetcher.page(request).await {
            Ok(page) => Ok(inspect(page, keys, region, after)?),
            Err(error) if error.kind == PageErrorKind::Unsupported => Err(Stop::Untrusted),
            Err(error) => Err(Stop::Failed(page_error(keys.prefix(), &error))),
        }
    }
}

/// That part of `ranks` that holds chunks, `density` for each.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "an estimate, between 0 and the number itself"
)]
fn portion(ranks: u64, density: f64) -> u64 {
    // Not through floating point where nothing is missing: a full grid is expected to the chunk.
    if density >= 1.0 { ranks } else { (ranks as f64 * density).ceil() as u64 }
}

#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn ratio(a: u64, b: u64) -> f64 {
    a as f64 / b.max(1) as f64
}
