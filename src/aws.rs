//! Finding one's way in AWS: region, endpoint and keys, for Kinesis and S3 alike.
//!
//! ```text
//!  given in SQL or on the command line ─▶ environment ─▶ profile ─▶ SSO, process, web identity, container, instance
//!       └─▶ Account ─┬─▶ config(): for a client of the SDK
//!                    └─▶ bucket(): an object store that asks the same providers for its keys
//! ```
//!
//! `AWS_ENDPOINT_URL` and `AWS_ENDPOINT_URL_KINESIS`, `AWS_ENDPOINT_URL_S3` name other endpoints. One on this machine is an
//! emulator: it asks for a signature and doesn't look at it, so any keys will do, and any region.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::meta::credentials::CredentialsProviderChain;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;

use aws_types::service_config::ServiceConfigKey;
use object_store::aws::{AmazonS3Builder, AwsCredential};
use object_store::{BackoffConfig, ClientOptions, CredentialProvider, RetryConfig};
use tokio::sync::Mutex;

use crate::error::{Error, ErrorKind, Result};

/// Time for a connection to be made.
const CONNECT_MAX: Duration = Duration::from_secs(3);
/// Time for one attempt of one call of the SDK.
const ATTEMPT_MAX: Duration = Duration::from_secs(15);
/// Retries of one request to an object store, within the time that it may take.
const BUCKET_RETRIES_MAX: usize = 5;
/// Keys are asked for anew when they are valid for less than this.
const KEYS_VALID_MIN: Duration = Duration::from_secs(300);
/// The region of an endpoint on this machine, where none is named.
const ANY_REGION: &str = "us-east-1";

/// Where to go for one service, and with which keys.
#[derive(Debug, Clone)]
pub struct Account {
    shared: SdkConfig,
    /// The region; `None` where nothing names one.
    pub region: Option<Region>,
    /// Another endpoint than the region's own.
    pub endpoint_url: Option<String>,
    keys: Option<SharedCredentialsProvider>,
}

impl Account {
    /// For `service`, "Kinesis" or "S3". Sends nothing yet, except what a profile's providers ask for.
    pub async fn of(
        service: &'static str,
        region: Option<&str>,
        endpoint_url: Option<&str>,
        keys: Option<Credentials>,
    ) -> Self {
        let http =
            aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
        let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_MAX).operation_attempt_timeout(ATTEMPT_MAX);
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .http_client(http)
            .timeout_config(timeouts.build())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
        if let Some(region) = region {
            loader = loader.region(Region::new(region.to_string()));
        }
        if let Some(endpoint_url) = endpoint_url {
            loader = loader.endpoint_url(endpoint_url);
        }
        let shared = loader.load().await;
        let endpoint_url = endpoint_url.map(str::to_string).or_else(|| endpoint_of(&shared, service));
        let is_loopback = endpoint_url.as_deref().is_some_and(is_loopback);
        let region = shared.region().cloned().or_else(|| is_loopback.then(|| Region::from_static(ANY_REGION)));
        let keys = match keys {
            Some(keys) => Some(SharedCredentialsProvider::new(keys)),
            None if is_loopback => {
                let any = Credentials::new("loopback", "loopback", None, None, "loopback");
                let environment = EnvironmentVariableCredentialsProvider::new();
                let either = CredentialsProviderChain::first_try("environment", environment).or_else("loopback", any);
                Some(SharedCredentialsProvider::new(either))
            }
            None => shared.credentials_provider(),
        };
        Self { shared, region, endpoint_url, keys }
    }

    /// For clients of the SDK. Endpoints that differ by service are found by the client itself.
    pub fn config(&self) -> SdkConfig {
        let mut config = self.shared.to_builder().region(self.region.clone());
        config.set_credentials_provider(self.keys.clone());
        config.build()
    }
}

/// An object store over a bucket, at the place and with the keys that AWS's own tools would take.
///
/// # Errors
/// `Config` when nothing names a region.
pub async fn bucket(name: &str, request_max: Duration) -> Result<AmazonS3Builder> {
    let account = Account::of("S3", None, None, None).await;
    let Some(region) = &account.region else {
        return Err(Error::new(ErrorKind::Config, format!("no AWS region for the bucket \"{name}\""))
            .with_hint("set AWS_REGION, or AWS_PROFILE with a region in it"));
    };
    let backoff = BackoffConfig::default();
    let retry = RetryConfig { backoff, max_retries: BUCKET_RETRIES_MAX, retry_timeout: request_max };
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(name)
        .with_region(region.as_ref())
        .with_retry(retry)
        .with_client_options(ClientOptions::new().with_timeout(request_max).with_connect_timeout(CONNECT_MAX));
    if let Some(endpoint_url) = &account.endpoint_url {
        // Plain HTTP is somebody's own endpoint, named on purpose.
        builder = builder.with_endpoint(endpoint_url).with_allow_http(endpoint_url.starts_with("http://"));
    }
    if let Some(provider) = account.keys {
        builder = builder.with_credentials(Arc::new(Keys { provider, held: Mutex::default() }));
    }
    Ok(builder)
}

