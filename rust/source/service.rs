//! The services that hold buckets, and what they are called.

/// The services that hold buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Service {
    /// S3 and what answers alike.
    S3,
    /// Google Cloud Storage.
    Gcs,
    /// Azure Blob Storage; its buckets are called containers.
    Azure,
}

impl Service {
    /// Of URLs, as refreeze writes them.
    #[must_use]
    pub const fn scheme(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Gcs => "gs",
            Self::Azure => "az",
        }
    }

    /// Its name in messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::S3 => "S3",
            Self::Gcs => "Google Cloud Storage",
            Self::Azure => "Azure",
        }
    }

    /// What its environment variables begin with.
    #[must_use]
    pub const fn variables(self) -> &'static str {
        match self {
            Self::S3 => "AWS_*",
            Self::Gcs => "GOOGLE_*",
            Self::Azure => "AZURE_*",
        }
    }

    /// What to do when a source refuses, or has no credentials.
    #[must_use]
    pub const fn access_hint(self) -> &'static str {
        match self {
            Self::S3 => crate::error::SOURCE_ACCESS_HINT,
            Self::Gcs => {
                "set GOOGLE_SERVICE_ACCOUNT or GOOGLE_APPLICATION_CREDENTIALS, or --source-option \
                 service_account=FILE (skip_signature=true for public data)"
            }
            Self::Azure => {
                "set AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN, or --source-option \
                 account_key=… or sas_token=… (skip_signature=true for public data)"
            }
        }
    }
}
