//! Credentials of a bucket before they are used: secrets are remembered, and those that no request
//! can carry are refused by name.
//!
//! Where credentials come from is decided by `object_store` or by a provider of the caller's.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use object_store::CredentialProvider;
use object_store::aws::AwsCredential;
use object_store::azure::AzureCredential;
use object_store::gcp::GcpCredential;

use super::service::Service;
use crate::shown::secrets;
use crate::{Error, ErrorKind};

/// The error for a setting that cannot be sent.
pub(super) fn unsendable(name: &str, service: Service) -> Error {
    Error::new(
        ErrorKind::Access,
        format!(
            "the setting {name} holds a line break or another character that no request can carry"
        ),
    )
    .with_hint(format!(
        "check the {} environment variables and the options of the store",
        service.variables()
    ))
}

/// Whether a value may stand in a header: visible characters of ASCII, and spaces within.
pub(super) fn can_be_sent(value: &str) -> bool {
    value.bytes().all(|byte| (0x20..0x7f).contains(&byte)) && value.trim() == value
}

/// A credential whose secret parts are known by name.
pub trait Secrets {
    /// The parts that become a part of requests.
    fn parts(&self) -> Vec<(&'static str, &str)>;
}

impl Secrets for AwsCredential {
    fn parts(&self) -> Vec<(&'static str, &str)> {
        let token = self.token.as_deref().map(|token| ("session_token", token));
        let keys = [("access_key_id", &self.key_id), ("secret_access_key", &self.secret_key)];
        keys.map(|(name, value)| (name, value.as_str())).into_iter().chain(token).collect()
    }
}

impl Secrets for GcpCredential {
    fn parts(&self) -> Vec<(&'static str, &str)> {
        vec![("token", &self.bearer)]
    }
}

impl Secrets for AzureCredential {
    fn parts(&self) -> Vec<(&'static str, &str)> {
        match self {
            // The key itself is never sent, and not told.
            Self::AccessKey(_) => Vec::new(),
            Self::SASToken(pairs) => {
                let signature = pairs.iter().filter(|(name, _)| name == "sig");
                signature.map(|(_, value)| ("sas_token", value.as_str())).collect()
            }
            Self::BearerToken(token) => vec![("token", token)],
        }
    }
}

/// A provider whose credentials are remembered as secrets, and refused when no request can carry
/// them.
#[must_use]
pub fn checked<C: Secrets + fmt::Debug + Send + Sync + 'static>(
    provider: Arc<dyn CredentialProvider<Credential = C>>,
) -> Arc<dyn CredentialProvider<Credential = C>> {
    Arc::new(Checked(provider))
}

struct Checked<C>(Arc<dyn CredentialProvider<Credential = C>>);

impl<C> fmt::Debug for Checked<C> {
    /// Nothing of the provider, which may hold what it provides.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checked").finish_non_exhaustive()
    }
}

#[async_trait]
impl<C: Secrets + fmt::Debug + Send + Sync + 'static> CredentialProvider for Checked<C> {
    type Credential = C;

    async fn get_credential(&self) -> object_store::Result<Arc<C>> {
        let credential = self.0.get_credential().await?;
        for (name, value) in credential.parts() {
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
    use object_store::aws::AmazonS3Builder;
    use object_store::azure::MicrosoftAzureBuilder;

    use super::*;
    use crate::source::BucketBuilder;

    #[test]
    fn what_no_request_can_carry_is_refused_by_name() {
        for value in ["line\nbreak-secret", "ending-secret\r\n", "umlaut-secr\u{e4}t", "\u{1}bell"]
        {
            let builder = AmazonS3Builder::new().with_token(value);
            let error = BucketBuilder::S3(Box::new(builder)).check().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Access);
            assert!(error.message().contains("aws_session_token"), "{error}");
            assert!(!error.message().contains("secr"), "{error}");
        }
        let fine = AmazonS3Builder::new().with_token("a/b+c=");
        BucketBuilder::S3(Box::new(fine)).check().unwrap();
        let azure = MicrosoftAzureBuilder::new().with_access_key("line\nbreak-secret");
        let error = BucketBuilder::Azure(Box::new(azure)).check().unwrap_err();
        assert!(error.message().contains("azure_storage_account_key"), "{error}");
    }
}
