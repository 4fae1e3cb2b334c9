//! Speaking to Kinesis: configuration the AWS way, and what an answer that isn't the wanted one means.
//!
//! ```text
//!  spec ─▶ region: spec, ARN, environment, profile      endpoint: spec, AWS_ENDPOINT_URL[_KINESIS], region's own
//!          credentials: environment, profile, SSO, process, container, instance
//!  SdkError ─▶ Fault: what to do about it
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::meta::credentials::CredentialsProviderChain;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::{Credentials, StalledStreamProtectionConfig};
use aws_sdk_kinesis::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_types::service_config::ServiceConfigKey;

use super::lineage::Shard;
use crate::error::{Error, ErrorKind, Result};
use crate::source::KinesisSpec;

/// Time for the connection to be made.
const CONNECT_MAX: Duration = Duration::from_secs(3);
/// Time for one attempt of one call.
const ATTEMPT_MAX: Duration = Duration::from_secs(15);
/// Attempts of a call that describes or lists; reading and writing have their own retries.
const ATTEMPTS_MAX: u32 = 3;
/// Pages of shards; a page holds up to 1,000.
const SHARD_PAGES_MAX: usize = 100;

/// A connection, and where it goes.
#[derive(Debug, Clone)]
pub(in crate::source) struct Connection {
    /// Retries by itself, a few times.
    patient: Client,
    /// Gives every fault to the caller.
    pub(in crate::source) plain: Client,
    pub(in crate::source) stream: String,
    pub(in crate::source) arn: Option<String>,
    /// `stream E_com in ap-south-1 at http://127.0.0.1:4567`, for messages.
    place: String,
}

/// Why a call failed, as far as the caller must know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::source) enum Fault {
    /// Too fast: wait and go on, for ever.
    Throttled,
    /// The iterator is too old: make a new one.
    Expired,
    /// The stream or shard isn't there.
    NotFound(String),
    /// An argument is refused.
    Invalid(String),
    /// A passing fault of the network or the service.
    Passing(String),
    /// Nothing that time would mend: permissions, credentials, keys.
    Refused(String),
}

impl Connection {
    /// Read the configuration; nothing is sent yet except what finding credentials takes.
    pub(in crate::source) async fn open(spec: &KinesisSpec, credentials: Option<Credentials>) -> Result<Self> {
        let http =
            aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
        let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_MAX).operation_attempt_timeout(ATTEMPT_MAX);
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .http_client(http)
            .timeout_config(timeouts.build())
            .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS_MAX))
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
        if let Some(region) = &spec.region {
            loader = loader.region(Region::new(region.clone()));
        }
        if let Some(endpoint) = &spec.endpoint_url {
            loader = loader.endpoint_url(endpoint);
        }
        let shared = loader.load().await;
        let endpoint = spec.endpoint_url.clone().or_else(|| endpoint_of(&shared));
        let is_loopback = endpoint.as_deref().is_some_and(is_loopback);
        let Some(region) = shared.region().cloned().or_else(|| is_loopback.then(|| Region::from_static("us-east-1")))
        else {
            return Err(Error::new(ErrorKind::Source, format!("no AWS region for Kinesis stream {}", spec.name()))
                .with_hint("name it in the location, kinesis://ap-south-1/E_com, or set AWS_REGION"));
        };
        let mut config = aws_sdk_kinesis::config::Builder::from(&shared).region(region.clone());
        if let Some(credentials) = credentials {
            config = config.credentials_provider(credentials);
        } else if is_loopback {
            // An emulator on this machine asks for a signature and doesn't look at it.
            let placeholder = Credentials::new("loopback", "loopback", None, None, "loopback");
            let environment = EnvironmentVariableCredentialsProvider::new();
            let either =
                CredentialsProviderChain::first_try("environment", environment).or_else("loopback", placeholder);
            config = config.credentials_provider(either);
        }
        let config = config.build();
        let plain = config.to_builder().retry_config(RetryConfig::disabled()).build();
        let at = endpoint.map_or_else(String::new, |endpoint| format!(" at {endpoint}"));
        Ok(Self {
            patient: Client::from_conf(config),
            plain: Client::from_conf(plain),
            stream: spec.name().to_string(),
            arn: spec.arn().map(str::to_string),
            place: format!("stream {} in {region}{at}", spec.name()),
        })
    }

    /// The stream's creation time, which tells one stream of this name from another.
    pub(super) async fn incarnation(&self) -> Result<String> {
        let call = self.patient.describe_stream_summary().stream_name(&self.stream).set_stream_arn(self.arn.clone());
        let summary = call.send().await.map_err(|error| self.error("describe", &fault(&error)))?;
        let created = summary.stream_description_summary.map(|summary| summary.stream_creation_timestamp);
        let created = created.ok_or_else(|| self.error("describe", &Fault::Passing("an empty answer".into())))?;
        Ok(created.to_millis().map_or_else(|_| created.secs().to_string(), |ms| ms.to_string()))
    }

    /// Every shard that is listed, open or closed.
    pub(super) async fn shards(&self) -> Result<BTreeMap<String, Shard>> {
        let mut shards = BTreeMap::new();
        let mut token: Option<String> = None;
        for _ in 0..SHARD_PAGES_MAX {
            let call = match token.take() {
                Some(token) => self.patient.list_shards().next_token(token),
                None => self.patient.list_shards().stream_name(&self.stream).set_stream_arn(self.arn.clone()),
            };
            let page = match call.send().await {
                Ok(page) => page,
                Err(error) if error.code() == Some("ExpiredNextTokenException") => {
                    shards.clear();
                    continue;
                }
                Err(error) => return Err(self.error("list the shards of", &fault(&error))),
            };
            for shard in page.shards.unwrap_or_default() {
                let parents = [shard.parent_shard_id, shard.adjacent_parent_shard_id];
                let closed = shard.sequence_number_range.is_some_and(|range| range.ending_sequence_number.is_some());
                shards.insert(shard.shard_id, Shard { parents: parents.into_iter().flatten().collect(), closed });
            }
            token = page.next_token;
            if token.is_none() {
                return Ok(shards);
            }
        }
        Err(self.error("list the shards of", &Fault::Refused(format!("more than {SHARD_PAGES_MAX} pages of shards"))))
    }

    /// The error for people: what could not be done, where, and what may help.
    pub(in crate::source) fn error(&self, doing: &str, fault: &Fault) -> Error {
        let (why, hint) = match fault {
            Fault::Throttled => {
                ("the service is throttling".to_string(), "fewer readers, or a stream with more shards")
            }
            Fault::Expired => ("the iterator expired".to_string(), "this is retried; if it stays, look at the clock"),
            Fault::NotFound(_) => {
                ("there is no such stream".to_string(), "look at the name, the region and the account")
            }
            Fault::Invalid(why) => (why.clone(), "the stream may have been made anew; look at its name and region"),
            Fault::Passing(why) => (why.clone(), "look at the endpoint (AWS_ENDPOINT_URL), the region and the network"),
            Fault::Refused(why) if why.contains("redential") => (
                why.clone(),
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE (a local emulator takes any values)",
            ),
            Fault::Refused(why) => (why.clone(), "look at the permissions and the keys of this account"),
        };
        Error::new(ErrorKind::Source, format!("cannot {doing} Kinesis {}: {why}", self.place)).with_hint(hint)
    }

    pub(super) fn place(&self) -> &str {
        &self.place
    }
}

