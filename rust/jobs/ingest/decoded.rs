//! Whether the bytes of a copied chunk can be decoded, before they are committed.
//!
//! What writers make by default (plain numbers; zstd, gzip, zlib, Blosc or no compression) is
//! decoded here and dropped; for everything else, a caller who knows the codecs is asked.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use super::undone;
use crate::source::Accept;
use crate::zarr::metadata::ArraySpec;

/// Decodes a chunk of the array with a metadata document, or says why it cannot.
#[derive(Clone)]
pub struct Decoder(pub Arc<DecodeFn>);

/// What a [`Decoder`] holds.
pub type DecodeFn = dyn Fn(&[u8], &Bytes) -> std::result::Result<(), String> + Send + Sync;

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Decoder")
    }
}

/// How the chunks of an array are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    /// Numbers one after the other; so many bytes.
    Plain(u64),
    /// The same, compressed.
    Compressed(Compression, u64),
    /// The same, in chunks that name their compressor.
    Blosc(u64),
    /// Something else, of about so many bytes.
    Other(u64),
}

/// Compressors that are undone here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    Zstd,
    Gzip,
    Zlib,
}

impl Coding {
    pub(super) fn of(array: &ArraySpec) -> Self {
        let elements =
            array.layout.chunk_shape().iter().fold(1_u64, |n, &len| n.saturating_mul(len));
        let document: Value = serde_json::from_slice(&array.document).unwrap_or_default();
        let Some(size) = document.get("data_type").and_then(Value::as_str).and_then(size) else {
            return Self::Other(elements.saturating_mul(8));
        };
        let bytes = elements.saturating_mul(size);
        let codecs = document.get("codecs").and_then(Value::as_array);
        let names = codecs
            .into_iter()
            .flatten()
            .map(|codec| codec.get("name").and_then(Value::as_str).unwrap_or_default());
        // Another order of elements and bytes does not change how many they are.
        let counting = names.filter(|name| !matches!(*name, "transpose" | "numcodecs.shuffle"));
        match counting.collect::<Vec<_>>().as_slice() {
            ["bytes"] => Self::Plain(bytes),
            ["bytes", "zstd"] => Self::Compressed(Compression::Zstd, bytes),
            ["bytes", "gzip"] => Self::Compressed(Compression::Gzip, bytes),
            ["bytes", "numcodecs.zlib"] => Self::Compressed(Compression::Zlib, bytes),
            ["bytes", "blosc"] => Self::Blosc(bytes),
            _ => Self::Other(bytes),
        }
    }

    /// Bytes of memory that copying a chunk of `stored` bytes takes.
    pub(super) fn memory(self, stored: u64) -> u64 {
        match self {
            Self::Plain(_) | Self::Compressed(..) => stored,
            // What a decoder makes, and a copy that it makes of it.
            Self::Blosc(decoded) | Self::Other(decoded) => {
                stored.saturating_add(decoded.saturating_mul(2))
            }
        }
    }

    /// What has the last word on a chunk of the array.
    pub(super) fn accept(self, array: &ArraySpec, decoder: Option<&Decoder>) -> Option<Accept> {
        match self {
            Self::Plain(size) => Some(Accept(Arc::new(move |bytes| has(bytes.len() as u64, size)))),
            Self::Blosc(size) => {
                let rare = asked(array, decoder);
                Some(Accept(Arc::new(move |bytes| match (undone::blosc(bytes, size), &rare) {
                    (Some(undone), _) => has(undone?, size),
                    (None, Some(Accept(ask))) => ask(bytes),
                    (None, None) => Ok(()),
                })))
            }
            Self::Compressed(compression, size) => {
                let undo = match compression {
                    Compression::Gzip => undone::gzip,
                    Compression::Zlib => undone::zlib,
                    Compression::Zstd => undone::zstd,
                };
                Some(Accept(Arc::new(move |bytes| has(undo(bytes, size)?, size))))
            }
            Self::Other(_) => asked(array, decoder),
        }
    }
}

/// Asks the caller's decoder.
fn asked(array: &ArraySpec, decoder: Option<&Decoder>) -> Option<Accept> {
    let Decoder(decode) = decoder?.clone();
    let document = array.document.clone();
    Some(Accept(Arc::new(move |bytes| decode(&document, bytes))))
}

/// Bytes of an element of a core data type of version 3.
fn size(data_type: &str) -> Option<u64> {
    match data_type {
        "bool" | "int8" | "uint8" => Some(1),
        "int16" | "uint16" | "float16" => Some(2),
        "int32" | "uint32" | "float32" => Some(4),
        "int64" | "uint64" | "float64" | "complex64" => Some(8),
        "complex128" => Some(16),
        _ => None,
    }
}

fn has(bytes: u64, size: u64) -> std::result::Result<(), String> {
    if bytes == size {
        return Ok(());
    }
    Err(format!("it cannot be decoded: a chunk of its array has {size} bytes, this one {bytes}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::layout;

    fn array(codecs: &str) -> ArraySpec {
        let document = format!("{{\"data_type\":\"int16\",\"codecs\":[{codecs}]}}");
        ArraySpec {
            path: "/a".to_owned(),
            source_path: "a".to_owned(),
            document: document.into_bytes(),
            layout: layout(&[4]),
            copied: true,
        }
    }

    fn judged(codecs: &str, bytes: &[u8]) -> std::result::Result<(), String> {
        let array = array(codecs);
        let Accept(accept) = Coding::of(&array).accept(&array, None).unwrap();
        accept(&Bytes::copy_from_slice(bytes))
    }

    #[test]
    fn plain_chunks_have_one_length() {
        let codecs = "{\"name\":\"transpose\"},{\"name\":\"bytes\"}";
        assert_eq!(judged(codecs, b"ab"), Ok(()));
        assert!(judged(codecs, b"abc").unwrap_err().contains("2 bytes, this one 3"));
    }

    #[test]
    fn compressed_chunks_are_undone() {
        let codecs = "{\"name\":\"bytes\"},{\"name\":\"zstd\"}";
        let packed = |bytes: &[u8]| zstd::encode_all(bytes, 0).unwrap();
        assert_eq!(judged(codecs, &packed(b"ab")), Ok(()));
        let long = packed(&[0; 1000]);
        for wrong in [b"ab".as_slice(), &packed(b"ab")[..6], b"", &packed(b"a"), &long] {
            assert!(judged(codecs, wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn others_are_a_callers_to_judge() {
        let array = array("{\"name\":\"bytes\"},{\"name\":\"numcodecs.bz2\"}");
        let coding = Coding::of(&array);
        assert_eq!(coding, Coding::Other(2));
        assert!(coding.accept(&array, None).is_none());
        let decoder = Decoder(Arc::new(|_: &[u8], _: &Bytes| Err("no".to_owned())));
        let Accept(accept) = coding.accept(&array, Some(&decoder)).unwrap();
        assert_eq!(accept(&Bytes::new()), Err("no".to_owned()));
    }
}
