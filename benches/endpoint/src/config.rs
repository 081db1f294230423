//! What the endpoint holds and how it behaves, as plain data that reads from JSON.
//! Nothing here is computed or checked beyond its form; `array` and `server` do that.

use serde::{Deserialize, Serialize};

use crate::faults::Faults;

/// The whole configuration. Every field has a default, so `{}` is an empty, well-behaved bucket.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Name of the one bucket; requests for another get 404 `NoSuchBucket`.
    pub bucket: String,
    /// Arrays whose chunk keys are computed.
    pub arrays: Vec<ArrayConfig>,
    /// Paths that get a Zarr v3 group document (`""` is the root of the bucket).
    pub groups: Vec<String>,
    /// Objects given one by one: metadata, markers, strays.
    pub objects: Vec<ObjectConfig>,
    /// Milliseconds before each LIST response.
    pub latency_ms: u64,
    /// Up to this many milliseconds more, different for each LIST, repeatable.
    pub latency_jitter_ms: u64,
    /// Milliseconds before each response that is not a LIST.
    pub object_latency_ms: u64,
    /// Most keys in a page, whatever `max-keys` asks for.
    pub page_size: usize,
    /// `false`: every S3 request is answered 403 `AccessDenied`.
    pub allow: bool,
    /// Misbehaviour.
    pub faults: Faults,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            bucket: "bucket".into(),
            arrays: Vec::new(),
            groups: Vec::new(),
            objects: Vec::new(),
            latency_ms: 0,
            latency_jitter_ms: 0,
            object_latency_ms: 0,
            page_size: 1000,
            allow: true,
            faults: Faults::default(),
        }
    }
}

/// One array: `prefix/` + encoded grid coordinates.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ArrayConfig {
    /// Key of the array's folder without a closing slash; `""` puts the array at the root.
    pub prefix: String,
    /// Chunks along each dimension; empty for a scalar.
    pub grid: Vec<u64>,
    /// Zarr chunk key encoding.
    pub encoding: Encoding,
    /// Between coordinates.
    pub separator: Separator,
    /// Which chunks exist.
    pub pattern: Pattern,
    /// Bytes in each chunk.
    pub chunk_size: u64,
    /// Sizes vary by chunk from `chunk_size` to `chunk_size + size_spread`.
    pub size_spread: u64,
    /// RFC 3339, UTC (`…Z`), to the millisecond.
    pub last_modified: String,
    /// Whether listings and responses carry an `ETag`.
    pub etag: bool,
    /// What the chunks contain.
    pub body: Body,
    /// Serve a metadata document so that Zarr readers can open the array.
    pub zarr: Option<ZarrConfig>,
}

impl Default for ArrayConfig {
    fn default() -> Self {
        Self {
            prefix: "a".into(),
            grid: Vec::new(),
            encoding: Encoding::Default,
            separator: Separator::Slash,
            pattern: Pattern::Dense,
            chunk_size: 1000,
            size_spread: 0,
            last_modified: "2024-05-06T07:08:09.123Z".into(),
            etag: true,
            body: Body::Pattern,
            zarr: None,
        }
    }
}

/// The two chunk key encodings of Zarr v3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// `c/0/1`, scalar `c`.
    Default,
    /// `0.1`, scalar `0`.
    V2,
}

/// The two legal separators; both sort before the digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Separator {
    /// `/`
    #[serde(rename = "/")]
    Slash,
    /// `.`
    #[serde(rename = ".")]
    Dot,
}

/// Which chunks of the grid exist.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Pattern {
    /// All.
    Dense,
    /// None.
    Empty,
    /// Each with this probability, decided by a hash of seed and coordinates.
    /// A page costs about `max-keys / probability` hashes; below 0.005 use `scatter`.
    Random {
        /// 0 to 1.
        probability: f64,
        /// Another seed, another selection.
        #[serde(default)]
        seed: u64,
    },
    /// Those whose first coordinate is in the lower half (rounded up).
    FirstHalf,
    /// Every `step`-th chunk in key order, beginning with the first.
    Every {
        /// At least 1.
        step: u64,
    },
    /// One chunk in each run of `every` in key order, at a hashed place.
    Scatter {
        /// At least 1.
        every: u64,
        /// Another seed, another selection.
        #[serde(default)]
        seed: u64,
    },
    /// Those whose coordinates are multiples of `steps`, dimension by dimension.
    Lattice {
        /// One for each dimension, at least 1.
        steps: Vec<u64>,
    },
    /// Those with `from <= coordinate < to` in every dimension.
    Block {
        /// Inclusive corner.
        from: Vec<u64>,
        /// Exclusive corner.
        to: Vec<u64>,
    },
}

/// What a chunk's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    /// Zero bytes.
    Zeros,
    /// Bytes that differ by chunk and are the same on every request.
    Pattern,
}

/// Enough to write a metadata document; the array's `chunk_size` is then computed.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ZarrConfig {
    /// Elements of a chunk along each dimension.
    pub chunk_shape: Vec<u64>,
    /// A Zarr v3 data type name: `uint8` to `int64`, `float32`, `float64`.
    pub data_type: String,
    /// Elements along each dimension; without it, grid × chunk shape.
    #[serde(default)]
    pub shape: Option<Vec<u64>>,
    /// Names of the dimensions.
    #[serde(default)]
    pub dimension_names: Option<Vec<String>>,
    /// Write `.zarray` (and `.zattrs`) instead of `zarr.json`.
    #[serde(default)]
    pub v2: bool,
}

/// One object given by its key. Exactly one of the contents is used, in this order;
/// none means an empty object.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ObjectConfig {
    /// The whole key.
    pub key: String,
    /// Contents as text.
    pub text: Option<String>,
    /// Contents as JSON.
    pub json: Option<serde_json::Value>,
    /// That many zero bytes.
    pub zeros: Option<usize>,
    /// RFC 3339, UTC; default as for arrays.
    pub last_modified: Option<String>,
}
