//! What is in the bucket: computed arrays, objects kept in memory, and chunks that were deleted.
//! Decides conditional writes; knows nothing of HTTP or of listings.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use md5::{Digest as _, Md5};

use crate::array::{Array, etag_low};
use crate::config::{ArrayConfig, Config, ObjectConfig, ZarrConfig};
use crate::error::Error;
use crate::faults::mix;
use crate::time::{self, Millis};

/// Bytes of an object up to which its `ETag` is a digest: more would cost a benchmark time.
const LARGEST_DIGESTED: usize = 1 << 16;

/// The contents of the one bucket.
#[derive(Debug)]
pub(crate) struct Bucket {
    /// By what all their chunk keys begin with.
    pub(crate) arrays: BTreeMap<Vec<u8>, Array>,
    pub(crate) objects: BTreeMap<Vec<u8>, Stored>,
    /// Chunk keys that were deleted; they hide what `arrays` computes.
    pub(crate) deleted: BTreeSet<Vec<u8>>,
    generation: u64,
}

/// An object kept in memory.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub body: Arc<[u8]>,
    pub modified: Millis,
    /// With its quotes.
    pub etag: String,
    /// The user's metadata, as header lines.
    pub metadata: String,
    /// As in Google Cloud Storage: grows with every write of any object.
    pub generation: u64,
}

/// An object that a key names.
pub(crate) enum Found<'a> {
    Stored(&'a Stored),
    /// The array and the chunk's identity in it.
    Chunk(&'a Array, Vec<u64>),
}

/// What a write demands of the object's present state.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Condition {
    /// `If-None-Match: *`, or generation 0.
    pub absent: bool,
    /// `If-Match`
    pub etag: Option<String>,
    /// `x-goog-if-generation-match`, other than 0.
    pub generation: Option<u64>,
}

impl Bucket {
    /// Checks a configuration and fills the bucket.
    ///
    /// # Errors
    /// [`Error::Config`] as for [`Array::new`], or for an object's date.
    pub(crate) fn new(config: &Config) -> Result<Self, Error> {
        let mut bucket = Self {
            arrays: BTreeMap::new(),
            objects: BTreeMap::new(),
            deleted: BTreeSet::new(),
            generation: 0,
        };
        for array in &config.arrays {
            bucket.serve(array.clone())?;
        }
        for group in &config.groups {
            let document = r#"{"zarr_format":3,"node_type":"group","attributes":{}}"#;
            bucket.put(join(group, "zarr.json"), document.into(), 0);
        }
        for object in &config.objects {
            let modified = match &object.last_modified {
                Some(text) => time::parse_rfc3339(text).ok_or_else(|| {
                    Error::Config(format!("object {:?}: last_modified", object.key))
                })?,
                None => 0,
            };
            bucket.put(object.key.clone().into_bytes(), contents(object), modified);
        }
        Ok(bucket)
    }

    /// Adds an array and its metadata document, or puts it in the place of the one whose chunks
    /// have the same keys: an array that has grown.
    ///
    /// # Errors
    /// [`Error::Config`] as for [`Array::new`]; the bucket is as before.
    pub(crate) fn serve(&mut self, mut config: ArrayConfig) -> Result<(), Error> {
        let mut documents = Vec::new();
        if let Some(zarr) = config.zarr.take() {
            let size = item_size(&zarr.data_type).ok_or_else(|| {
                Error::Config(format!("array {:?}: unknown data_type", config.prefix))
            })?;
            config.chunk_size = zarr.chunk_shape.iter().product::<u64>() * size;
            documents = metadata(&zarr, &config);
        }
        let array = Array::new(&config)?;
        for (name, document) in documents {
            self.put(join(&config.prefix, name), document.to_string().into_bytes(), 0);
        }
        self.arrays.insert(array.base.clone(), array);
        Ok(())
    }

    /// The object under `key`.
    pub(crate) fn find(&self, key: &[u8]) -> Option<Found<'_>> {
        if let Some(stored) = self.objects.get(key) {
            return Some(Found::Stored(stored));
        }
        if self.deleted.contains(key) {
            return None;
        }
        (0..=key.len()).rev().filter_map(|end| self.arrays.get(&key[..end])).find_map(|array| {
            let coords = array.coords(key).filter(|coords| array.contains(coords))?;
            Some(Found::Chunk(array, coords))
        })
    }

    /// Stores an object; a `modified` of 0 stands for the fixed default date.
    pub(crate) fn put(&mut self, key: Vec<u8>, body: Vec<u8>, modified: Millis) -> &mut Stored {
        self.generation += 1;
        let etag = etag_of(&body);
        let stored = Stored {
            body: body.into(),
            // 2024-05-06T07:08:09.123Z
            modified: if modified == 0 { 1_714_979_289_123 } else { modified },
            etag,
            metadata: String::new(),
            generation: self.generation,
        };
        self.objects.entry(key).insert_entry(stored).into_mut()
    }

    /// Removes whatever `key` names.
    pub(crate) fn delete(&mut self, key: &[u8]) {
        self.objects.remove(key);
        if matches!(self.find(key), Some(Found::Chunk(..))) {
            self.deleted.insert(key.to_vec());
        }
    }

    /// Whether a write under `condition` may go ahead.
    pub(crate) fn allows(&self, key: &[u8], condition: &Condition) -> bool {
        let found = self.find(key);
        if condition.absent && found.is_some() {
            return false;
        }
        if let Some(expected) = &condition.etag {
            let etag = found.as_ref().and_then(Found::etag);
            if etag.as_deref().map(unquoted) != Some(unquoted(expected)) {
                return false;
            }
        }
        match condition.generation {
            Some(expected) => found.is_some_and(|f| f.generation() == expected),
            None => true,
        }
    }
}

