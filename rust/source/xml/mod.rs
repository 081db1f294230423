//! Pages of listings, of S3 and what answers alike, Azure, and Google's JSON API, read without a tree
//! or a string for each key.
//!
//! [`connector`] sits between the network and `object_store`, which still does credentials,
//! signatures and endpoints; [`document`], `blobs` and `json` read the bodies; `stock` is the way
//! through `object_store`'s own parser for whatever is unusual; [`fetch`] is one request, one page.

mod blobs;
mod buffers;
pub mod connector;
pub mod document;
pub mod exchange;
pub mod fetch;

mod entity;
mod instant;
mod json;
mod lexer;
mod places;
mod refusal;
mod repeats;
pub mod signer;
mod stock;
