//! Pages of S3 listings (and of services that answer alike), read without a tree or a string for
//! each key.
//!
//! [`connector`] gets between the network and `object_store`, which goes on doing credentials,
//! signatures and endpoints; [`document`] reads the bodies; `stock` is the way through
//! `object_store`'s own parser for whatever is unusual; [`fetch`] is one request, one page.

mod blobs;
mod buffers;
pub mod connector;
pub mod document;
pub mod fetch;

mod entity;
pub(super) mod instant;
mod lexer;
mod refusal;
pub(super) mod signer;
mod stock;

pub(super) use refusal::Refusal;
