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
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tonic::Request;
use tonic::metadata::MetadataMap;

use super::Backend;
use crate::catalog::Principal;
use crate::catalog::access::secret;
use crate::error::{Error, ErrorKind, Result};

/// Log-ins that may fail before the next has to wait.
const FAILURES_FREE: u32 = 5;

/// The longest that a log-in has to wait after failures.
const WAIT_MAX: Duration = Duration::from_secs(60);

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

/// Lets in those who are known, and slows down those who guess.
pub(crate) struct Doorkeeper {
    failures: Mutex<HashMap<(String, Option<IpAddr>), Failures>>,
    hashing: Semaphore,
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
        Self { failures: Mutex::default(), hashing: Semaphore::new(at_once_max) }
    }

    /// Who it is. `of_session`: the user of the session that came along.
    pub(crate) async fn principal(
        &self,
        backend: &dyn Backend,
        credentials: Credentials,
        of_session: Option<String>,
        peer: Option<IpAddr>,
    ) -> Result<Principal> {
        let access = backend.access().await?;
        if access.is_open() {
            return Ok(Principal::local());
        }
        match credentials {
            Credentials::Password { user, password } => self.log_in(backend, &user, &password, peer).await,
            Credentials::Token(token) => backend.token_principal(&token).await,
            Credentials::Session | Credentials::None => {
                let known = of_session.and_then(|user| access.principal(&user));
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
        backend: &dyn Backend,
        user: &str,
        password: &str,
        peer: Option<IpAddr>,
    ) -> Result<Principal> {
        let key = (user.to_string(), peer);
        let before = self.failures.lock().get(&key).copied();
        if let Some(left) = before.and_then(|before| before.wait().checked_sub(before.last.elapsed()))
            && !left.is_zero()
        {
            return Err(Error::new(ErrorKind::Unauthenticated, "too many log-ins have failed")
                .with_hint(format!("try again in {} s", left.as_secs() + 1)));
        }
        let _turn = self.hashing.acquire().await;
        let outcome = backend.log_in(user, password).await;
        let mut failures = self.failures.lock();
        match &outcome {
            Ok(_) => drop(failures.remove(&key)),
            Err(error) if error.kind() == ErrorKind::Unauthenticated => {
                if failures.len() >= REMEMBERED_MAX {
                    failures.retain(|_, failure| failure.last.elapsed() < WAIT_MAX);
                }
                let count = before.map_or(0, |before| before.count) + 1;
                failures.insert(key, Failures { count, last: Instant::now() });
                tracing::warn!(user, ?peer, count, "a log-in failed");
            }
            Err(_) => {}
        }
        outcome
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
