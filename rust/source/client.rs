//! The clients of a bucket that read and list without retries, and where its credentials come from.
//!
//! Which requests are sent is not known here.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use icechunk::config::{
    AzureCredentials, AzureStaticCredentials, Credentials, GcsBearerCredential, GcsCredentials,
    GcsStaticCredentials, S3Credentials, S3StaticCredentials,
};
use object_store::aws::AwsCredentialProvider;
use object_store::azure::{AzureCredential, AzureCredentialProvider};
use object_store::gcp::GcpCredentialProvider;
use object_store::list::PaginatedListStore;
use object_store::{ObjectStore, RetryConfig};

use super::builder::{BucketBuilder, unusable};
use super::service::Service;
use super::transport::Transport;
use super::xml::connector::{Dialect, PageConnector, PageParser};
use super::xml::signer::AzureSigner;
use crate::error::chain;
use crate::{Error, ErrorKind};

/// How long the search for credentials may take: off Google and Azure, `object_store` asks for long
/// at an address that only their machines have.
const CREDENTIALS_TIMEOUT: Duration = Duration::from_secs(7);

/// Makes sure that there are credentials for writing to a bucket.
///
/// # Errors
///
/// [`ErrorKind::Access`] when there are none.
pub(crate) async fn credentials_to_write(
    builder: &BucketBuilder,
    transport: &Transport,
) -> crate::Result<()> {
    let service = builder.service();
    if service == Service::S3 || builder.is_anonymous() {
        return Ok(());
    }
    let once = RetryConfig { max_retries: 0, ..RetryConfig::default() };
    let builder = builder.clone().with_retry(once);
    let clients = Clients::new(builder, transport.clone(), PageParser::default())
        .map_err(|error| unusable(service, "target", &error))?;
    clients.provider.search().await.map_err(|why| {
        let message = format!("no credentials of {} were found: {why}", service.name());
        Error::new(ErrorKind::Access, message).with_hint(format!(
            "set those of the {} variables that hold them, or --target-option (to write, \
             skip_signature=true is for emulators only)",
            service.variables()
        ))
    })
}

/// Clients of one bucket.
pub(super) struct Clients {
    /// Its listings are scanned on their way.
    pub(super) lister: Arc<dyn PaginatedListStore>,
    /// The same client.
    pub(super) once: Arc<dyn ObjectStore>,
    pub(super) provider: Provider,
}

/// Where credentials come from.
#[derive(Clone)]
pub(super) enum Provider {
    S3(AwsCredentialProvider),
    Gcs(GcpCredentialProvider),
    Azure {
        provider: AzureCredentialProvider,
        /// The account's key, which credentials do not tell.
        key: Option<String>,
        /// Whether credentials came that cannot be told.
        untold: Arc<AtomicBool>,
    },
}

impl fmt::Debug for Provider {
    /// Nothing of the providers, which know credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Provider")
    }
}

impl Clients {
    /// Clients over a transport; `builder` has the retries applied.
    pub(super) fn new(
        builder: BucketBuilder,
        transport: Transport,
        parser: PageParser,
    ) -> object_store::Result<Self> {
        match builder {
            BucketBuilder::S3(builder) => {
                let pages = PageConnector::over(transport, parser);
                let store = Arc::new(builder.with_http_connector(pages).build()?);
                let provider = Provider::S3(Arc::clone(store.credentials()));
                Ok(Self { lister: Arc::clone(&store) as _, once: store, provider })
            }
            BucketBuilder::Gcs(builder) => {
                let pages = PageConnector::over(transport, parser);
                let store = Arc::new(builder.with_http_connector(pages).build()?);
                let provider = Provider::Gcs(Arc::clone(store.credentials()));
                Ok(Self { lister: Arc::clone(&store) as _, once: store, provider })
            }
            BucketBuilder::Azure(builder) => {
                let settings = BucketBuilder::Azure(builder.clone());
                let account = settings.get("azure_storage_account_name");
                // Its credentials sign the requests that are changed on their way.
                let plain = builder.clone().with_http_connector(transport.clone()).build()?;
                let credentials = Arc::clone(plain.credentials());
                let signer = AzureSigner::new(
                    Arc::clone(&credentials),
                    account.unwrap_or_else(|| "devstoreaccount1".to_owned()),
                    settings.is_on("azure_skip_signature"),
                );
                let pages = PageConnector::over(transport, parser)
                    .with_dialect(Dialect::Azure(Arc::new(signer)));
                let builder = builder.with_credentials(Arc::clone(&credentials));
                let store = Arc::new(builder.with_http_connector(pages).build()?);
                let provider = Provider::Azure {
                    provider: credentials,
                    key: settings.get("azure_storage_account_key"),
                    untold: Arc::default(),
                };
                Ok(Self { lister: Arc::clone(&store) as _, once: store, provider })
            }
        }
    }
}

