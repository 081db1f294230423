//! Boxes of an array's chunk grid, what regions take of it, and where the chunks of a target's box
//! are in a source.

pub mod chunk_box;
pub mod piece;
pub mod region;
