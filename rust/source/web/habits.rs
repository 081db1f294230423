//! How a web server tells that there is nothing under a key, and whether it answers HEAD: learned
//! once, from a random key that cannot exist.

use std::sync::atomic::{AtomicBool, Ordering};

use http::{HeaderMap, Method, StatusCode};

use super::WebSource;
use super::client::{done_with, first_byte};
use crate::source::object::Readable as _;
use crate::source::page_error::PageErrorKind;
use crate::{Error, ErrorKind, Result};

/// What has been learned of a server.
#[derive(Debug)]
pub(super) struct Habits {
    absent: StatusCode,
    head: AtomicBool,
}

impl Habits {
    /// Whether a status says that there is nothing.
    pub(super) fn is_absent(&self, status: StatusCode) -> bool {
        is_gone(status) || status == self.absent
    }

    /// Whether it answers 403 where others answer 404: what is there and forbidden looks the same.
    pub(super) fn absent_is_forbidden(&self) -> bool {
        !is_gone(self.absent)
    }

    /// Whether HEAD is answered, as far as is known.
    pub(super) fn answers_head(&self) -> bool {
        self.head.load(Ordering::Relaxed)
    }

    /// HEAD was refused, or its answer does not tell a length.
    pub(super) fn give_up_head(&self) {
        self.head.store(false, Ordering::Relaxed);
    }
}

/// The statuses that mean absence everywhere.
pub(super) fn is_gone(status: StatusCode) -> bool {
    matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE)
}

impl WebSource {
    /// Asks for a key that cannot exist, beside `folder` (empty, or with a slash at its end); the
    /// answer holds for the whole server.
    pub(super) async fn habits(&self, folder: &str) -> Result<&Habits> {
        self.site.habits.get_or_try_init(|| self.learn(folder)).await
    }

    async fn learn(&self, folder: &str) -> Result<Habits> {
        let key = format!("{folder}refreeze-cannot-exist-{:032x}", rand::random::<u128>());
        let by_head = self.control(Method::HEAD, &key).await?;
        if is_gone(by_head) {
            return Ok(Habits { absent: by_head, head: AtomicBool::new(true) });
        }
        // Either HEAD is refused, or this is how the server says that there is nothing.
        let absent = self.control(Method::GET, &key).await?;
        let odd = |what: String, hint: &str| {
            let url = self.shown("");
            Err(Error::new(ErrorKind::Listing, format!("{url} cannot be probed: {what}"))
                .with_hint(hint))
        };
        match absent {
            status if is_gone(status) => Ok(Habits { absent, head: AtomicBool::new(false) }),
            StatusCode::FORBIDDEN => {
                let head = by_head == absent && self.head_is_answered().await?;
                Ok(Habits { absent, head: AtomicBool::new(head) })
            }
            StatusCode::UNAUTHORIZED | StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                Err(self.refused("", &format!("it answers {absent}")))
            }
            status if status.is_success() => odd(
                format!("the server answers {absent} for a key that cannot exist"),
                "check the URL; a server that answers everything, such as one that wants a login, \
                 cannot say which chunks there are",
            ),
            _ => odd(
                format!("the server answers {absent} for a key that cannot exist, not 404"),
                "check the URL, or copy the store to a bucket or a folder",
            ),
        }
    }

    /// The status of a key that cannot exist.
    async fn control(&self, method: Method, key: &str) -> Result<StatusCode> {
        let headers = if method == Method::HEAD { HeaderMap::new() } else { first_byte() };
        let response = self.persistently(&method, key, &headers, &self.site.controls).await?;
        let status = response.status();
        done_with(response).await;
        Ok(status)
    }

    /// Whether HEAD is answered for an object that has been read; where none has, it is not used.
    async fn head_is_answered(&self) -> Result<bool> {
        let Some(known) = self.known() else { return Ok(false) };
        let url = self.site.url(&known);
        match self.site.client.ask(&Method::HEAD, url, &HeaderMap::new()).await {
            Ok(response) => Ok(response.status().is_success()),
            Err(error) if error.kind == PageErrorKind::Fatal => Err(self.unreadable("", &error)),
            Err(_) => Ok(false),
        }
    }
}
