//! What of a server's answer may be shown: code and message of an error document that is known to
//! be one, else the status alone.
//!
//! Gateways repeat requests in their answers, headers included. So nothing else of a body is
//! shown, however harmless it looks.

use std::borrow::Cow;

use serde_json::Value;

/// How `object_store` begins the text of an answer that is an error; a body follows the first
/// after a status and a colon.
const STATUS: &str = "Server returned non-2xx status code: ";
const RESPONSE: &str = "Server returned error response: ";

/// A code is a word; what else is in its place is not shown.
const LONGEST_CODE: usize = 80;

const LONGEST_MESSAGE: usize = 300;

/// The text of an error without the body of an answer, which reaches to its end.
pub(crate) fn without_answer(text: &str) -> Cow<'_, str> {
    let status = text.find(STATUS).map(|at| at + STATUS.len());
    if let Some(at) = status {
        let (said, rest) = text.split_at(at);
        let (status, body) = rest.split_once(": ").unwrap_or((rest.trim_end_matches(':'), ""));
        // The status is a number and its standard phrase.
        let status = status.split('\n').next().unwrap_or_default();
        return match summary(body) {
            Some(summary) => format!("{said}{status}: {summary}").into(),
            None => format!("{said}{status}").into(),
        };
    }
    let body = text.find(RESPONSE).map(|at| at + RESPONSE.len());
    // Elsewhere a document is recognised by its beginning.
    let start = body.or_else(|| {
        ["<?xml", "<Error", "<!DOCTYPE", "<html"].iter().filter_map(|start| text.find(start)).min()
    });
    match start {
        Some(at) => {
            let (said, body) = text.split_at(at);
            let said = said.trim_end().trim_end_matches(':');
            match summary(body) {
                Some(summary) => format!("{said}: {summary}").into(),
                None => said.to_owned().into(),
            }
        }
        None => text.into(),
    }
}

/// Code and message of an error document of XML or JSON.
fn summary(body: &str) -> Option<String> {
    let body = body.trim_start_matches('\u{feff}').trim();
    let (code, message) = if body.starts_with('<') { xml(body)? } else { json(body)? };
    let is_word = |character: char| character.is_ascii_alphanumeric() || "._-".contains(character);
    let code = code.filter(|code| code.len() <= LONGEST_CODE && code.chars().all(is_word));
    let message = message.map(|message| {
        let words = message.split_whitespace().collect::<Vec<_>>().join(" ");
        super::cut(&words, LONGEST_MESSAGE).into_owned()
    });
    let parts: Vec<_> =
        [code, message].into_iter().flatten().filter(|part| !part.is_empty()).collect();
    (!parts.is_empty()).then(|| parts.join(": "))
}

type CodeAndMessage = (Option<String>, Option<String>);

/// S3's form, also below the `ErrorResponse` of AWS's other services.
fn xml(body: &str) -> Option<CodeAndMessage> {
    let root = match body.strip_prefix("<?xml") {
        Some(declaration) => declaration.split_once("?>")?.1.trim_start(),
        None => body,
    };
    if !root.starts_with("<Error") {
        return None;
    }
    let element = |name: &str| {
        let (_, rest) = root.split_once(&format!("<{name}>"))?;
        let (text, _) = rest.split_once("</")?;
        // A truncated or nested document is not one that is known.
        (!text.contains('<')).then(|| {
            let text = text.trim().replace("&quot;", "\"").replace("&apos;", "'");
            text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
        })
    };
    Some((element("Code"), element("Message")))
}

/// `{"code", "message"}`, also below `error`.
fn json(body: &str) -> Option<CodeAndMessage> {
    let document: Value = serde_json::from_str(body).ok()?;
    let error = document.get("error").filter(|error| error.is_object()).unwrap_or(&document);
    let text = |names: [&str; 2]| {
        names.iter().find_map(|name| match error.get(name)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        })
    };
    Some((text(["code", "Code"]), text(["message", "Message"])))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(status: &str, body: &str) -> String {
        without_answer(&format!("Generic S3 error: {STATUS}{status}: {body}")).into_owned()
    }

    #[test]
    fn only_code_and_message_of_documents_that_are_known() {
        let cases = [
            (
                "403 Forbidden",
                "<?xml version=\"1.0\"?>\n<Error><Code>AccessDenied</Code>\n\n<Message>no &amp; never</Message><Token>hidden</Token></Error>",
                ": AccessDenied: no & never",
            ),
            (
                "403 Forbidden",
                "<ErrorResponse><Error><Code>Expired</Code></Error></ErrorResponse>",
                ": Expired",
            ),
            (
                "403 Forbidden",
                r#"{"code": 403, "message": "denied", "request": {"token": "hidden"}}"#,
                ": 403: denied",
            ),
            (
                "401 Unauthorized",
                r#"{"error": {"code": "x", "message": "y"}, "headers": ["hidden"]}"#,
                ": x: y",
            ),
            ("400 Bad Request", "GET /b HTTP/1.1\n\nx-amz-security-token: hidden", ""),
            ("400 Bad Request", r#"{"headers": {"x-amz-security-token": "hidden"}}"#, ""),
            ("500 Internal Server Error", "<html><Code>hidden</Code></html>", ""),
            ("500 Internal Server Error", "<Error><Code>hidden hidden</Code></Error>", ""),
            ("500 Internal Server Error", "", ""),
        ];
        for (status, body, said) in cases {
            let text = shown(status, body);
            assert_eq!(text, format!("Generic S3 error: {STATUS}{status}{said}"), "{body}");
        }
    }

    #[test]
    fn an_error_document_under_another_beginning_is_known_too() {
        let text = "Server returned error response: <Error><Code>InternalError</Code></Error>";
        assert_eq!(without_answer(text), "Server returned error response: InternalError");
        assert_eq!(without_answer("found <html>hidden</html>"), "found");
        assert_eq!(without_answer("no document"), "no document");
    }
}
