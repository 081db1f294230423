//! Lists the chunks of a region of one array: as few requests as possible, all in parallel, and
//! a proof that none is missing.
//!
//! The data's way: `scanner` says which page to ask for, `fetch` gets it, `inspect` checks
//! it and decodes its keys, `scanner` takes note of what it covers. [`by_token`](mod@crate::list::by_token) is the way out
//! for servers that do not honour start-after. What becomes of the chunks is the consumer's
//! business.

mod scanner;
mod segments;
mod turn;

use std::future::Future as _;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{self, Poll, ready};

use futures::Stream;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};

use crate::key_order::rank_region::RankRegion;
use crate::list::array_keys::ArrayKeys;
use crate::list::by_token;
use crate::list::paging::cover::Cover;
use crate::list::paging::fetch::{Fetcher, page_error};
use crate::list::paging::inspect::{Distrust, Inspected, inspect, shown};
use crate::list::paging::{Context, ScanOptions, ScanPage};
use crate::list::stats::ListStats;
use crate::source::page::{Page, PageError, PageErrorKind, PageRequest, PageSource, StartAfter};
use crate::{Error, ErrorKind, Result};
use scanner::{Job, Scanner};
use turn::Turn;

/// Pages that wait for the consumer beyond those in flight.
const WAITING_PAGES: usize = 2;

/// The chunks of a region, page by page; each chunk once, in no particular order unless
/// [`ScanOptions::ordered`].
///
/// The stream ends without an error only when every rank of the region is answered for. Dropping
/// it stops all requests. At most the pages in flight and a few more are in memory, however slow
/// the consumer is.
#[derive(Debug)]
pub struct Scan {
    pages: mpsc::Receiver<Result<ScanPage>>,
    task: JoinHandle<()>,
    finished: bool,
    stats: Arc<Mutex<ListStats>>,
}

/// Lists the chunks of `region`, whose ranks are those of `keys`.
///
/// Must be called within a Tokio runtime. Errors come through the stream:
/// [`ErrorKind::Listing`] when the server fails or its listing cannot be trusted,
/// [`ErrorKind::Access`] and [`ErrorKind::SourceNotFound`] when it refuses.
pub fn scan(
    source: Arc<dyn PageSource>,
    keys: ArrayKeys,
    region: RankRegion,
    options: ScanOptions,
) -> Scan {
    let stats = Arc::new(Mutex::new(ListStats::default()));
    let (sender, pages) = mpsc::channel(WAITING_PAGES);
    let fetcher =
        Fetcher { source, limit: options.limit, retry: options.retry, stats: Arc::clone(&stats) };
    let context = Context {
        capabilities: fetcher.source.capabilities(),
        keys,
        region: Arc::new(region),
        page_size: options.page_size.max(1),
        ordered: options.ordered,
    };
    let task = tokio::spawn(async move {
        if let Err(error) = run(Arc::new(context), options.full, &fetcher, &sender).await {
            // Without a receiver nobody is left to be told.
            let _ = sender.send(Err(error)).await;
        }
    });
    Scan { pages, task, finished: false, stats }
}

