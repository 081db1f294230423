//! One configured array: which keys it has and what size, `ETag` and bytes each object has,
//! all computed from grid coordinates. Walking the keys in order is `cursor`'s work.

use crate::config::{ArrayConfig, Body, Encoding, Pattern, Separator};
use crate::error::Error;
use crate::faults::mix;
use crate::time::{self, Millis};
use crate::trie;

/// A checked [`ArrayConfig`], ready for arithmetic.
#[derive(Debug, Clone)]
pub struct Array {
    /// What every key begins with: prefix, slash and, for the default encoding, `c` + separator.
    pub(crate) base: Vec<u8>,
    pub(crate) grid: Vec<u64>,
    /// Coordinates run over `lo[d]..hi[d]`.
    pub(crate) lo: Vec<u64>,
    pub(crate) hi: Vec<u64>,
    /// Coordinates are multiples of these.
    pub(crate) steps: Vec<u64>,
    pub(crate) separator: u8,
    pub(crate) filter: Filter,
    pub(crate) modified: Millis,
    pub(crate) etag: bool,
    /// Row-major.
    strides: Vec<u64>,
    size: u64,
    spread: u64,
    salt: u64,
    body: Body,
}

/// What is left of a [`Pattern`] once boxes and steps are taken out.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Filter {
    All,
    /// A chunk exists when its hash is at most this.
    Hash {
        seed: u64,
        at_most: u64,
    },
    /// Positions in key order that are multiples of `step`.
    Every {
        step: u64,
    },
    /// One position in each run of `every`.
    Scatter {
        every: u64,
        seed: u64,
    },
}

impl Array {
    /// Checks a configuration and prepares the arithmetic.
    ///
    /// # Errors
    /// [`Error::Config`] when a date cannot be read, a rate or step makes no sense, the number of
    /// dimensions differs, or the grid has more than 2^63 chunks.
    pub fn new(config: &ArrayConfig) -> Result<Self, Error> {
        let fail = |what: &str| Error::Config(format!("array {:?}: {what}", config.prefix));
        let ndim = config.grid.len();
        let mut strides = vec![1u64; ndim];
        let mut total = 1u64;
        for (stride, &n) in strides.iter_mut().zip(&config.grid).rev() {
            *stride = total;
            total = total
                .checked_mul(n)
                .filter(|t| *t <= 1 << 63)
                .ok_or_else(|| fail("more than 2^63 chunks"))?;
        }
        let Extent { lo, hi, steps, filter } =
            Extent::new(&config.pattern, &config.grid).map_err(fail)?;
        let separator = match config.separator {
            Separator::Slash => b'/',
            Separator::Dot => b'.',
        };
        let mut base = config.prefix.clone().into_bytes();
        if !base.is_empty() {
            base.push(b'/');
        }
        match (config.encoding, ndim) {
            (Encoding::Default, 0) => base.push(b'c'),
            (Encoding::Default, _) => base.extend([b'c', separator]),
            (Encoding::V2, 0) => base.push(b'0'),
            (Encoding::V2, _) => {}
        }
        let modified = time::parse_rfc3339(&config.last_modified)
            .ok_or_else(|| fail("last_modified is not like 2024-05-06T07:08:09.123Z"))?;
        let salt = base.iter().fold(0, |hash, &byte| mix(hash, u64::from(byte)));
        Ok(Self {
            base,
            grid: config.grid.clone(),
            lo,
            hi,
            steps,
            separator,
            filter,
            modified,
            etag: config.etag,
            strides,
            size: config.chunk_size,
            spread: config.size_spread,
            salt,
            body: config.body,
        })
    }

    /// The key of a chunk (which need not exist).
    #[must_use]
    pub fn key(&self, coords: &[u64]) -> Vec<u8> {
        let mut key = self.base.clone();
        for (d, c) in coords.iter().enumerate() {
            if d > 0 {
                key.push(self.separator);
            }
            key.extend_from_slice(c.to_string().as_bytes());
        }
        key
    }

    /// The coordinates of a key, if the key is exactly what this array's encoding gives for some
    /// place inside the grid.
    #[must_use]
    pub fn coords(&self, key: &[u8]) -> Option<Vec<u64>> {
        let rest = key.strip_prefix(self.base.as_slice())?;
        if self.grid.is_empty() {
            return rest.is_empty().then(Vec::new);
        }
        let coords: Vec<u64> = std::str::from_utf8(rest)
            .ok()?
            .split(char::from(self.separator))
            .map(str::parse)
            .collect::<Result<_, _>>()
            .ok()?;
        let inside =
            coords.len() == self.grid.len() && coords.iter().zip(&self.grid).all(|(c, n)| c < n);
        (inside && self.key(&coords) == key).then_some(coords)
    }

    /// Whether the chunk at these coordinates (inside the grid) exists.
    #[must_use]
    pub fn contains(&self, coords: &[u64]) -> bool {
        let boxed = coords.iter().enumerate().all(|(d, &c)| {
            (self.lo[d]..self.hi[d]).contains(&c) && c.is_multiple_of(self.steps[d])
        });
        boxed
            && match self.filter {
                Filter::All => true,
                Filter::Hash { seed, at_most } => self.hashed(coords, seed, at_most),
                Filter::Every { .. } | Filter::Scatter { .. } => {
                    let rank = self.rank(coords);
                    self.selected_from(rank) == Some(rank)
                }
            }
    }

    pub(crate) fn hashed(&self, coords: &[u64], seed: u64, at_most: u64) -> bool {
        at_most > 0 && mix(seed, self.linear(coords)) <= at_most
    }

