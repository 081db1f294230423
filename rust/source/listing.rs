//! The listings of a bucket, page by page: what the service's listings can do, and what was learned
//! of this server's.
//!
//! Which pages to ask for, and whether they can be believed, is decided elsewhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use object_store::client::{HttpError, HttpErrorKind};
use object_store::list::PaginatedListStore;
use tokio::sync::Semaphore;

use super::echo::Echo;
use super::page::{
    PAGE_SIZE, Page, PageCapabilities, PageError, PageErrorKind, PageRequest, Prefixes, StartAfter,
};
use super::service::Service;
use super::settings::Settings;
use super::xml::connector::PageParser;
use super::xml::exchange::Exchange;
use super::xml::fetch::list_page;
use crate::error::{chain, never_sent, no_tls_ever, redirected, refused};

/// Keys that Google's JSON API and Azure are asked for.
const LARGE_PAGE: u32 = 5_000;

/// Bytes of the longest key: 1,024 of them on S3 and Google, as many characters on Azure.
const LONGEST_KEY: usize = 4_096;

/// A page of Azure's is some 4 MB.
const MOST_LARGE_DOCUMENTS: usize = 16;

/// Pages of five thousand keys in flight: as many keys as in 320 of S3's.
const MOST_LARGE_PAGES: usize = 64;

/// US dollars for a thousand LIST requests to Azure (hot, locally redundant).
const PRICE_OF_AZURE: f64 = 0.0055;

/// Lists a bucket.
pub(super) struct Listings {
    lister: Arc<dyn PaginatedListStore>,
    service: Service,
    /// What is known before anything was asked.
    unordered: Option<Prefixes>,
    /// Google's JSON API may be asked.
    json: bool,
    learned: Arc<Learned>,
    room: Option<Arc<Semaphore>>,
}

/// What answers have told.
#[derive(Debug, Default)]
struct Learned {
    echo: Echo,
    json_absent: AtomicBool,
    disordered: AtomicBool,
    /// Azure keeps folders as such.
    hierarchical: AtomicBool,
}

impl Listings {
    pub(super) fn new(
        lister: Arc<dyn PaginatedListStore>,
        settings: &Settings,
        parser: PageParser,
    ) -> Self {
        let unordered = match settings {
            Settings::S3(settings) => settings.express.then_some(Prefixes::Folders),
            Settings::Gcs(_) => None,
            // OneLake answers a start with nothing, and `object_store`'s parser drops the key that
            // proves one.
            Settings::Azure(settings) => (settings.fabric
                || settings.endpoint.as_deref().is_some_and(is_one_lake)
                || parser == PageParser::Xml)
                .then_some(Prefixes::Any),
        };
        let service = settings.service();
        let room =
            (service == Service::Azure).then(|| Arc::new(Semaphore::new(MOST_LARGE_DOCUMENTS)));
        let json = service == Service::Gcs && parser == PageParser::Scan;
        Self { lister, service, unordered, json, learned: Arc::default(), room }
    }

    /// The same, with the `ETag`s of reads: the JSON API has others.
    pub(super) fn with_e_tags(&self) -> Self {
        Self {
            lister: Arc::clone(&self.lister),
            json: false,
            learned: Arc::clone(&self.learned),
            room: self.room.clone(),
            ..*self
        }
    }

    fn asks_json(&self) -> bool {
        self.json && !self.learned.json_absent.load(Ordering::Relaxed)
    }

    pub(super) fn capabilities(&self) -> PageCapabilities {
        let start_after = match self.service {
            Service::Gcs if self.asks_json() => StartAfter::Inclusive,
            Service::S3 | Service::Gcs => StartAfter::Exclusive,
            Service::Azure => StartAfter::Inclusive,
        };
        let large = start_after == StartAfter::Inclusive;
        let mut known = PageCapabilities {
            start_after,
            page_size: if large { LARGE_PAGE } else { PAGE_SIZE },
            page_size_is_learned: self.service == Service::Gcs,
            most_in_flight: match (&self.room, large) {
                (Some(_), _) => Some(MOST_LARGE_DOCUMENTS),
                (None, true) => Some(MOST_LARGE_PAGES),
                (None, false) => None,
            },
            price: match self.service {
                Service::Azure => PRICE_OF_AZURE,
                Service::S3 | Service::Gcs => PageCapabilities::default().price,
            },
            ..PageCapabilities::default()
        };
        let learned = &self.learned;
        if learned.disordered.load(Ordering::Relaxed)
            || learned.hierarchical.load(Ordering::Relaxed)
        {
            known.start_after = StartAfter::None;
        } else if let Some(prefixes) = self.unordered {
            (known.start_after, known.prefixes) = (StartAfter::None, prefixes);
        }
        known
    }

