//! The answer to one LIST request: latency, the dice, the page between its two heads, and the
//! faults that concern how it travels. What the page holds is `list`'s business.

use std::sync::PoisonError;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::asked::{Dialect, Page};
use crate::faults::{Strike, mix};
use crate::http::{Request, head};
use crate::list;
use crate::objects;
use crate::server::{Reply, Settings, Shared};
use crate::start::From;
use crate::stats::{Counters, LoggedList};

/// Room before a page's entries for the heads of response and document.
const HEADROOM: usize = 4096;

impl Shared {
    /// Writes the response to `out`, and says how much of it goes out.
    pub(crate) async fn answer_list(
        &self,
        settings: &Settings,
        dialect: Dialect,
        request: &Request,
        out: &mut Vec<u8>,
    ) -> Reply {
        let error = |status: u16, code: &str, out: &mut Vec<u8>| match dialect {
            Dialect::GoogleJson if !settings.faults.no_json => {
                let body = format!("{{\"error\":{{\"code\":{status},\"message\":\"{code}\"}}}}");
                objects::text(status, &body, "", out);
            }
            _ => objects::error(status, code, out),
        };
        let counters = &self.counters;
        counters.list.fetch_add(1, Relaxed);
        let in_flight = counters.in_flight.fetch_add(1, Relaxed) + 1;
        counters.max_in_flight.fetch_max(in_flight, Relaxed);
        let _guard = InFlight(counters);
        let number = self.requests.fetch_add(1, Relaxed);
        let too_fast = settings.faults.slow_down_above_rate.is_some_and(|rate| {
            let mut allowance = self.allowance.lock().unwrap_or_else(PoisonError::into_inner);
            !allowance.take(rate)
        });
        let mut delay = settings.latency_ms;
        if settings.latency_jitter_ms > 0 {
            delay += mix(7, number) % (settings.latency_jitter_ms + 1);
        }
        if delay > 0 {
            tokio::time::sleep(Duration::from_millis(delay)).await;
        }
        if !settings.allow {
            error(403, "AccessDenied", out);
            return Reply::Whole(0);
        }
        let mut strike = settings.faults.strike(number, &counters.struck);
        if too_fast || settings.faults.slow_down_above.is_some_and(|most| in_flight > most) {
            counters.struck.fetch_add(1, Relaxed);
            strike.slow_down = true;
        }
        if strike.stall {
            return Reply::Stall;
        }
        if strike.cut_connection {
            return Reply::Cut(0..0);
        }
        let whole = if strike.slow_down {
            Some((503, "SlowDown"))
        } else if strike.internal_error {
            Some((500, "InternalError"))
        } else if strike.error_body {
            Some((200, "InternalError"))
        } else if dialect == Dialect::GoogleJson && settings.faults.no_json {
            Some((404, "NoSuchBucket"))
        } else if !dialect.understands(request) {
            Some((400, "InvalidArgument"))
        } else {
            None
        };
        let from = match whole {
            None => self.write_page(settings, dialect, request, strike, out),
            Some((status, code)) => {
                error(status, code, out);
                Some(0)
            }
        };
        match from {
            None => {
                out.clear();
                error(400, "InvalidArgument", out);
                Reply::Whole(0)
            }
            Some(from) if strike.cut_body => Reply::Cut(from..from + (out.len() - from) / 2),
            Some(from) => Reply::Whole(from),
        }
    }

    /// Writes a LIST response to `out`; it begins at the offset returned. `None`: a bad token.
    fn write_page(
        &self,
        settings: &Settings,
        dialect: Dialect,
        request: &Request,
        strike: Strike,
        out: &mut Vec<u8>,
    ) -> Option<usize> {
        let faults = &settings.faults;
        let mut list = dialect.request(request, settings.page_size);
        out.resize(HEADROOM, 0);
        let bucket = self.bucket.read().unwrap_or_else(PoisonError::into_inner);
        let page = match list::begin(&bucket, &list, faults).ok()? {
            None => Page::default(),
            Some(mut from) => {
                if strike.repeat_page || faults.repeat_page > 0.0 {
                    let mut previous =
                        self.repeatable.lock().unwrap_or_else(PoisonError::into_inner);
                    match (&*previous, strike.repeat_page) {
                        (Some(earlier), true) => {
                            from = earlier.clone();
                            // The answer to another request says which one.
                            list.start_after = match &from {
                                From::After(key) => Some(key.clone()),
                                _ => None,
                            };
                        }
                        _ => *previous = Some(from.clone()),
                    }
                }
                list::page(&bucket, &list, &from, faults, strike, out)
            }
        };
        drop(bucket);
        self.counters.keys.fetch_add(page.count as u64, Relaxed);
        if settings.log {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            self.counters.record(LoggedList {
                prefix: text(&list.prefix),
                start_after: list.start_after.as_deref().map(text),
                token: list.token.clone(),
                max_keys: list.max_keys,
                count: Some(page.count),
            });
        }
        let opening = dialect.head(&self.name, &list, &page);
        dialect.end(&page, out);
        let mut length = out.len() - HEADROOM + opening.len();
        if strike.truncate_xml {
            let cut = length / 2;
            out.truncate(out.len() - (length - cut).min(out.len() - HEADROOM));
            length = out.len() - HEADROOM + opening.len();
        }
        self.counters.list_bytes.fetch_add(length as u64, Relaxed);
        let mut top = head(200, dialect.content_type(), length as u64, "").into_bytes();
        top.extend_from_slice(&opening);
        if let Some(from) = HEADROOM.checked_sub(top.len()) {
            out[from..HEADROOM].copy_from_slice(&top);
            Some(from)
        } else {
            out.splice(..HEADROOM, top);
            Some(0)
        }
    }
}

/// Counts a LIST request out again, however its answer ends.
struct InFlight<'a>(&'a Counters);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}