    /// Chunks in the whole grid, existing or not.
    pub(crate) fn possible(&self) -> u64 {
        self.grid.iter().product()
    }

    /// The position of the chunk's key among those of the whole grid.
    pub(crate) fn rank(&self, coords: &[u64]) -> u64 {
        let places = coords.iter().zip(&self.grid).zip(&self.strides);
        places.map(|((&c, &n), stride)| trie::before(c, n) * stride).sum()
    }

    /// The inverse of `rank`; the rank must be inside the grid.
    pub(crate) fn select(&self, mut rank: u64, coords: &mut [u64]) {
        for (d, coord) in coords.iter_mut().enumerate() {
            *coord = trie::select(rank / self.strides[d], 0, self.grid[d]).unwrap_or(0);
            rank %= self.strides[d];
        }
    }

    /// The first rank ≥ `rank` that a rank filter selects.
    pub(crate) fn selected_from(&self, rank: u64) -> Option<u64> {
        let next = match self.filter {
            Filter::All | Filter::Hash { .. } => rank,
            Filter::Every { step } => rank.div_ceil(step).checked_mul(step)?,
            Filter::Scatter { every, seed } => {
                let place = |run: u64| run.checked_mul(every)?.checked_add(mix(seed, run) % every);
                match place(rank / every) {
                    Some(place) if place >= rank => place,
                    _ => place(rank / every + 1)?,
                }
            }
        };
        (next < self.possible()).then_some(next)
    }

    /// Row-major position; identifies a chunk for hashes.
    fn linear(&self, coords: &[u64]) -> u64 {
        coords.iter().zip(&self.strides).map(|(c, stride)| c * stride).sum()
    }

    /// A number that identifies the chunk among those of all arrays.
    pub(crate) fn identity(&self, coords: &[u64]) -> u64 {
        mix(self.salt, self.linear(coords))
    }

    /// Bytes of the chunk with this identity.
    #[must_use]
    pub(crate) fn size(&self, identity: u64) -> u64 {
        match self.spread {
            0 => self.size,
            spread => self.size + identity % (spread + 1),
        }
    }

    /// Size in bytes of the chunk at these coordinates.
    #[must_use]
    pub fn size_of(&self, coords: &[u64]) -> u64 {
        self.size(self.identity(coords))
    }

    /// The `ETag` of the chunk at these coordinates, with its quotes; `None` when turned off.
    #[must_use]
    pub fn etag_of(&self, coords: &[u64]) -> Option<String> {
        self.etag.then(|| {
            let identity = self.identity(coords);
            format!("\"{identity:016x}{:016x}\"", etag_low(identity))
        })
    }

    /// Writes `range` of the chunk's bytes to `out`.
    pub(crate) fn bytes(&self, identity: u64, range: std::ops::Range<u64>, out: &mut Vec<u8>) {
        match self.body {
            Body::Zeros => {
                let len = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
                out.resize(out.len().saturating_add(len), 0);
            }
            Body::Pattern => {
                let (mut at, end) = (range.start, range.end);
                while at < end {
                    let word = mix(identity, at / 8).to_le_bytes();
                    let skip = usize::try_from(at % 8).unwrap_or(0);
                    let take = (8 - at % 8).min(end - at);
                    let stop = skip + usize::try_from(take).unwrap_or(0);
                    out.extend_from_slice(&word[skip..stop]);
                    at += take;
                }
            }
        }
    }
}

/// Where a pattern's chunks can be, and the filter for the rest.
struct Extent {
    lo: Vec<u64>,
    hi: Vec<u64>,
    steps: Vec<u64>,
    filter: Filter,
}

impl Extent {
    fn new(pattern: &Pattern, grid: &[u64]) -> Result<Self, &'static str> {
        let ndim = grid.len();
        let (mut lo, mut hi, mut steps) = (vec![0; ndim], grid.to_vec(), vec![1; ndim]);
        let mut filter = Filter::All;
        match pattern {
            Pattern::Dense => {}
            Pattern::Empty => filter = Filter::Hash { seed: 0, at_most: 0 },
            Pattern::Random { probability, seed } => {
                if !(0.0..=1.0).contains(probability) {
                    return Err("probability is not between 0 and 1");
                }
                // Rounding by one part in 2^53 does not matter here.
                #[allow(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    clippy::cast_precision_loss
                )]
                let at_most = (probability * u64::MAX as f64) as u64;
                filter = Filter::Hash { seed: *seed, at_most };
            }
            Pattern::FirstHalf => {
                if let Some(n) = hi.first_mut() {
                    *n = n.div_ceil(2);
                }
            }
            Pattern::Every { step } if *step > 0 => filter = Filter::Every { step: *step },
            Pattern::Scatter { every, seed } if *every > 0 => {
                filter = Filter::Scatter { every: *every, seed: *seed };
            }
            Pattern::Every { .. } | Pattern::Scatter { .. } => return Err("a step of 0"),
            Pattern::Lattice { steps: given } => {
                if given.len() != ndim || given.contains(&0) {
                    return Err("steps: one of at least 1 for each dimension");
                }
                steps.clone_from(given);
            }
            Pattern::Block { from, to } => {
                if from.len() != ndim || to.len() != ndim {
                    return Err("block: one bound for each dimension");
                }
                lo.clone_from(from);
                hi = to.iter().zip(grid).map(|(&t, &n)| t.min(n)).collect();
            }
        }
        Ok(Self { lo, hi, steps, filter })
    }
}

/// The lower half of an `ETag`, from its upper half.
pub(crate) fn etag_low(identity: u64) -> u64 {
    identity.rotate_left(32) ^ 0x5851_F42D_4C95_7F2D
}
