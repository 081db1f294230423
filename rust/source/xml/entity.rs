//! Undoes the two escapes of listings: XML entities, and the percent-encoding of
//! `encoding-type=url`. Only what both sides agree on; anything doubtful is reported as such.

/// Appends `text` with the five named entities and character references replaced. `false` when
/// there is any other `&`, or a reference that names no character; `out` is then of no use.
#[must_use]
pub(crate) fn unescape(mut text: &[u8], out: &mut Vec<u8>) -> bool {
    while let Some(at) = memchr::memchr(b'&', text) {
        out.extend_from_slice(&text[..at]);
        let rest = &text[at + 1..];
        // The longest is `#x10FFFF`; leading zeros beyond that are somebody else's problem.
        let Some(end) = memchr::memchr(b';', &rest[..rest.len().min(10)]) else {
            return false;
        };
        match &rest[..end] {
            b"amp" => out.push(b'&'),
            b"lt" => out.push(b'<'),
            b"gt" => out.push(b'>'),
            b"quot" => out.push(b'"'),
            b"apos" => out.push(b'\''),
            [b'#', number @ ..] => {
                let Some(c) = character(number) else {
                    return false;
                };
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
            _ => return false,
        }
        text = &rest[end + 1..];
    }
    out.extend_from_slice(text);
    true
}

/// The character of `38` or `x26`; not for 0, which XML does not allow.
fn character(number: &[u8]) -> Option<char> {
    let (digits, radix) = match number {
        [b'x', digits @ ..] => (digits, 16),
        digits => (digits, 10),
    };
    let value = |value: u32, &digit: &u8| {
        let digit = char::from(digit).to_digit(radix)?;
        value.checked_mul(radix)?.checked_add(digit)
    };
    let code = digits.iter().try_fold(0, value)?;
    (!digits.is_empty() && code != 0).then(|| char::from_u32(code)).flatten()
}

/// `text` without its percent-encoding (`+` is a space, as S3 writes it); `None` when there is
/// nothing to undo. A `%` that two hexadecimal digits do not follow stays.
pub(crate) fn percent_decode(text: &[u8]) -> Option<Vec<u8>> {
    memchr::memchr2(b'%', b'+', text)?;
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        let hex = |at: usize| char::from(*tail.get(at)?).to_digit(16);
        match (byte, hex(0).zip(hex(1))) {
            (b'%', Some((high, low))) => {
                out.extend(u8::try_from(high * 16 + low));
                rest = &tail[2..];
            }
            (b'+', _) => out.push(b' '),
            _ => out.push(byte),
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::{percent_decode, unescape};

    fn plain(text: &str) -> Option<String> {
        let mut out = Vec::new();
        unescape(text.as_bytes(), &mut out).then(|| String::from_utf8(out).unwrap())
    }

    #[test]
    fn entities() {
        assert_eq!(plain("a&amp;&lt;&gt;&quot;&apos;b").unwrap(), "a&<>\"'b");
        assert_eq!(plain("&#38;&#x26;&#x2f;&#xe9;&#x1F600;").unwrap(), "&&/é😀");
        for text in [
            "&",
            "&;",
            "&amp",
            "&AMP;",
            "&nbsp;",
            "&#;",
            "&#x;",
            "&#0;",
            "&#xD800;",
            "&#x110000;",
            "&#-1;",
        ] {
            assert_eq!(plain(text), None, "{text}");
        }
    }

    #[test]
    fn percent() {
        assert_eq!(percent_decode(b"a/b"), None);
        assert_eq!(percent_decode(b"a%2Fb+%2b%zz%").unwrap(), b"a/b +%zz%");
    }
}