/// `AWS_ENDPOINT_URL_KINESIS`, `AWS_ENDPOINT_URL`, or their like in the profile.
fn endpoint_of(shared: &SdkConfig) -> Option<String> {
    let key = ServiceConfigKey::builder().service_id("Kinesis").env("AWS_ENDPOINT_URL").profile("endpoint_url").build();
    let own = shared.service_config().and_then(|service| service.load_config(key.ok()?));
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

/// What an SDK error means.
pub(in crate::source) fn fault<E, R>(error: &SdkError<E, R>) -> Fault
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: std::fmt::Debug,
{
    let text = || root_cause(error);
    match error {
        SdkError::ServiceError(service) => {
            let message = service.err().message().unwrap_or_default().to_string();
            by_code(service.err().code().unwrap_or_default(), message)
        }
        SdkError::TimeoutError(_) => Fault::Passing("no answer in time".to_string()),
        SdkError::DispatchFailure(_) | SdkError::ConstructionFailure(_) if text().contains("redential") => {
            Fault::Refused(text())
        }
        SdkError::ConstructionFailure(_) => Fault::Refused(text()),
        _ => Fault::Passing(text()),
    }
}

fn by_code(code: &str, message: String) -> Fault {
    match code {
        "ProvisionedThroughputExceededException"
        | "LimitExceededException"
        | "KMSThrottlingException"
        | "ThrottlingException"
        | "Throttling" => Fault::Throttled,
        "ExpiredIteratorException" => Fault::Expired,
        "ResourceNotFoundException" => Fault::NotFound(message),
        "InvalidArgumentException" | "ValidationException" => Fault::Invalid(format!("{code}: {message}")),
        "InternalFailure"
        | "InternalFailureException"
        | "ServiceUnavailable"
        | "ServiceUnavailableException"
        | "ResourceInUseException"
        | "RequestTimeout"
        | "" => Fault::Passing(format!("{code} {message}").trim().to_string()),
        _ => Fault::Refused(format!("{code}: {message}")),
    }
}

/// The innermost cause, which names the port that refused or the provider that had no credentials.
fn root_cause<E, R>(error: &SdkError<E, R>) -> String
where
    E: std::error::Error + 'static,
    R: std::fmt::Debug,
{
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(error);
    let mut text = None;
    while let Some(inner) = cause {
        text = Some(inner.to_string());
        cause = inner.source();
    }
    text.unwrap_or_else(|| DisplayErrorContext(error).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn codes_say_what_to_do() {
        let of = |code: &str| by_code(code, "m".into());
        assert_eq!(of("ProvisionedThroughputExceededException"), Fault::Throttled);
        assert_eq!(of("KMSThrottlingException"), Fault::Throttled);
        assert_eq!(of("ExpiredIteratorException"), Fault::Expired);
        assert_eq!(of("ResourceNotFoundException"), Fault::NotFound("m".into()));
        assert_eq!(of("InvalidArgumentException"), Fault::Invalid("InvalidArgumentException: m".into()));
        assert_eq!(of("InternalFailure"), Fault::Passing("InternalFailure m".into()));
        assert_eq!(of("AccessDeniedException"), Fault::Refused("AccessDeniedException: m".into()));
    }
}
