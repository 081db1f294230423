//! Boxes of an array's chunk grid, and where the chunks of a target's box are in a source.

pub mod chunk_box;
pub mod piece;
