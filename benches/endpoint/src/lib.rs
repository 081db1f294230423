//! A synthetic S3 endpoint on loopback, for tests and benchmarks of listings.
//!
//! The keys of Zarr arrays are computed from a grid shape, so a bucket with a billion chunks costs
//! no memory and a page of a thousand keys a fraction of a millisecond. Other objects live in
//! memory and can be written, conditionally too, so that an Icechunk repository fits in. Latency,
//! page size, request counts and many kinds of misbehaviour are settings.
//!
//! ```
//! use refreeze_endpoint::{ArrayConfig, Config, Endpoint};
//!
//! let array = ArrayConfig { prefix: "air/t2m".into(), grid: vec![1000, 1000, 1000], ..ArrayConfig::default() };
//! let endpoint = Endpoint::start(Config { arrays: vec![array], ..Config::default() }, 0, 1)?;
//! println!("S3 bucket `bucket` at {}", endpoint.url());
//! assert_eq!(endpoint.stats().list, 0);
//! # Ok::<(), refreeze_endpoint::Error>(())
//! ```
//!
//! Not for anything but tests: signatures are not looked at, and everything is lost on exit.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod allowance;
mod answer;
mod array;
mod asked;
mod batch;
mod bucket;
mod config;
mod cursor;
mod dialect;
mod entries;
mod error;
mod faults;
mod http;
mod list;
mod merge;
mod objects;
mod server;
mod source;
mod start;
mod stats;
mod time;
mod trie;
mod xml;

pub use array::Array;
pub use config::{
    ArrayConfig, Body, Config, Encoding, ObjectConfig, Pattern, Separator, ZarrConfig,
};
pub use cursor::Cursor;
pub use error::Error;
pub use faults::{Faults, Order, StartAfter};
pub use server::{Endpoint, Settings};
pub use stats::{LoggedList, Stats};
