//! Reading listings: the scanner by itself, behind the connector, and against the stock parser.

pub(crate) mod common;
mod connector;
mod differential;
mod scan;
