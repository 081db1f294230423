//! One LIST request, one [`Page`]: the same call whichever parser reads it, and for stores without
//! our connector too. Retries within one request are `object_store`'s; which pages are asked for,
//! and whether they can be believed, is decided elsewhere.

use std::sync::Arc;

use object_store::list::{PaginatedListOptions, PaginatedListStore};

use super::exchange::Exchange;
use super::stock::{self, Notes};
use crate::source::page::{Page, PageRequest};

/// Asks for one page.
///
/// # Errors
/// Those of `object_store`, after its retries. With [`PageConnector`] that includes answers that
/// end early, error documents under status 200, and documents that are no listing.
///
/// [`PageConnector`]: super::connector::PageConnector
pub async fn list_page<S: PaginatedListStore + ?Sized>(
    store: &S,
    request: PageRequest<'_>,
    exchange: &Arc<Exchange>,
) -> Result<Page, object_store::Error> {
    let mut options = PaginatedListOptions {
        offset: request.start_after.map(str::to_owned),
        max_keys: usize::try_from(request.max_keys).ok(),
        page_token: request.token.map(str::to_owned),
        delimiter: request.grouped.then_some("/".into()),
        ..PaginatedListOptions::default()
    };
    options.extensions.insert(Arc::clone(exchange));
    if options.page_token.is_some() {
        // Where it began is of no use beside a token, and some services refuse both.
        options.offset = None;
    }
    let prefix = Some(request.prefix).filter(|prefix| !prefix.is_empty());
    let mut listed = store.list_paginated(prefix, options).await?;
    let extensions = &mut listed.result.extensions;
    if let Some(page) = extensions.remove::<Arc<Page>>() {
        return Ok(Arc::unwrap_or_clone(page));
    }
    let notes = extensions.remove::<Notes>();
    Ok(stock::page(listed, notes))
}
