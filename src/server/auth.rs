//! Who calls.
//!
//! ```text
//!   authorization: Basic name:password ─▶ throttle ─▶ Argon2id ─▶ Principal
//!                  Bearer flash_...    ─▶ digest of a personal token ─▶ Principal
//!                  Bearer ...          ─▶ the session that a handshake began ─▶ its user, as they stand now
//!   nothing                            ─▶ the session of the cookie, or UNAUTHENTICATED
//! ```
//!
//! In a lake without users everybody is local. What a user may do is looked up at every call: a dropped or disabled user,
//! or a right that was taken, is out at once, whatever session, statement or result there is.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tonic::Request;
use tonic::metadata::MetadataMap;

use super::Backend;
use super::sessions::Session;
use crate::catalog::Principal;
use crate::catalog::access::secret;
use crate::error::{Error, ErrorKind, Result};

/// Log-ins that may fail before the next has to wait.
const FAILURES_FREE: u32 = 5;

/// The longest that a log-in has to wait after failures.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// How long a log-in waits for its turn.
const HASHING_WAIT_MAX: Duration = Duration::from_secs(10);

/// The longest name, in bytes; the parser allows no longer one.
const USER_BYTES_MAX: usize = 128;

/// Addresses and names whose failures are remembered.
const REMEMBERED_MAX: usize = 10_000;

/// What of a call tells who it is from.
pub(crate) struct Call {
    pub(crate) metadata: MetadataMap,
    pub(crate) peer: Option<IpAddr>,
}

impl Call {
    pub(crate) fn of<T>(request: &Request<T>) -> Self {
        let peer = request.remote_addr().map(|addr| addr.ip());
        Self { metadata: request.metadata().clone(), peer }
    }
}

/// What a call says of who it is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Credentials {
    /// Nothing.
    None,
    /// A name and a password.
    Password { user: String, password: String },
    /// A personal access token.
    Token(String),
    /// The token of a session.
    Session,
    /// Something else.
    Unknown,
}

impl Credentials {
    /// As the `authorization` header has it.
    pub(crate) fn read(metadata: &MetadataMap) -> Self {
        let header = metadata.get("authorization").map(|value| value.to_str());
        match header {
            None => Self::None,
            Some(Ok(text)) => Self::of(text),
            Some(Err(_)) => Self::Unknown,
        }
    }

    /// As the header's text has it.
    pub(crate) fn of(text: &str) -> Self {
        let Some((scheme, rest)) = text.split_once(' ') else { return Self::Unknown };
        if scheme.eq_ignore_ascii_case("bearer") {
            let token = rest.trim();
            return match token.starts_with(secret::TOKEN_PREFIX) {
                true => Self::Token(token.to_string()),
                false => Self::Session,
            };
        }
        let decoded = STANDARD.decode(rest.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        match decoded.as_deref().and_then(|text| text.split_once(':')) {
            Some((user, password)) if scheme.eq_ignore_ascii_case("basic") => {
                Self::Password { user: user.to_string(), password: password.to_string() }
            }
            _ => Self::Unknown,
        }
    }
}

/// Who it is, and how that is known.
pub(crate) struct Known {
    pub(crate) principal: Principal,
    /// When they logged in.
    pub(crate) since: Instant,
    /// What the log-in rests on; `None` in a lake without users.
    pub(crate) basis: Option<String>,
}

/// Lets in those who are known, and slows down those who guess.
pub(crate) struct Doorkeeper {
    failures: Mutex<HashMap<(String, Option<IpAddr>), Failures>>,
    hashing: Arc<Semaphore>,
}

#[derive(Debug, Clone, Copy)]
struct Failures {
    count: u32,
    last: Instant,
}

impl Failures {
    /// How long after the last failure the next attempt has to wait: doubled with each failure beyond the free ones.
    fn wait(self) -> Duration {
        match self.count.checked_sub(FAILURES_FREE) {
            None => Duration::ZERO,
            Some(beyond) => Duration::from_secs(1u64 << beyond.min(6)).min(WAIT_MAX),
        }
    }
}

impl Doorkeeper {
    /// `at_once_max`: passwords that are hashed at the same time; each takes some 20 MB.
    pub(crate) fn new(at_once_max: usize) -> Self {
        Self { failures: Mutex::default(), hashing: Arc::new(Semaphore::new(at_once_max)) }
    }