/// Keys for an object store, kept as long as they are valid.
#[derive(Debug)]
struct Keys {
    provider: SharedCredentialsProvider,
    held: Mutex<Option<(Arc<AwsCredential>, Option<SystemTime>)>>,
}

#[async_trait]
impl CredentialProvider for Keys {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let mut held = self.held.lock().await;
        let valid = |until: &Option<SystemTime>| until.is_none_or(|until| until > now() + KEYS_VALID_MIN);
        if let Some((keys, until)) = held.as_ref()
            && valid(until)
        {
            return Ok(Arc::clone(keys));
        }
        let found = self.provider.provide_credentials().await.map_err(|error| {
            let hint = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE";
            let source = format!("no AWS credentials: {error}; {hint}").into();
            object_store::Error::Generic { store: "S3", source }
        })?;
        let keys = Arc::new(AwsCredential {
            key_id: found.access_key_id().to_string(),
            secret_key: found.secret_access_key().to_string(),
            token: found.session_token().map(str::to_string),
        });
        *held = Some((Arc::clone(&keys), found.expiry()));
        Ok(keys)
    }
}

fn now() -> SystemTime {
    SystemTime::from(chrono::Utc::now())
}

/// `AWS_ENDPOINT_URL_<SERVICE>`, `AWS_ENDPOINT_URL`, or their like in the profile.
fn endpoint_of(shared: &SdkConfig, service: &'static str) -> Option<String> {
    let key = ServiceConfigKey::builder().service_id(service).env("AWS_ENDPOINT_URL").profile("endpoint_url").build();
    let own = shared.service_config().and_then(|config| config.load_config(key.ok()?));
    own.or_else(|| shared.endpoint_url().map(str::to_string))
}

/// Is it on this machine?
fn is_loopback(endpoint: &str) -> bool {
    match url::Url::parse(endpoint).ok().as_ref().and_then(url::Url::host) {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn loopback_endpoints() {
        for (url, expected) in [
            ("http://127.0.0.1:4567", true),
            ("http://localhost:4567/", true),
            ("http://[::1]:4567", true),
            ("https://kinesis.ap-south-1.amazonaws.com", false),
            ("http://10.0.0.1:4567", false),
            ("nonsense", false),
        ] {
            assert_eq!(is_loopback(url), expected, "{url}");
        }
    }

    /// Hands out other keys each time, valid for so long.
    #[derive(Debug)]
    struct Rotating(AtomicU64, Duration);

    impl ProvideCredentials for Rotating {
        fn provide_credentials<'a>(&'a self) -> aws_credential_types::provider::future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            let n = self.0.fetch_add(1, Ordering::Relaxed).to_string();
            let until = now() + self.1;
            let keys = Credentials::new(n, "secret", Some("token".into()), Some(until), "rotating");
            aws_credential_types::provider::future::ProvideCredentials::ready(Ok(keys))
        }
    }

    #[tokio::test]
    async fn keys_are_kept_until_they_end() {
        let keys = |valid| Keys {
            provider: SharedCredentialsProvider::new(Rotating(AtomicU64::new(1), valid)),
            held: Mutex::default(),
        };
        let long = keys(Duration::from_secs(3600));
        let short = keys(KEYS_VALID_MIN);
        for n in ["1", "2"] {
            assert_eq!(long.get_credential().await.unwrap().key_id, "1");
            assert_eq!(short.get_credential().await.unwrap().key_id, n);
        }
        assert_eq!(long.get_credential().await.unwrap().token.as_deref(), Some("token"));
    }

    #[tokio::test]
    async fn an_endpoint_on_this_machine_needs_no_account() {
        let account = Account::of("Kinesis", None, Some("http://127.0.0.1:1"), None).await;
        assert!(account.region.is_some() && account.keys.is_some());
        assert_eq!(account.endpoint_url.as_deref(), Some("http://127.0.0.1:1"));
    }
}
