//! What differs between source and repository: one difference, how they are counted, and how all
//! of them reach whoever asked as record batches. Nothing is compared here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::builder::StringBuilder;
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use serde::Serialize;
use tokio::sync::mpsc;

use crate::{Error, ErrorKind, Result};

/// Differences of one record batch.
const ROWS: usize = 1_000;

/// Differences of each kind that a report shows.
const EXAMPLES: usize = 5;

/// How a chunk in the source and its reference differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The source has a chunk that the repository has no reference to.
    MissingInTarget,
    /// The repository has a reference to a chunk that the source does not have.
    MissingInSource,
    /// The reference leads to another object than the chunk's own.
    Location,
    /// The object has another length than the reference says.
    Length,
    /// The object was modified at another time than the reference says.
    LastModified,
    /// The object has another `ETag` than the reference says.
    #[serde(rename = "e_tag")]
    ETag,
    /// A sampled object has changed since it was referenced, so that reading it fails.
    Stale,
    /// A sampled chunk has other bytes when it is read through Icechunk.
    Bytes,
    /// A sampled chunk cannot be read through Icechunk, or not from the source.
    Unreadable,
}

impl Kind {
    /// Its name in reports and tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::MissingInTarget => "missing_in_target",
            Self::MissingInSource => "missing_in_source",
            Self::Location => "location",
            Self::Length => "length",
            Self::LastModified => "last_modified",
            Self::ETag => "e_tag",
            Self::Stale => "stale",
            Self::Bytes => "bytes",
            Self::Unreadable => "unreadable",
        }
    }
}

/// What one side says of a chunk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Side {
    /// The object's URL; in the target as the reference has it, or what kind of chunk it is.
    pub location: String,
    /// Bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub length: Option<u64>,
    /// Whole seconds, as RFC 3339, fractions rounded up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_modified: Option<String>,
    /// As the service gave it, where references carry those.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub e_tag: Option<String>,
    /// What went wrong when it was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A chunk of which source and repository do not say the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Path of the array in the target.
    pub array: String,
    /// Chunk coordinates in the target.
    pub coordinates: Vec<u32>,
    /// What differs.
    pub kind: Kind,
    /// The source's side; none where it has no such chunk.
    pub source: Option<Side>,
    /// The target's side; none where it has no such reference.
    pub target: Option<Side>,
}

/// Schema of tables of differences: array, coordinates, kind and both sides, all of them text.
#[must_use]
pub fn difference_schema() -> SchemaRef {
    let text = |name, nullable| Field::new(name, DataType::Utf8, nullable);
    Arc::new(Schema::new(vec![
        text("array", false),
        text("coordinates", true),
        text("kind", false),
        text("source", true),
        text("target", true),
    ]))
}

/// Counts differences, keeps examples, and passes all of them on.
#[derive(Debug)]
pub(super) struct Differences {
    kept: Mutex<Kept>,
    batches: mpsc::Sender<RecordBatch>,
}

#[derive(Debug, Default)]
struct Kept {
    waiting: Vec<Difference>,
    examples: Vec<Difference>,
    counts: BTreeMap<(usize, Kind), u64>,
}

impl Differences {
    /// Passes record batches on to `batches`; a receiver that is gone is no error.
    pub(super) fn new(batches: mpsc::Sender<RecordBatch>) -> Self {
        Self { kept: Mutex::default(), batches }
    }

    /// Takes a difference of the array at a position. It may wait for the receiver, so that it
    /// must not be called on a thread of the runtime.
    pub(super) fn push(&self, array: usize, difference: Difference) -> Result<()> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let kind = difference.kind;
        *kept.counts.entry((array, kind)).or_default() += 1;
        if kept.examples.iter().filter(|example| example.kind == kind).count() < EXAMPLES {
            kept.examples.push(difference.clone());
        }
        kept.waiting.push(difference);
        if kept.waiting.len() >= ROWS {
            let batch = batch_of(&std::mem::take(&mut kept.waiting))?;
            drop(kept);
            let _ = self.batches.blocking_send(batch);
        }
        Ok(())
    }

    /// Passes on what is left, and gives back the counts by array and kind, and examples.
    pub(super) async fn finish(&self) -> Result<(BTreeMap<(usize, Kind), u64>, Vec<Difference>)> {
        let Kept { waiting, examples, counts } =
            std::mem::take(&mut *self.kept.lock().unwrap_or_else(PoisonError::into_inner));
        if !waiting.is_empty() {
            let _ = self.batches.send(batch_of(&waiting)?).await;
        }
        Ok((counts, examples))
    }
}

fn batch_of(differences: &[Difference]) -> Result<RecordBatch> {
    let mut columns: [StringBuilder; 5] = std::array::from_fn(|_| StringBuilder::new());
    let [array, coordinates, kind, source, target] = &mut columns;
    for difference in differences {
        array.append_value(&difference.array);
        coordinates.append_value(text(&difference.coordinates)?);
        kind.append_value(difference.kind.name());
        source.append_option(difference.source.as_ref().map(text).transpose()?);
        target.append_option(difference.target.as_ref().map(text).transpose()?);
    }
    let columns = columns.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef).collect();
    RecordBatch::try_new(difference_schema(), columns).map_err(|error| failed(&error.to_string()))
}

fn text(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| failed(&error.to_string()))
}

fn failed(error: &str) -> Error {
    Error::new(ErrorKind::Listing, format!("cannot tell differences: {error}"))
}