    /// Who it is. `of_session`: the session that came along, and its user.
    pub(crate) async fn known(
        &self,
        backend: &Arc<dyn Backend>,
        credentials: Credentials,
        of_session: Option<(String, Session)>,
        peer: Option<IpAddr>,
    ) -> Result<Known> {
        let (access, now) = (backend.access().await?, Instant::now());
        if access.is_open() {
            return Ok(Known { principal: Principal::local(), since: now, basis: None });
        }
        match credentials {
            Credentials::Password { user, password } => {
                let principal = self.log_in(backend, &user, password, peer).await?;
                Ok(Known { principal, since: now, basis: access.password_basis(&user) })
            }
            Credentials::Token(token) => {
                let principal = backend.token_principal(&token).await?;
                Ok(Known { principal, since: now, basis: Some(secret::digest(&token)) })
            }
            Credentials::Session | Credentials::None => {
                let now_us = chrono::Utc::now().timestamp_micros();
                let known = of_session.and_then(|(user, Session { since, basis, .. })| {
                    // The password has changed, or the token is gone: so is what began with it.
                    let basis = basis.filter(|basis| access.stands(&user, basis, now_us))?;
                    Some(Known { principal: access.principal(&user)?, since, basis: Some(basis) })
                });
                known.ok_or_else(|| match credentials {
                    Credentials::None => who(),
                    _ => Error::new(ErrorKind::Unauthenticated, "the session has ended")
                        .with_hint("log in again with name and password, or with a personal access token"),
                })
            }
            Credentials::Unknown => Err(who()),
        }
    }

    async fn log_in(
        &self,
        backend: &Arc<dyn Backend>,
        user: &str,
        password: String,
        peer: Option<IpAddr>,
    ) -> Result<Principal> {
        if user.len() > USER_BYTES_MAX || password.len() > secret::PASSWORD_BYTES_MAX {
            return Err(Error::new(ErrorKind::Unauthenticated, "the name or the password is wrong"));
        }
        let key = (user.to_string(), peer);
        self.count(&key)?;
        let turn = tokio::time::timeout(HASHING_WAIT_MAX, Arc::clone(&self.hashing).acquire_owned()).await;
        let Ok(Ok(turn)) = turn else {
            return Err(Error::new(ErrorKind::Transient, "too many log-ins at once").with_hint("try again"));
        };
        // In a task of its own, with its turn: a client that hangs up makes no room for the next before it is done.
        let (backend, name) = (Arc::clone(backend), key.0.clone());
        let hashed = tokio::spawn(async move {
            let _turn = turn;
            backend.log_in(&name, &password).await
        });
        let outcome = hashed.await.unwrap_or_else(|error| Err(Error::new(ErrorKind::Internal, error.to_string())));
        match &outcome {
            Ok(_) => drop(self.failures.lock().remove(&key)),
            Err(error) => tracing::warn!(user, ?peer, %error, "a log-in failed"),
        }
        outcome
    }

    /// Count an attempt as a failure, until it has succeeded: of many at once, the first ones are tried.
    fn count(&self, key: &(String, Option<IpAddr>)) -> Result<()> {
        let mut failures = self.failures.lock();
        let before = failures.get(key).copied();
        if let Some(left) = before.and_then(|before| before.wait().checked_sub(before.last.elapsed()))
            && !left.is_zero()
        {
            return Err(Error::new(ErrorKind::Unauthenticated, "too many log-ins have failed")
                .with_hint(format!("try again in {} s", left.as_secs() + 1)));
        }
        if failures.len() >= REMEMBERED_MAX {
            failures.retain(|_, failure| failure.last.elapsed() < failure.wait());
        }
        if failures.len() >= REMEMBERED_MAX {
            return Err(Error::new(ErrorKind::Transient, "too many log-ins fail at the moment").with_hint("try again"));
        }
        let count = before.map_or(0, |before| before.count).saturating_add(1);
        failures.insert(key.clone(), Failures { count, last: Instant::now() });
        Ok(())
    }
}

fn who() -> Error {
    Error::new(ErrorKind::Unauthenticated, "say who you are")
        .with_hint("log in with name and password, or send a personal access token: authorization: Bearer flash_...")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_understood() {
        let basic = |text: &str| Credentials::of(&format!("Basic {}", STANDARD.encode(text)));
        let password = |user: &str, password: &str| Credentials::Password {
            user: user.to_string(),
            password: password.to_string(),
        };
        assert_eq!(basic("ann:a:b"), password("ann", "a:b"));
        assert_eq!(Credentials::of("bearer flash_12"), Credentials::Token("flash_12".into()));
        assert_eq!(Credentials::of("Bearer 12"), Credentials::Session);
        for wrong in ["", "Basic", "Basic ???", "Digest x", &format!("Basic {}", STANDARD.encode("nocolon"))] {
            assert_eq!(Credentials::of(wrong), Credentials::Unknown, "{wrong}");
        }
    }

    #[test]
    fn who_guesses_waits_longer_and_longer() {
        let wait = |count| Failures { count, last: Instant::now() }.wait().as_secs();
        assert_eq!([0, 4, 5, 6, 8, 11, 1000].map(wait), [0, 0, 1, 2, 8, 60, 60]);
    }
}