    pub(super) fn note_disorder(&self) {
        self.learned.disordered.store(true, Ordering::Relaxed);
    }

    pub(super) async fn page(&self, request: PageRequest<'_>) -> Result<Page, PageError> {
        let _room = match &self.room {
            // Closed never.
            Some(room) => room.acquire().await.ok(),
            None => None,
        };
        let exchange =
            Arc::new(if self.asks_json() { Exchange::json() } else { Exchange::default() });
        let listed = list_page(self.lister.as_ref(), request, &exchange).await;
        if exchange.json_absent() {
            self.learned.json_absent.store(true, Ordering::Relaxed);
            let what = "the server has no JSON API; it is asked by its XML API";
            return Err(PageError::new(PageErrorKind::Transient, what));
        }
        let starts = request.start_after.is_some() && request.token.is_none();
        let page =
            listed.map_err(|error| page_error(&error, exchange.status(), starts, self.service))?;
        let page = Page { waiting: exchange.waiting(), ..page };
        if exchange.hierarchical() && !request.grouped {
            let ranked = self.capabilities().start_after != StartAfter::None;
            let known = self.learned.hierarchical.swap(true, Ordering::Relaxed);
            if ranked && !known {
                let what = "the account has a hierarchical namespace, in an order of its own";
                return Err(PageError::new(PageErrorKind::Unsupported, what));
            }
        }
        let longest = page.entries.iter().map(|entry| entry.key.len()).max();
        if longest.is_some_and(|length| length > LONGEST_KEY) {
            // What is proven with prefixes takes time in the square of a key's length.
            let what = format!("the server sent a key of more than {LONGEST_KEY} bytes");
            Err(PageError::new(PageErrorKind::Fatal, what))
        } else if !request.grouped && page.folders().len() > 0 {
            // What lies in them would go unnoticed.
            let what = "the server groups keys into folders without being asked";
            Err(PageError::new(PageErrorKind::Fatal, what))
        } else if starts && self.service == Service::Azure && exchange.stock_pages() > 0 {
            let what = "a page in an unusual form does not show whether it begins at its start";
            Err(PageError::new(PageErrorKind::Unsupported, what))
        } else if let Some(member) = self.learned.echo.contradiction(&request, &page) {
            let what =
                format!("the server sent the answer to another request (its {member} differs)");
            Err(PageError::new(PageErrorKind::Transient, what))
        } else {
            Ok(page)
        }
    }
}

fn is_one_lake(endpoint: &str) -> bool {
    let host = url::Url::parse(endpoint).ok().and_then(|url| url.host_str().map(str::to_owned));
    host.is_some_and(|host| host.ends_with(".fabric.microsoft.com"))
}

/// What can be done about a failed LIST; `status` is that of the answer, if there was one, and
/// `starts` whether it was to begin at a key.
///
/// `object_store` leaves the status of a LIST in the error's text alone.
fn page_error(
    error: &object_store::Error,
    status: Option<u16>,
    starts: bool,
    service: Service,
) -> PageError {
    let kind = match status {
        // Services that do not list from a key on say so with this; what else may be wrong shows
        // when the same keys are asked for without.
        Some(400) if starts => PageErrorKind::Unsupported,
        Some(401 | 403) => PageErrorKind::AccessDenied,
        // Azure's word for an account that lets nobody read without credentials.
        Some(409) if service == Service::Azure => PageErrorKind::AccessDenied,
        Some(404) => PageErrorKind::NotFound,
        Some(429 | 503) => PageErrorKind::Throttled,
        Some(501) => PageErrorKind::Unsupported,
        // Read to its end and not understood: the same page would come again.
        Some(200) if !broke_off(error) => PageErrorKind::Fatal,
        // A 200 whose body broke off or was no listing; a timeout that the service reports.
        Some(200 | 408 | 500..) => PageErrorKind::Transient,
        Some(_) => PageErrorKind::Fatal,
        None if refused(error) => PageErrorKind::AccessDenied,
        None if redirected(error) => PageErrorKind::Redirected,
        None if never_sent(error) || no_tls_ever(error) => PageErrorKind::Fatal,
        None => PageErrorKind::Transient,
    };
    PageError::new(kind, chain(error)).with_hint(service.access_hint())
}

/// Whether an answer was lost on its way, rather than not understood.
fn broke_off(error: &object_store::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<HttpError>() {
            return error.kind() != HttpErrorKind::Decode;
        }
        cause = error.source();
    }
    false
}