impl Scan {
    /// What the listing has cost and met so far.
    pub fn stats(&self) -> ListStats {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A handle to the statistics that outlives the stream.
    pub fn stats_handle(&self) -> impl Fn() -> ListStats + Send + Sync + use<> {
        let stats = Arc::clone(&self.stats);
        move || stats.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Stream for Scan {
    type Item = Result<ScanPage>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Option<Self::Item>> {
        let next = ready!(self.pages.poll_recv(cx));
        if next.is_some() || self.finished {
            return Poll::Ready(next);
        }
        // The end of the pages is the end of the listing only when the task came to its own end.
        let result = ready!(Pin::new(&mut self.task).poll(cx));
        self.finished = true;
        Poll::Ready(result.err().map(|error| {
            Err(Error::new(ErrorKind::Listing, format!("the listing was broken off: {error}")))
        }))
    }
}

impl Drop for Scan {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What a request came to.
enum Outcome {
    Page(Inspected),
    Distrust(Distrust),
    Failed(PageError),
}

async fn run(
    context: Arc<Context>,
    full: bool,
    fetcher: &Fetcher,
    pages: &mpsc::Sender<Result<ScanPage>>,
) -> Result<()> {
    if context.capabilities.start_after == StartAfter::None {
        let message = "the service says so".to_owned();
        let distrust = Distrust::Unsupported { message };
        fetcher.stats().warnings.push(by_token::warning(&context, &distrust));
        return by_token::list(&context, fetcher, &Cover::default(), None, pages).await;
    }
    let most = context.capabilities.most_in_flight.unwrap_or(usize::MAX);
    let mut scanner = Scanner::new(
        context.keys.clone(),
        Arc::clone(&context.region),
        context.page_size,
        fetcher.limit.begin().min(most),
        context.ordered,
    );
    if context.capabilities.page_size_is_learned {
        scanner = scanner.learning(context.capabilities.start_after == StartAfter::Inclusive);
    } else if full && !context.ordered {
        scanner.allow(fetcher.limit.allowed().min(most));
        scanner.spread();
    }
    let mut turn = Turn::new(context.ordered);
    let ended = segmented(&context, fetcher, &mut scanner, &mut turn, pages).await?;
    fetcher.stats().warnings.append(&mut scanner.warnings);
    let Err(distrust) = ended else { return Ok(()) };
    if let Distrust::OutsidePrefix { .. } | Distrust::Overlap { .. } = distrust {
        let prefix = context.keys.prefix();
        return Err(Error::new(
            ErrorKind::Listing,
            format!("the listing of '{prefix}' cannot be trusted: {distrust}"),
        )
        .with_hint(by_token::HINT));
    }
    if let Distrust::Unordered { .. } = distrust {
        fetcher.source.note_disorder();
    }
    let context = Context {
        capabilities: fetcher.source.capabilities(),
        keys: context.keys.clone(),
        region: Arc::clone(&context.region),
        page_size: context.page_size,
        ordered: context.ordered,
    };
    fetcher.stats().warnings.push(by_token::warning(&context, &distrust));
    let (dropped, delivered) = turn.give_up();
    fetcher.stats().chunks -= dropped;
    let cover = if context.ordered { &delivered } else { &scanner.cover };
    by_token::list(&context, fetcher, cover, scanner.witnesses.greatest(), pages).await
}

/// The listing by segments; the inner result tells when it must be given up.
async fn segmented(
    context: &Arc<Context>,
    fetcher: &Fetcher,
    scanner: &mut Scanner,
    turn: &mut Turn,
    pages: &mpsc::Sender<Result<ScanPage>>,
) -> Result<Result<(), Distrust>> {
    let mut requests = JoinSet::new();
    loop {
        let most = context.capabilities.most_in_flight.unwrap_or(usize::MAX);
        loop {
            let allowed = fetcher.limit.allowed().min(most);
            if requests.len() >= allowed {
                break;
            }
            scanner.allow(allowed);
            match scanner.next_job(turn.waiting()) {
                Ok(Some(job)) => requests.spawn(send(Arc::clone(context), fetcher.clone(), job)),
                Ok(None) => break,
                Err(distrust) => return Ok(Err(distrust)),
            };
        }
        let Some(finished) = requests.join_next().await else {
            break;
        };
        let (job, outcome) = finished.map_err(|error| {
            Error::new(ErrorKind::Listing, format!("a request was lost: {error}"))
        })?;
        let answer = match outcome {
            Outcome::Page(inspected) => scanner.answer(&job, inspected),
            Outcome::Distrust(distrust) => Err(distrust),
            Outcome::Failed(error) if error.kind == PageErrorKind::Unsupported => {
                Err(Distrust::Unsupported { message: error.message })
            }
            Outcome::Failed(error) => return Err(page_error(context.keys.prefix(), &error)),
        };
        let (ranks, inspected) = match answer {
            Ok(Some(taken)) => taken,
            Ok(None) => continue,
            Err(distrust) => return Ok(Err(distrust)),
        };
        fetcher.count(&inspected);
        let page = inspected.into_scan_page(ranks);
        if !page.entries.is_empty() {
            turn.hold(page);
        }
        while let Some(page) = turn.due(&scanner.cover, context.region.bounds().start) {
            if pages.send(Ok(page)).await.is_err() {
                return Ok(Ok(()));
            }
        }
    }
    if scanner.is_complete() {
        return Ok(Ok(()));
    }
    let prefix = context.keys.prefix();
    Err(Error::new(ErrorKind::Listing, format!("the listing of '{prefix}' has a hole"))
        .with_hint(by_token::HINT))
}

async fn send(context: Arc<Context>, fetcher: Fetcher, job: Job) -> (Job, Outcome) {
    let request = PageRequest {
        prefix: context.keys.prefix(),
        start_after: job.after.as_deref(),
        token: job.token.as_deref(),
        max_keys: job.max_keys,
        grouped: false,
    };
    let outcome = match fetcher.page(request).await {
        Ok(page) => match checked(page, &job, &context) {
            Ok(inspected) => Outcome::Page(inspected),
            Err(distrust) => Outcome::Distrust(distrust),
        },
        Err(error) => Outcome::Failed(error),
    };
    (job, outcome)
}

/// Checks the page that a job was answered with. A service that includes the start proves with each
/// page that it honoured one that is a key.
fn checked(page: Page, job: &Job, context: &Context) -> Result<Inspected, Distrust> {
    if let (Some(after), Some(false), true) = (&job.after, page.found_start, job.after_is_key) {
        return Err(match page.keys().next() {
            Some(key) => Distrust::StartIgnored { after: after.clone(), key: shown(key) },
            None => Distrust::EmptyAnswer { after: after.clone(), key: after.clone() },
        });
    }
    inspect(page, &context.keys, &context.region, job.after.as_deref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key_order::rank::KeyOrder;
    use crate::zarr::key::ChunkKeyEncoding;

    /// The proof at the end counts: a region that nobody has answered for is a hole.
    #[test]
    fn only_an_empty_region_is_complete_without_an_answer() {
        let encoding = ChunkKeyEncoding::parse("default", "/").unwrap();
        let order = Arc::new(KeyOrder::new(encoding, &[4]).unwrap());
        let complete = |region| {
            let region = RankRegion::new(Arc::clone(&order), &[region]).unwrap();
            let keys = ArrayKeys::new("a", Arc::clone(&order));
            Scanner::new(keys, Arc::new(region), 1000, 8, false).is_complete()
        };
        assert!(complete(2..2));
        assert!(!complete(2..3));
        assert!(!complete(0..4));
    }
}
