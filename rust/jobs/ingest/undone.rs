//! Undoes the compressors that stores are made with, to see that they can be undone.
//!
//! How many bytes come out is the result; they are not kept. What a Blosc chunk is compressed with
//! is in its header: of those that are rare nothing is said here.
//!
//! Source: "Blosc Chunk Format" in c-blosc's repository (`README_CHUNK_FORMAT.rst`).

use std::io::{Read, copy, sink};

/// Bytes of the header of a Blosc chunk.
const HEADER: usize = 16;
/// Flags of a header: the bytes are not compressed at all; blocks are not split by byte of element.
const COPIED: u8 = 0x02;
const NOT_SPLIT: u8 = 0x10;
/// Compressors, in the upper bits of the flags; `lz4hc` is `lz4` to whoever reads.
const LZ4: u8 = 1;
const ZSTD: u8 = 4;
/// Blocks with fewer elements, and elements of more bytes, are never split.
const LEAST_ELEMENTS: usize = 128;
const MOST_SPLITS: usize = 16;

/// What is wrong with bytes that cannot be undone.
type Failed = String;

/// How many bytes come out of a Zstandard frame; no more than one above `most`.
pub(super) fn zstd(bytes: &[u8], most: u64) -> Result<u64, Failed> {
    let decoder = zstd::stream::read::Decoder::new(bytes).map_err(|error| said("zstd", &error))?;
    drained("zstd", decoder, most)
}

/// As [`zstd()`], of a gzip file of one member or more.
pub(super) fn gzip(bytes: &[u8], most: u64) -> Result<u64, Failed> {
    drained("gzip", flate2::read::MultiGzDecoder::new(bytes), most)
}

/// As [`zstd()`], of a zlib stream.
pub(super) fn zlib(bytes: &[u8], most: u64) -> Result<u64, Failed> {
    drained("zlib", flate2::read::ZlibDecoder::new(bytes), most)
}

fn drained(name: &str, decoder: impl Read, most: u64) -> Result<u64, Failed> {
    copy(&mut decoder.take(most.saturating_add(1)), &mut sink()).map_err(|error| said(name, &error))
}

fn said(name: &str, error: &dyn std::fmt::Display) -> Failed {
    format!("it cannot be decoded: {name}: {error}")
}

/// How many bytes come out of a Blosc chunk; `None` when it is compressed with something rare.
///
/// Nothing is undone that says it would become more than `most`.
pub(super) fn blosc(bytes: &[u8], most: u64) -> Option<Result<u64, Failed>> {
    let Some(header) = Header::of(bytes) else {
        return Some(Err(said("blosc", &"it is shorter than its header")));
    };
    let compressor = header.flags >> 5;
    if header.flags & COPIED == 0 && compressor != LZ4 && compressor != ZSTD {
        return None;
    }
    if u64::from(header.decoded) > most {
        // The length alone is wrong.
        return Some(Ok(header.decoded.into()));
    }
    Some(header.undo(bytes, compressor).map(|()| header.decoded.into()))
}

struct Header {
    flags: u8,
    element: usize,
    decoded: u32,
    block: usize,
    encoded: usize,
}

impl Header {
    fn of(bytes: &[u8]) -> Option<Self> {
        let [_, _, flags, element, rest @ ..] = bytes.get(..HEADER)? else { return None };
        Some(Self {
            flags: *flags,
            element: usize::from(*element),
            decoded: number(rest, 0)?,
            block: number(rest, 4)? as usize,
            encoded: number(rest, 8)? as usize,
        })
    }

    fn undo(&self, bytes: &[u8], compressor: u8) -> Result<(), Failed> {
        let cut = || said("blosc", &"it is cut off, or its header is damaged");
        let decoded = self.decoded as usize;
        // Behind the chunk nothing is looked at, as by c-blosc.
        let bytes = bytes.get(..self.encoded).ok_or_else(cut)?;
        if self.flags & COPIED != 0 {
            return if bytes.len() == HEADER + decoded { Ok(()) } else { Err(cut()) };
        }
        if decoded > 0 && self.block == 0 {
            return Err(cut());
        }
        let mut left = decoded;
        let mut index = 0;
        while left > 0 {
            let size = left.min(self.block);
            let start = number(bytes, HEADER + 4 * index).ok_or_else(cut)? as usize;
            let streams = if size == self.block { self.splits() } else { 1 };
            let mut rest = bytes.get(start..).ok_or_else(cut)?;
            for _ in 0..streams {
                let length = number(rest, 0).ok_or_else(cut)? as usize;
                let stream = rest.get(4..length.saturating_add(4)).ok_or_else(cut)?;
                undo_stream(stream, size / streams, compressor)?;
                rest = rest.get(4 + length..).unwrap_or_default();
            }
            left -= size;
            index += 1;
        }
        Ok(())
    }

