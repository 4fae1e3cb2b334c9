//! Speaking to Kinesis: what is asked of it, and what an answer that isn't the wanted one means.
//!
//! ```text
//!  spec ─▶ aws::Account ─▶ clients, one of which retries by itself
//!  SdkError ─▶ Fault: what to do about it
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::Credentials;
use aws_sdk_kinesis::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_kinesis::types::{ConsumerStatus, RecordDistributionStrategy};

use super::aggregate::HashRange;
use super::lineage::Shard;
use crate::aws::Account;
use crate::error::{Error, ErrorKind, Result};
use crate::source::KinesisSpec;

/// Attempts of a call that describes or lists; reading and writing have their own retries.
const ATTEMPTS_MAX: u32 = 3;
/// Looks whether a consumer is ready, and the wait between two of them.
const CONSUMER_LOOKS_MAX: u32 = 60;
const CONSUMER_LOOK_WAIT: Duration = Duration::from_millis(500);
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

/// A stream as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Description {
    pub(super) arn: String,
    /// When it was made, which tells it from another of its name.
    pub(super) created: String,
    /// A record's key decides on its shard, not the service.
    pub(super) by_key: bool,
    /// How long it keeps a record, in milliseconds.
    pub(super) retention_ms: i64,
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
        let endpoint_url = spec.endpoint_url.as_deref();
        let account = Account::of("Kinesis", spec.region.as_deref(), endpoint_url, credentials).await;
        let Some(region) = &account.region else {
            return Err(Error::new(ErrorKind::Source, format!("no AWS region for Kinesis stream {}", spec.name()))
                .with_hint("name it in the location, kinesis://ap-south-1/E_com, or set AWS_REGION"));
        };
        let retry = RetryConfig::standard().with_max_attempts(ATTEMPTS_MAX);
        let config = aws_sdk_kinesis::config::Builder::from(&account.config()).retry_config(retry);
        let config = config.build();
        let plain = config.to_builder().retry_config(RetryConfig::disabled()).build();
        let at = account.endpoint_url.as_ref().map_or_else(String::new, |endpoint| format!(" at {endpoint}"));
        Ok(Self {
            patient: Client::from_conf(config),
            plain: Client::from_conf(plain),
            stream: spec.name().to_string(),
            arn: spec.arn().map(str::to_string),
            place: format!("stream {} in {region}{at}", spec.name()),
        })
    }

    /// What the service says of the stream as a whole.
    pub(super) async fn describe(&self) -> Result<Description> {
        let call = self.patient.describe_stream_summary().stream_name(&self.stream).set_stream_arn(self.arn.clone());
        let summary = call.send().await.map_err(|error| self.error("describe", &fault(&error)))?;
        let summary = summary.stream_description_summary;
        let summary = summary.ok_or_else(|| self.error("describe", &Fault::Passing("an empty answer".into())))?;
        let created = summary.stream_creation_timestamp;
        let created = created.to_millis().map_or_else(|_| created.secs().to_string(), |ms| ms.to_string());
        let by_key = summary.record_distribution_strategy != Some(RecordDistributionStrategy::Auto);
        let retention_ms = i64::from(summary.retention_period_hours) * 3_600_000;
        Ok(Description { arn: summary.stream_arn, created, by_key, retention_ms })
    }

    /// The ARN of the enhanced fan-out consumer of this name, which is registered where there is none.
    pub(super) async fn consumer(&self, stream_arn: &str, name: &str) -> Result<String> {
        let mut last = Fault::Passing("it was not ready in time".into());
        for _ in 0..CONSUMER_LOOKS_MAX {
            let call = self.patient.describe_stream_consumer().stream_arn(stream_arn).consumer_name(name);
            let found = call.send().await.map_err(|error| fault(&error));
            match found.map(|answer| answer.consumer_description) {
                Ok(Some(consumer)) if consumer.consumer_status == ConsumerStatus::Active => {
                    return Ok(consumer.consumer_arn);
                }
                Ok(_) => {}
                Err(Fault::NotFound(_)) => {
                    let call = self.patient.register_stream_consumer().stream_arn(stream_arn).consumer_name(name);
                    if let Err(error) = call.send().await {
                        last = fault(&error);
                    }
                }
                Err(fault) => last = fault,
            }
            if matches!(last, Fault::Refused(_) | Fault::Invalid(_)) {
                break;
            }
            tokio::time::sleep(CONSUMER_LOOK_WAIT).await;
        }
        Err(self.error(&format!("register the consumer {name} of"), &last))
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
                let owned = shard.hash_key_range.and_then(|range| {
                    let (from, to) = (range.starting_hash_key.parse().ok()?, range.ending_hash_key.parse().ok()?);
                    Some(HashRange { from, to })
                });
                shards
                    .insert(shard.shard_id, Shard { parents: parents.into_iter().flatten().collect(), closed, owned });
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
        // Another subscription of this consumer began less than five seconds ago, or the consumer is being made.
        | "ResourceInUseException"
        | "ThrottlingException"
        | "Throttling" => Fault::Throttled,
        "ExpiredIteratorException" => Fault::Expired,
        "ResourceNotFoundException" => Fault::NotFound(message),
        "InvalidArgumentException" | "ValidationException" => Fault::Invalid(format!("{code}: {message}")),
        "InternalFailure"
        | "InternalFailureException"
        | "ServiceUnavailable"
        | "ServiceUnavailableException"
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
