//! Small text forms: XML escaping, percent-encoding, hexadecimal. No parsing of XML beyond
//! pulling the text of one element out of a trusted request body.

/// Appends `text` escaped for XML. Bytes that are not UTF-8 go out as they are, as some servers do.
pub(crate) fn escape(text: &[u8], out: &mut Vec<u8>) {
    for &byte in text {
        match byte {
            b'&' => out.extend_from_slice(b"&amp;"),
            b'<' => out.extend_from_slice(b"&lt;"),
            b'>' => out.extend_from_slice(b"&gt;"),
            b'"' => out.extend_from_slice(b"&quot;"),
            0..32 => out.extend_from_slice(format!("&#x{byte:X};").as_bytes()),
            _ => out.push(byte),
        }
    }
}

/// Appends `text` percent-encoded as `encoding-type=url` does (slashes stay).
pub(crate) fn url_encode(text: &[u8], out: &mut Vec<u8>) {
    for &byte in text {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' | b'*' => {
                out.push(byte);
            }
            b' ' => out.push(b'+'),
            _ => out.extend_from_slice(format!("%{byte:02X}").as_bytes()),
        }
    }
}

/// Undoes percent-encoding; `plus` also turns `+` into a space, as in query strings.
pub(crate) fn percent_decode(text: &[u8], plus: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        let digits = tail.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        match (byte, digits.and_then(|two| u8::from_str_radix(two, 16).ok())) {
            (b'%', Some(value)) => {
                out.push(value);
                rest = &tail[2..];
            }
            (b'+', _) if plus => out.push(b' '),
            _ => out.push(byte),
        }
    }
    out
}

/// Writes the 16 hexadecimal digits of `value`.
pub(crate) fn hex16(value: u64, out: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (pair, byte) in out.as_chunks_mut::<2>().0.iter_mut().zip(value.to_be_bytes()) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
}

/// Reads pairs of hexadecimal digits.
pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else {
        return None;
    };
    let pair = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    pairs.iter().map(pair).collect()
}

/// The texts of all `<name>` elements in a request body, unescaped; for bulk deletes.
pub(crate) fn texts(body: &str, name: &str) -> Vec<String> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let mut found = Vec::new();
    let mut rest = body;
    while let Some((_, tail)) = rest.split_once(&open) {
        let Some((text, tail)) = tail.split_once(&close) else {
            break;
        };
        let text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"");
        found.push(text.replace("&apos;", "'").replace("&amp;", "&"));
        rest = tail;
    }
    found
}
