//! Every way in which the endpoint can be told to misbehave, and the dice that decide when.
//! Where each one is applied: `list` (contents of a page) and `server` (how it travels).

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

/// Misbehaviour, most of it of LIST. The default is none. Rates are shares of LIST requests from
/// 0 to 1, decided by a hash of `seed` and the request's number, so that a run can be repeated.
#[allow(clippy::struct_excessive_bools)] // independent switches, not a state
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// What becomes of `start-after`.
    pub start_after: StartAfter,
    /// Order of the keys within a page.
    pub order: Order,
    /// `prefix` is ignored: listings run on into whatever follows.
    pub ignore_prefix: bool,
    /// There is no JSON API.
    pub no_json: bool,
    /// `max-keys` is ignored.
    pub ignore_max_keys: bool,
    /// A continuation token in the request is given back as the next one.
    pub token_loop: bool,
    /// `IsTruncated` is true but no token is given.
    pub omit_token: bool,
    /// A page that ends exactly at the last key says truncated; the next one is empty.
    pub truncated_at_exact_end: bool,
    /// Objects that were configured or stored one by one are missing from listings.
    pub hide_objects: bool,
    /// These keys are missing from listings.
    pub hide_keys: Vec<String>,
    /// `If-Match`, `If-None-Match` and the like of PUT and POST are not looked at.
    pub ignore_write_conditions: bool,
    /// `If-Match`, `If-Unmodified-Since` and the like of GET and HEAD are not looked at.
    pub ignore_read_conditions: bool,
    /// Rate, of requests that are not LIST: status 503 `SlowDown`.
    pub object_slow_down: f64,
    /// Pages beyond this many LISTs in flight get 503 `SlowDown`.
    pub slow_down_above: Option<u64>,
    /// Pages beyond this many LISTs a second get 503 `SlowDown`; what a tenth of a second leaves over
    /// may be asked for later.
    pub slow_down_above_rate: Option<f64>,

    /// Rate: the page served before is served again.
    pub repeat_page: f64,
    /// Rate: the page stops after `short_page_keys` keys and says it is complete.
    pub short_page: f64,
    /// See `short_page`.
    pub short_page_keys: usize,
    /// Rate: an empty page that says truncated; its token stays at the same place.
    pub empty_truncated: f64,
    /// Rate: a key that does not begin with the prefix is added at the end.
    pub outside_key: f64,
    /// Rate: the XML ends half-way, with a matching `Content-Length`.
    pub truncate_xml: f64,
    /// Rate: the connection is closed half-way through the body.
    pub cut_body: f64,
    /// Rate: the connection is closed before any byte of the response.
    pub cut_connection: f64,
    /// Rate: status 200 whose body is an `<Error>` document.
    pub error_body: f64,
    /// Rate: status 500 `InternalError`.
    pub internal_error: f64,
    /// Rate: status 503 `SlowDown`.
    pub slow_down: f64,
    /// Rate: no response, the connection stays open.
    pub stall: f64,

    /// For the rates.
    pub seed: u64,
    /// No rate strikes any more after this many strikes in all (counted since start or reset).
    pub limit: Option<u64>,
    /// No rate strikes before this many LIST requests.
    pub skip: u64,
}

/// What becomes of `start-after`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartAfter {
    /// Exclusive, any string, as the API says.
    #[default]
    Honoured,
    /// Not looked at.
    Ignored,
    /// Not looked at when no object has that key.
    IgnoredUnlessExists,
    /// Any value gives an empty page that is not truncated.
    Empty,
    /// The key itself is listed too.
    Inclusive,
}

/// Order of the keys within a page.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Byte order.
    #[default]
    Ascending,
    /// The page reversed.
    Descending,
    /// The page shuffled.
    Shuffled,
}

/// The faults that strike one request.
#[allow(clippy::struct_excessive_bools)] // independent switches, not a state
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Strike {
    pub repeat_page: bool,
    pub short_page: bool,
    pub empty_truncated: bool,
    pub outside_key: bool,
    pub truncate_xml: bool,
    pub cut_body: bool,
    pub cut_connection: bool,
    pub error_body: bool,
    pub internal_error: bool,
    pub slow_down: bool,
    pub stall: bool,
}

impl Faults {
    /// Rolls the dice for the LIST request with number `request` (from 0); `struck` counts the
    /// strikes so far. At most one of the rates strikes a request.
    pub(crate) fn strike(&self, request: u64, struck: &AtomicU64) -> Strike {
        let mut strike = Strike::default();
        let rates = [
            (self.repeat_page, &mut strike.repeat_page),
            (self.short_page, &mut strike.short_page),
            (self.empty_truncated, &mut strike.empty_truncated),
            (self.outside_key, &mut strike.outside_key),
            (self.truncate_xml, &mut strike.truncate_xml),
            (self.cut_body, &mut strike.cut_body),
            (self.cut_connection, &mut strike.cut_connection),
            (self.error_body, &mut strike.error_body),
            (self.internal_error, &mut strike.internal_error),
            (self.slow_down, &mut strike.slow_down),
            (self.stall, &mut strike.stall),
        ];
        if request < self.skip {
            return strike;
        }
        for (i, (rate, hit)) in rates.into_iter().enumerate() {
            if rate <= 0.0 || unit(mix(self.seed, request * 16 + i as u64)) >= rate {
                continue;
            }
            let earlier = struck.fetch_add(1, Ordering::Relaxed);
            *hit = self.limit.is_none_or(|limit| earlier < limit);
            break;
        }
        strike
    }
}

/// A well-mixed 64-bit hash of two numbers (the finaliser of splitmix64).
pub(crate) fn mix(seed: u64, value: u64) -> u64 {
    let mut z = value
        .wrapping_add(seed.wrapping_mul(0xD6E8_FEB8_6659_FD93))
        .wrapping_mul(0x9E37_79B9_7F4A_7C15)
        .wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A hash as a number from 0 to 1 (exclusive).
pub(crate) fn unit(hash: u64) -> f64 {
    // 53 bits fit exactly.
    #[allow(clippy::cast_precision_loss)]
    let value = (hash >> 11) as f64;
    value / 9_007_199_254_740_992.0
}