impl Provider {
    /// Looks for credentials, but not for long; says why there are none.
    pub(super) async fn search(&self) -> Result<(), String> {
        match tokio::time::timeout(CREDENTIALS_TIMEOUT, self.look()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(chain(&error)),
            Err(_) => Err("the service's metadata server does not answer".to_owned()),
        }
    }

    /// Looks whether there are credentials.
    async fn look(&self) -> object_store::Result<()> {
        match self {
            Self::S3(provider) => provider.get_credential().await.map(drop),
            Self::Gcs(provider) => provider.get_credential().await.map(drop),
            Self::Azure { provider, key, untold } => {
                let found = provider.get_credential().await?;
                let is_key = matches!(found.as_ref(), AzureCredential::AccessKey(_));
                untold.store(is_key && key.is_none(), Ordering::Relaxed);
                Ok(())
            }
        }
    }

    /// Whether Icechunk's client can be given what was found.
    pub(super) fn is_for_icechunk(&self, anonymous: bool) -> bool {
        match self {
            Self::Azure { untold, .. } => anonymous || !untold.load(Ordering::Relaxed),
            Self::S3(_) | Self::Gcs(_) => true,
        }
    }

    /// Credentials as they are now, for Icechunk's client.
    pub(super) async fn for_icechunk(
        &self,
        anonymous: bool,
    ) -> object_store::Result<Option<Credentials>> {
        Ok(Some(match self {
            Self::S3(_) if anonymous => Credentials::S3(S3Credentials::Anonymous),
            Self::Gcs(_) if anonymous => Credentials::Gcs(GcsCredentials::Anonymous),
            Self::Azure { .. } if anonymous => Credentials::Azure(AzureCredentials::Anonymous),
            Self::S3(provider) => {
                let credential = provider.get_credential().await?;
                Credentials::S3(S3Credentials::Static(S3StaticCredentials {
                    access_key_id: credential.key_id.clone(),
                    secret_access_key: credential.secret_key.clone(),
                    session_token: credential.token.clone(),
                    expires_after: None,
                }))
            }
            Self::Gcs(provider) => {
                let bearer = provider.get_credential().await?.bearer.clone();
                Credentials::Gcs(GcsCredentials::Static(GcsStaticCredentials::BearerToken(
                    GcsBearerCredential { bearer, expires_after: None },
                )))
            }
            Self::Azure { provider, key, .. } => {
                let credential = provider.get_credential().await?;
                Credentials::Azure(match (credential.as_ref(), key) {
                    (AzureCredential::AccessKey(_), Some(key)) => {
                        AzureCredentials::Static(AzureStaticCredentials::AccessKey(key.clone()))
                    }
                    (AzureCredential::AccessKey(_), None) => AzureCredentials::FromEnv,
                    (AzureCredential::SASToken(pairs), _) => {
                        let mut token = url::form_urlencoded::Serializer::new(String::new());
                        token.extend_pairs(pairs);
                        AzureCredentials::Static(AzureStaticCredentials::SASToken(token.finish()))
                    }
                    (AzureCredential::BearerToken(token), _) => {
                        AzureCredentials::Static(AzureStaticCredentials::BearerToken(token.clone()))
                    }
                })
            }
        }))
    }
}
