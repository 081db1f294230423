//! The values that nobody may see, and how they are taken out of a text.
//!
//! Whoever resolves settings tells of them ([`remember`]); environment variables that hold
//! credentials are known from the beginning. Credentials in URLs and headers are recognised by their
//! form, so that those of others are not shown either.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::{LazyLock, PoisonError, RwLock};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use regex::Regex;

/// What stands in a secret's place.
const MASK: &str = "***";

/// Shorter values are left in longer words: they would be found in words that are no secrets.
const LEAST_WITHIN_A_WORD: usize = 8;

/// Shorter values are no secrets.
const LEAST: usize = 4;

/// Values that are kept; credentials that change by the hour must not fill the memory.
const MOST: usize = 2_000;

/// What a URL may hold as it is.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// In every spelling in which a server may repeat them; the longest first.
static KNOWN: LazyLock<RwLock<VecDeque<String>>> = LazyLock::new(|| {
    let mut known = VecDeque::new();
    for (name, value) in std::env::vars_os() {
        if let (Some(name), Some(value)) = (name.to_str(), value.to_str())
            && is_secret_variable(name)
        {
            add(&mut known, value);
        }
    }
    RwLock::new(known)
});

/// Takes note of a value that must not be shown from now on.
pub fn remember(secret: &str) {
    let mut known = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
    add(&mut known, secret);
}

/// Takes note of the secrets that a setting is made of: the signature of a shared access signature,
/// and of a document in JSON, such as a service account's key, each text in it.
pub(crate) fn remember_parts(setting: &str) {
    if setting.trim_start().starts_with('{') {
        let document: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(setting).unwrap_or_default();
        for (name, value) in document {
            let secret = name.contains("key") || name.contains("secret") || name.contains("token");
            if let Some(value) = value.as_str().filter(|_| secret && name != "token_uri") {
                remember(value);
                value.lines().filter(|line| !line.starts_with("-----")).for_each(remember);
            }
        }
        return;
    }
    for pair in setting.trim_start_matches('?').split('&') {
        if let Some(signature) = pair.strip_prefix("sig=") {
            remember(signature);
            remember(&percent_encoding::percent_decode_str(signature).decode_utf8_lossy());
        }
    }
}

fn add(known: &mut VecDeque<String>, secret: &str) {
    let secret = secret.trim();
    if secret.len() < LEAST {
        return;
    }
    for spelling in spellings(secret) {
        if !known.contains(&spelling) {
            known.push_back(spelling);
        }
    }
    while known.len() > MOST {
        known.pop_front();
    }
}

/// A value as it is, and as URLs, JSON and HTML write it.
fn spellings(secret: &str) -> Vec<String> {
    let encoded = utf8_percent_encode(secret, UNRESERVED).to_string();
    let mut spellings = vec![
        secret.to_owned(),
        encoded.to_lowercase(),
        encoded,
        secret.replace('/', "\\/"),
        secret.escape_debug().to_string(),
        secret.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;"),
        entities(secret, false),
        entities(secret, true),
    ];
    spellings.sort_unstable();
    spellings.dedup();
    spellings
}

/// Everything but letters and digits as numeric entities of HTML.
fn entities(secret: &str, hexadecimal: bool) -> String {
    let mut text = String::new();
    for character in secret.chars() {
        let code = u32::from(character);
        // Writing to a string cannot fail.
        let _ = match character {
            plain if plain.is_ascii_alphanumeric() => write!(text, "{plain}"),
            _ if hexadecimal => write!(text, "&#x{code:X};"),
            _ => write!(text, "&#{code};"),
        };
    }
    text
}

/// Variables of the stores that hold credentials themselves, not the name of a file or a key.
fn is_secret_variable(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    let of_a_store = ["AWS_", "AZURE_", "GOOGLE_"].iter().any(|prefix| name.starts_with(prefix));
    let kinds = ["SECRET", "TOKEN", "PASSWORD", "ACCESS_KEY", "_KEY_BASE64", "SAS_", "ACCOUNT_KEY"];
    let names = ["_FILE", "_PATH", "_URI", "_URL", "_ENABLED", "KMS_KEY_ID", "_TTL"];
    of_a_store
        && kinds.iter().any(|kind| name.contains(kind))
        && !names.iter().any(|end| name.ends_with(end))
}

/// A text in which every secret is replaced.
#[must_use]
pub fn redact(text: &str) -> Cow<'_, str> {
    let mut text = without_values(text);
    for (form, replacement) in FORMS.iter() {
        if let Cow::Owned(changed) = form.replace_all(&text, *replacement) {
            text = changed.into();
        }
    }
    text
}

