//! The byte order of an array's chunk keys, as arithmetic.
//!
//! `decimal` orders the coordinates of one dimension, [`rank`] whole keys, and [`rank_region`] says which
//! ranks a box of the grid has.

mod decimal;
pub mod rank;
pub mod rank_region;
