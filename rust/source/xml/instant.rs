//! Reads the timestamps of listings: RFC 3339, UTC, written with a `Z`. Other forms that the
//! standard allows (offsets, leap seconds, lower case) are left to the stock parser.

/// Microseconds since 1970-01-01T00:00:00Z of `YYYY-MM-DDTHH:MM:SS[.f…]Z` with up to nine digits
/// of fraction, rounded down; `None` for any other form and for dates that do not exist.
pub(crate) fn parse(text: &[u8]) -> Option<i64> {
    let (head, tail) = text.split_at_checked(19)?;
    let separators = head[4] == b'-'
        && head[7] == b'-'
        && head[10] == b'T'
        && head[13] == b':'
        && head[16] == b':';
    if !separators {
        return None;
    }
    let year = digits(&head[..4])?;
    let (month, day) = (digits(&head[5..7])?, digits(&head[8..10])?);
    let (hour, minute) = (digits(&head[11..13])?, digits(&head[14..16])?);
    let second = digits(&head[17..19])?;
    let in_range = (1..=12).contains(&month)
        && (1..=days_in_month(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    if !in_range {
        return None;
    }
    let micros = match tail {
        b"Z" => 0,
        [b'.', fraction @ .., b'Z'] if (1..=9).contains(&fraction.len()) => {
            let kept = &fraction[..fraction.len().min(6)];
            digits(fraction)?;
            let missing = 6 - u32::try_from(kept.len()).ok()?;
            digits(kept)? * 10i64.pow(missing)
        }
        _ => return None,
    };
    let seconds = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    Some(seconds * 1_000_000 + micros)
}

/// Microseconds since 1970-01-01T00:00:00Z of a date as in HTTP's headers, such as
/// `Mon, 06 May 2024 07:08:09 GMT`; `None` for any other form and for dates that do not exist.
pub(super) fn parse_http(text: &[u8]) -> Option<i64> {
    const MONTHS: &[u8] = b"JanFebMarAprMayJunJulAugSepOctNovDec";
    let text: &[u8; 29] = text.try_into().ok()?;
    if !text.ends_with(b" GMT") || text[3..5] != *b", " || text[16] != b' ' {
        return None;
    }
    let at = MONTHS.chunks_exact(3).position(|month| month == &text[8..11])?;
    let mut rfc3339 = *b"YYYY-MM-DDTHH:MM:SSZ";
    rfc3339[..4].copy_from_slice(&text[12..16]);
    let month = u8::try_from(at + 1).ok()?;
    rfc3339[5..7].copy_from_slice(&[b'0' + month / 10, b'0' + month % 10]);
    rfc3339[8..10].copy_from_slice(&text[5..7]);
    rfc3339[11..19].copy_from_slice(&text[17..25]);
    parse(&rfc3339)
}

fn digits(text: &[u8]) -> Option<i64> {
    text.iter().try_fold(0, |value, &byte| {
        byte.is_ascii_digit().then(|| value * 10 + i64::from(byte - b'0'))
    })
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 in the Gregorian calendar. Years are counted from March, so that the
/// leap day comes last and month lengths follow one linear formula.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::{parse, parse_http};

    #[test]
    fn dates_of_headers() {
        assert_eq!(parse_http(b"Thu, 29 Feb 2024 23:59:58 GMT"), Some(1_709_251_198_000_000));
        for text in ["Thu, 30 Feb 2024 23:59:58 GMT", "Thu, 29 Fex 2024 23:59:58 GMT", "GMT", ""] {
            assert_eq!(parse_http(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn dates_that_exist() {
        assert_eq!(parse(b"1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(parse(b"1969-12-31T23:59:59.5Z"), Some(-500_000));
        assert_eq!(parse(b"2024-02-29T23:59:58.120Z"), Some(1_709_251_198_120_000));
        assert_eq!(parse(b"2000-03-01T00:00:00.123456789Z"), Some(951_868_800_123_456));
        assert_eq!(parse(b"9999-12-31T23:59:59Z"), Some(253_402_300_799_000_000));
    }

    #[test]
    fn anything_else_is_left_alone() {
        for text in [
            "",
            "Z",
            "2023-02-29T00:00:00Z",
            "1900-02-29T00:00:00Z",
            "2024-13-01T00:00:00Z",
            "2024-00-01T00:00:00Z",
            "2024-04-31T00:00:00Z",
            "2024-01-01T24:00:00Z",
            "2024-01-01T00:60:00Z",
            "2024-01-01T00:00:60Z",
            "2024-01-01t00:00:00Z",
            "2024-01-01T00:00:00",
            "2024-01-01T00:00:00.Z",
            "2024-01-01T00:00:00.1234567890Z",
            "2024-01-01T00:00:00.12x4Z",
            "2024-01-01T00:00:00+00:00",
            "+024-01-01T00:00:00Z",
            "2024-01-01T00:00:00Z ",
            "2024-1-01T00:00:00.0Z",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }
}
