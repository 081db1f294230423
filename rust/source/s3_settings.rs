//! Settings of a bucket that are no secret: what a repository's configuration says of it.
//!
//! Read back from a builder that has everything applied; nothing is decided here.

use icechunk::config::S3Options;
use object_store::ClientConfigKey;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};

/// Names of S3 Express's buckets end so.
const DIRECTORY_BUCKET: &str = "--x-s3";

/// Settings that take part in naming the store in a repository; none of them is a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "the names and kinds of S3's own settings")]
pub struct S3Settings {
    /// Bucket name.
    pub bucket: String,
    /// Region, if one is set.
    pub region: Option<String>,
    /// Endpoint URL of an S3-compatible service; `None` for AWS itself.
    pub endpoint: Option<String>,
    /// Requests are not signed.
    pub anonymous: bool,
    /// Plain HTTP is allowed.
    pub allow_http: bool,
    /// The bucket is part of the host name.
    pub virtual_hosted_style: bool,
    /// The requester pays for requests.
    pub requester_pays: bool,
    /// A directory bucket of S3 Express.
    pub express: bool,
}

impl S3Settings {
    /// Reads back what a builder resolved from environment and options.
    #[must_use]
    pub fn of(builder: &AmazonS3Builder) -> Self {
        let get = |key| builder.get_config_value(&key);
        let flag = |key| get(key).is_some_and(|value| is_on(&value));
        Self {
            bucket: get(AmazonS3ConfigKey::Bucket).unwrap_or_default(),
            region: get(AmazonS3ConfigKey::Region),
            endpoint: get(AmazonS3ConfigKey::S3Endpoint)
                .or_else(|| get(AmazonS3ConfigKey::Endpoint))
                .map(|endpoint| without_user_info(&endpoint)),
            anonymous: flag(AmazonS3ConfigKey::SkipSignature),
            allow_http: flag(AmazonS3ConfigKey::Client(ClientConfigKey::AllowHttp)),
            virtual_hosted_style: flag(AmazonS3ConfigKey::VirtualHostedStyleRequest),
            requester_pays: flag(AmazonS3ConfigKey::RequestPayer),
            express: flag(AmazonS3ConfigKey::S3Express)
                || get(AmazonS3ConfigKey::Bucket)
                    .is_some_and(|name| name.ends_with(DIRECTORY_BUCKET)),
        }
    }

    /// The same settings in Icechunk's terms.
    #[must_use]
    pub fn options(&self) -> S3Options {
        let mut options = S3Options::default()
            .with_anonymous(self.anonymous)
            .with_allow_http(self.allow_http)
            .with_force_path_style(self.endpoint.is_some() && !self.virtual_hosted_style)
            .with_requester_pays(self.requester_pays);
        if let Some(region) = &self.region {
            options = options.with_region(region);
        }
        if let Some(endpoint) = &self.endpoint {
            options = options.with_endpoint_url(self.without_bucket(endpoint));
        }
        options
    }

    /// An endpoint as readers expect it, who put the bucket before the host themselves.
    fn without_bucket(&self, endpoint: &str) -> String {
        let stripped = self.virtual_hosted_style.then(|| {
            let mut url = url::Url::parse(endpoint).ok()?;
            let host = url.host_str()?.strip_prefix(&format!("{}.", self.bucket))?.to_owned();
            url.set_host(Some(&host)).ok()?;
            Some(url.into())
        });
        stripped.flatten().unwrap_or_else(|| endpoint.to_owned())
    }
}

/// Whether no setting changes requests in a way that Icechunk's client knows nothing of.
pub(super) fn is_plain(builder: &AmazonS3Builder) -> bool {
    let names = [
        "aws_sse_customer_key_base64",
        "aws_virtual_hosted_style_request",
        "allow_invalid_certificates",
        "disable_system_certificates",
        "proxy_url",
    ];
    let value = |name: &str| builder.get_config_value(&name.parse().ok()?);
    !S3Settings::of(builder).express
        && !names.iter().filter_map(|name| value(name)).any(|value| is_on(&value))
}

/// Whether a setting is on: `object_store` keeps it as it was written.
fn is_on(value: &str) -> bool {
    !matches!(value.to_ascii_lowercase().as_str(), "" | "0" | "false" | "off" | "no" | "n")
}

/// An endpoint as it may be shown and stored: without a user name and password.
pub(super) fn without_user_info(endpoint: &str) -> String {
    match url::Url::parse(endpoint) {
        Ok(mut url) if !url.username().is_empty() || url.password().is_some() => {
            // Only URLs without a host refuse this, and those have no user information.
            let _ = url.set_username("");
            let _ = url.set_password(None);
            url.into()
        }
        _ => endpoint.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_read_as_object_store_reads_them() {
        for (value, on) in
            [("true", true), ("1", true), ("Yes", true), ("off", false), ("0", false)]
        {
            let key = AmazonS3ConfigKey::RequestPayer;
            let builder = AmazonS3Builder::new().with_config(key, value);
            assert_eq!(S3Settings::of(&builder).requester_pays, on, "{value}");
        }
    }

    /// `object_store` wants the bucket in the endpoint, Icechunk puts it there.
    #[test]
    fn an_endpoint_with_the_bucket_is_stored_without_it() {
        let builder = AmazonS3Builder::new()
            .with_bucket_name("data")
            .with_endpoint("https://data.s3.example.org:444")
            .with_virtual_hosted_style_request(true);
        let options = S3Settings::of(&builder).options();
        assert_eq!(options.endpoint_url.as_deref(), Some("https://s3.example.org:444/"));
        assert!(!options.force_path_style);
        assert!(!is_plain(&builder));
    }
}
