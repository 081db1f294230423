//! Credentials of a bucket before they are used: secrets are remembered, and those that no request
//! can carry are refused by the name of their setting.
//!
//! Where credentials come from is decided by `object_store` or by a provider of the caller's.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use object_store::CredentialProvider;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, AwsCredential, AwsCredentialProvider};

use crate::shown::secrets;
use crate::{Error, ErrorKind, Result};

/// Settings that become a part of requests.
const SENT: [&str; 8] = [
    "aws_access_key_id",
    "aws_secret_access_key",
    "aws_session_token",
    "aws_region",
    "aws_endpoint",
    "aws_endpoint_url_s3",
    "aws_sse_kms_key_id",
    "aws_sse_customer_key_base64",
];

/// Remembers the secrets among a bucket's settings and refuses those that cannot be sent.
///
/// # Errors
///
/// [`ErrorKind::Access`] naming the setting, never its value.
pub(crate) fn check(builder: &AmazonS3Builder) -> Result<()> {
    secrets::remember_settings(builder);
    for name in SENT {
        let value =
            name.parse::<AmazonS3ConfigKey>().ok().and_then(|key| builder.get_config_value(&key));
        if value.is_some_and(|value| !can_be_sent(&value)) {
            return Err(Error::new(
                ErrorKind::Access,
                format!(
                    "the setting {name} holds a line break or another character that no request can \
                     carry"
                ),
            )
            .with_hint("check the AWS_* environment variables and the options of the store"));
        }
    }
    Ok(())
}

/// Whether a value may stand in a header: visible characters of ASCII, and spaces within.
fn can_be_sent(value: &str) -> bool {
    value.bytes().all(|byte| (0x20..0x7f).contains(&byte)) && value.trim() == value
}

/// A provider whose credentials are remembered as secrets, and refused when no request can carry
/// them.
#[must_use]
pub fn checked(provider: AwsCredentialProvider) -> AwsCredentialProvider {
    Arc::new(Checked(provider))
}

struct Checked(AwsCredentialProvider);

impl fmt::Debug for Checked {
    /// Nothing of the provider, which may hold what it provides.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checked").finish_non_exhaustive()
    }
}

#[async_trait]
impl CredentialProvider for Checked {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let credential = self.0.get_credential().await?;
        let parts = [
            ("access_key_id", Some(&credential.key_id)),
            ("secret_access_key", Some(&credential.secret_key)),
            ("session_token", credential.token.as_ref()),
        ];
        for (name, value) in parts {
            let Some(value) = value else { continue };
            secrets::remember(value);
            if !can_be_sent(value) {
                let source = format!(
                    "the credential provider gave a {name} with a line break or another character \
                     that no request can carry"
                );
                return Err(object_store::Error::Unauthenticated {
                    path: String::new(),
                    source: source.into(),
                });
            }
        }
        Ok(credential)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_request_can_carry_is_refused_by_name() {
        for value in ["line\nbreak-secret", "ending-secret\r\n", "umlaut-secr\u{e4}t", "\u{1}bell"]
        {
            let builder = AmazonS3Builder::new().with_token(value);
            let error = check(&builder).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Access);
            assert!(error.message().contains("aws_session_token"), "{error}");
            assert!(!error.message().contains("secr"), "{error}");
        }
        check(&AmazonS3Builder::new().with_token("a/b+c=")).unwrap();
    }
}