fn without_values(text: &str) -> Cow<'_, str> {
    let known = KNOWN.read().unwrap_or_else(PoisonError::into_inner);
    let mut found: Vec<&String> = known.iter().filter(|secret| text.contains(*secret)).collect();
    // One may be a part of another.
    found.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    let mut text = Cow::Borrowed(text);
    for secret in found {
        text = if secret.len() >= LEAST_WITHIN_A_WORD {
            text.replace(secret.as_str(), MASK).into()
        } else {
            whole_words(&text, secret).into()
        };
    }
    text
}

/// Replaces a short value where it is not a part of a longer word.
fn whole_words(text: &str, secret: &str) -> String {
    let within = |character: char| character.is_alphanumeric() || "-_./".contains(character);
    let mut kept = String::with_capacity(text.len());
    let mut end = 0;
    for (at, _) in text.match_indices(secret) {
        let before = text[..at].chars().next_back().is_some_and(within);
        let after = text[at + secret.len()..].chars().next().is_some_and(within);
        kept.push_str(&text[end..at]);
        kept.push_str(if before || after { secret } else { MASK });
        end = at + secret.len();
    }
    kept.push_str(&text[end..]);
    kept
}

/// Credentials by their form: user information and signatures of URLs, headers.
static FORMS: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    [
        (r#"([A-Za-z][A-Za-z0-9+.-]*://)[^/\s?#"'<>@]*@(?:[^/\s?#"'<>@]*@)*"#, "$1"),
        (
            r#"(?i)([?&;](?:amp;)?(?:x-amz-signature|x-amz-security-token|x-amz-credential|x-goog-signature|x-goog-credential|sig|signature|token|access_token|sessiontoken|awsaccesskeyid|googleaccessid|password|secret)=)[^&\s#"'<>]+"#,
            "$1***",
        ),
        (
            r#"(?i)\b(authorization|x-amz-security-token|x-amz-server-side-encryption-customer-key|cookie)(\\?["']?\s*[:=]\s*\\?["']?)[^\r\n"'\\]+"#,
            "$1$2***",
        ),
        (r"(?i)\b(credential=|signature=)[^\s,;&]+", "$1***"),
    ]
    .into_iter()
    // The expressions are constants, which the tests compile.
    .filter_map(|(form, replacement)| Some((Regex::new(form).ok()?, replacement)))
    .collect()
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_compiles() {
        assert_eq!(FORMS.len(), 4);
    }

    #[test]
    fn remembered_values_are_masked_in_every_spelling() {
        remember("AbCd/e+f=&<0123");
        for spelling in [
            "AbCd/e+f=&<0123",
            "AbCd%2Fe%2Bf%3D%26%3C0123",
            "AbCd\\/e+f=&<0123",
            "AbCd/e+f=&amp;&lt;0123",
            "AbCd&#47;e&#43;f&#61;&#38;&#60;0123",
        ] {
            let shown = redact(&format!("you sent ({spelling})!")).into_owned();
            assert_eq!(shown, "you sent (***)!", "{spelling}");
        }
    }

    #[test]
    fn parts_of_a_setting_are_secrets_too() {
        remember_parts("?sv=2024&sig=q1w2e3r4%2Fsignature");
        remember_parts(r#"{"type": "x", "private_key": "-----BEGIN-----\nAbCdEfGh1234\n"}"#);
        let shown = redact("q1w2e3r4/signature and AbCdEfGh1234 but 2024");
        assert_eq!(shown, "*** and *** but 2024");
    }

    #[test]
    fn a_short_value_is_masked_only_as_a_word() {
        remember("hunter2");
        assert_eq!(redact("password hunter2, not hunter22"), "password ***, not hunter22");
    }

    #[test]
    fn credentials_in_urls_and_headers_are_known_by_their_form() {
        let cases = [
            ("file://user:pw@host/path", "file://host/path"),
            ("https://a:b%40c@host:1/x?y=1 gone", "https://host:1/x?y=1 gone"),
            ("s3://b/k?X-Amz-Signature=ab12&x=1", "s3://b/k?X-Amz-Signature=***&x=1"),
            ("https://h/c?sv=1&sig=a%2Fb", "https://h/c?sv=1&sig=***"),
            ("Authorization: AWS4-HMAC-SHA256 Signature=12", "Authorization: ***"),
            (
                r#"{"x-amz-security-token": "abc", "a": 1}"#,
                r#"{"x-amz-security-token": "***", "a": 1}"#,
            ),
            ("s3://bucket/a@b/c stays", "s3://bucket/a@b/c stays"),
            ("The authorization header is malformed", "The authorization header is malformed"),
        ];
        for (text, shown) in cases {
            assert_eq!(redact(text), shown);
            assert_eq!(redact(shown), shown);
        }
    }

    #[test]
    fn variables_with_credentials_are_told_from_those_with_names() {
        for name in ["AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AZURE_STORAGE_SAS_KEY"] {
            assert!(is_secret_variable(name), "{name}");
        }
        for name in ["AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_SSE_KMS_KEY_ID", "HOME", "AWS_REGION"] {
            assert!(!is_secret_variable(name), "{name}");
        }
    }
}
