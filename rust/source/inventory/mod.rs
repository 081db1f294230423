//! Listings that exist already: what an inventory of a bucket, or any table of objects, says of the
//! objects below sources, sorted on disk and then listed as a service would list them.
//!
//! Rows come in any order, as record batches ([`InventoryBuilder`]); where they come from, and what
//! an inventory's files look like, is the caller's business. Memory does not grow with their number.

mod blocks;
mod builder;
mod columns;
mod pages;
mod sorter;
mod table;

pub use builder::{InventoryBuilder, InventoryPlace};
pub use columns::InventoryColumns;
pub use pages::Inventory;
