//! Where texts are in a page's buffer, and undoing the percent-encoding of those that are there.

use std::ops::Range;

use super::entity;

/// Offsets fit: bodies are below 2 GiB, and what is unescaped or decoded is never longer.
pub(super) fn offset(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

/// Leads `place` to the decoded form of its text, which is appended to the buffer; an encoding that
/// changes nothing leaves both alone.
pub(super) fn decode(buf: &mut Vec<u8>, place: &mut Range<u32>) {
    let text = buf.get(place.start as usize..place.end as usize).unwrap_or_default();
    if let Some(decoded) = entity::percent_decode(text) {
        let start = offset(buf.len());
        buf.extend_from_slice(&decoded);
        *place = start..offset(buf.len());
    }
}