impl Found<'_> {
    pub(crate) fn etag(&self) -> Option<String> {
        match self {
            Self::Stored(stored) => Some(stored.etag.clone()),
            Self::Chunk(array, coords) => array.etag_of(coords),
        }
    }

    pub(crate) fn metadata(&self) -> &str {
        match self {
            Self::Stored(stored) => &stored.metadata,
            Self::Chunk(..) => "",
        }
    }

    pub(crate) fn modified(&self) -> Millis {
        match self {
            Self::Stored(stored) => stored.modified,
            Self::Chunk(array, _) => array.modified,
        }
    }

    pub(crate) fn generation(&self) -> u64 {
        match self {
            Self::Stored(stored) => stored.generation,
            Self::Chunk(..) => 1,
        }
    }

    pub(crate) fn size(&self) -> u64 {
        match self {
            Self::Stored(stored) => stored.body.len() as u64,
            Self::Chunk(array, coords) => array.size_of(coords),
        }
    }

    /// Appends the bytes of `range`, which lies inside the object.
    pub(crate) fn bytes(&self, range: std::ops::Range<u64>, out: &mut Vec<u8>) {
        match self {
            Self::Stored(stored) => {
                let at = |x| usize::try_from(x).unwrap_or(usize::MAX);
                out.extend_from_slice(&stored.body[at(range.start)..at(range.end)]);
            }
            Self::Chunk(array, coords) => array.bytes(array.identity(coords), range, out),
        }
    }
}

/// The `ETag` of an object: as with S3 the MD5 of its bytes, or of a large one something that says
/// that it is no digest, as after an upload in parts.
fn etag_of(body: &[u8]) -> String {
    if body.len() <= LARGEST_DIGESTED {
        let digits = Md5::digest(body).iter().fold(String::new(), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        });
        return format!("\"{digits}\"");
    }
    let word = |chunk: &[u8]| chunk.iter().fold(0, |w, &b| w << 8 | u64::from(b));
    let hash = body.chunks(8).map(word).fold(body.len() as u64, mix);
    format!("\"{hash:016x}{:016x}-1\"", etag_low(hash))
}

/// An `ETag` without its quotes: some clients leave them out of conditions.
pub(crate) fn unquoted(etag: &str) -> &str {
    etag.trim_matches('"')
}

fn join(folder: &str, name: &str) -> Vec<u8> {
    if folder.is_empty() { name.into() } else { format!("{folder}/{name}").into_bytes() }
}

fn contents(object: &ObjectConfig) -> Vec<u8> {
    match (&object.text, &object.json, object.zeros) {
        (Some(text), _, _) => text.clone().into_bytes(),
        (None, Some(json), _) => json.to_string().into_bytes(),
        (None, None, Some(len)) => vec![0; len],
        (None, None, None) => Vec::new(),
    }
}

/// Bytes of one element.
fn item_size(data_type: &str) -> Option<u64> {
    match data_type {
        "bool" | "int8" | "uint8" => Some(1),
        "int16" | "uint16" => Some(2),
        "int32" | "uint32" | "float32" => Some(4),
        "int64" | "uint64" | "float64" => Some(8),
        _ => None,
    }
}

/// The metadata documents of an uncompressed array: names within its folder and contents.
fn metadata(zarr: &ZarrConfig, array: &ArrayConfig) -> Vec<(&'static str, serde_json::Value)> {
    use crate::config::{Encoding, Separator};
    let full = || array.grid.iter().zip(&zarr.chunk_shape).map(|(n, c)| n * c).collect();
    let shape: Vec<u64> = zarr.shape.clone().unwrap_or_else(full);
    let separator = match array.separator {
        Separator::Slash => "/",
        Separator::Dot => ".",
    };
    if zarr.v2 {
        let size = item_size(&zarr.data_type).unwrap_or(1);
        let kind = match zarr.data_type.as_bytes().first() {
            Some(b'b') => 'b',
            Some(b'u') => 'u',
            Some(b'f') => 'f',
            _ => 'i',
        };
        let order = if size == 1 { '|' } else { '<' };
        let document = serde_json::json!({
            "zarr_format": 2, "shape": shape, "chunks": zarr.chunk_shape,
            "dtype": format!("{order}{kind}{size}"), "compressor": null, "fill_value": 0,
            "order": "C", "filters": null, "dimension_separator": separator,
        });
        let attributes = match &zarr.dimension_names {
            Some(names) => serde_json::json!({"_ARRAY_DIMENSIONS": names}),
            None => serde_json::json!({}),
        };
        return vec![(".zarray", document), (".zattrs", attributes)];
    }
    let encoding = match array.encoding {
        Encoding::Default => "default",
        Encoding::V2 => "v2",
    };
    let mut document = serde_json::json!({
        "zarr_format": 3, "node_type": "array", "shape": shape, "data_type": zarr.data_type,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": zarr.chunk_shape}},
        "chunk_key_encoding": {"name": encoding, "configuration": {"separator": separator}},
        "fill_value": 0, "attributes": {},
        "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
    });
    if let Some(names) = &zarr.dimension_names {
        document["dimension_names"] = serde_json::json!(names);
    }
    vec![("zarr.json", document)]
}