    /// Streams of a whole block: one for each byte of an element, or one in all.
    fn splits(&self) -> usize {
        let split = self.flags & NOT_SPLIT == 0
            && (2..=MOST_SPLITS).contains(&self.element)
            && self.block / self.element >= LEAST_ELEMENTS
            && self.block.is_multiple_of(self.element);
        if split { self.element } else { 1 }
    }
}

fn undo_stream(stream: &[u8], size: usize, compressor: u8) -> Result<(), Failed> {
    // What did not become smaller is stored as it is.
    let came = if stream.len() == size {
        size as u64
    } else if compressor == LZ4 {
        let mut room = vec![0; size];
        let came = lz4_flex::block::decompress_into(stream, &mut room);
        came.map_err(|error| said("blosc: lz4", &error))? as u64
    } else {
        zstd(stream, size as u64)?
    };
    if came == size as u64 {
        return Ok(());
    }
    Err(said("blosc", &format!("a stream has {came} bytes, not {size}")))
}

/// The four bytes at a place, as a number.
fn number(bytes: &[u8], place: usize) -> Option<u32> {
    let four = bytes.get(place..place.checked_add(4)?)?;
    four.try_into().ok().map(u32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A Blosc chunk of bytes, in one block and one stream.
    fn chunk(bytes: &[u8], compressor: u8, packed: &[u8]) -> Vec<u8> {
        let length = |number: usize| u32::try_from(number).unwrap().to_le_bytes();
        let mut chunk = vec![2, 1, (compressor << 5) | NOT_SPLIT, 4];
        chunk.extend(length(bytes.len()));
        chunk.extend(length(bytes.len()));
        chunk.extend(length(HEADER + 8 + packed.len()));
        chunk.extend(length(HEADER + 4));
        chunk.extend(length(packed.len()));
        chunk.extend(packed);
        chunk
    }

    #[test]
    fn blosc_chunks_are_undone() {
        let bytes = [7; 1000];
        for (compressor, packed) in [
            (LZ4, lz4_flex::block::compress(&bytes)),
            (ZSTD, zstd::encode_all(&bytes[..], 0).unwrap()),
        ] {
            let whole = chunk(&bytes, compressor, &packed);
            assert_eq!(blosc(&whole, 1000), Some(Ok(1000)));
            assert_eq!(blosc(&whole, 999), Some(Ok(1000)));
            for end in 0..whole.len() {
                assert!(blosc(&whole[..end], 1000).unwrap().is_err(), "{end}");
            }
            let mut damaged = whole.clone();
            damaged[HEADER + 8..].fill(0xff);
            assert!(blosc(&damaged, 1000).unwrap().is_err());
        }
        assert_eq!(blosc(&chunk(&bytes, 0, b"blosclz"), 1000), None);
    }

    /// What an encoder makes.
    fn packed(mut encoder: impl Read) -> Vec<u8> {
        let mut bytes = Vec::new();
        encoder.read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn deflate_is_undone() {
        use flate2::Compression;
        use flate2::read::{GzEncoder, ZlibEncoder};
        let bytes = [7_u8; 1000];
        let level = Compression::default();
        let zipped = packed(GzEncoder::new(&bytes[..], level));
        assert_eq!(gzip(&zipped, 1000), Ok(1000));
        assert!(gzip(&zipped[..zipped.len() - 9], 1000).is_err());
        let streamed = packed(ZlibEncoder::new(&bytes[..], level));
        assert_eq!(zlib(&streamed, 1000), Ok(1000));
        assert!(zlib(&zipped, 1000).is_err());
    }
}
