//! Who calls.
//!
//! ```text
//!   authorization: Basic name:password ─▶ throttle ─▶ Argon2id ─▶ Principal
//!                  Bearer flash_...    ─▶ digest of a personal token ─▶ Principal
//!                  Bearer a.b.c        ─▶ the issuer's signature (`jwt`) ─▶ the user it names
//!                  Bearer ...          ─▶ the session that a handshake began ─▶ its user, as they stand now
//!   nothing                            ─▶ the session of the cookie, or the user of the client's certificate,
//!                                         or UNAUTHENTICATED
//! ```
//!
//! In a lake without users everybody on this machine is local. What a user may do is looked up at every call: a dropped or
//! disabled user, or a right that was taken, is out at once, whatever session, statement or result there is.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::HeaderMap;
use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tonic::metadata::MetadataMap;
use tonic::{Request, Status};

use super::jwt::Issuer;
use super::listener::Peer;
use super::sessions::Session;
use super::{Backend, Limits};
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

/// Base64 with its padding, or without: Go's Flight client, which ADBC is made of, leaves it out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Addresses and names whose failures are remembered.
const REMEMBERED_MAX: usize = 10_000;

/// What of a call tells who it is from.
pub(crate) struct Call {
    pub(crate) metadata: MetadataMap,
    pub(crate) peer: Peer,
    /// Where they come in.
    pub(crate) door: &'static str,
}

impl Call {
    /// Of a gRPC request.
    pub(crate) fn of<T>(request: &Request<T>) -> std::result::Result<Self, Status> {
        let peer = request.extensions().get::<Peer>().cloned();
        let peer = peer.ok_or_else(|| Status::internal("a call from nowhere"))?;
        Ok(Self { metadata: request.metadata().clone(), peer, door: "flight" })
    }

    /// Of an HTTP request.
    pub(crate) fn of_http(headers: &HeaderMap, peer: &Peer) -> Self {
        Self { metadata: MetadataMap::from_headers(headers.clone()), peer: peer.clone(), door: "http" }
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
    /// The token of an issuer.
    Issued(String),
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
            return if token.starts_with(secret::TOKEN_PREFIX) {
                Self::Token(token.to_string())
            } else if is_issued(token) {
                Self::Issued(token.to_string())
            } else {
                Self::Session
            };
        }
        let decoded = BASE64.decode(rest.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        match decoded.as_deref().and_then(|text| text.split_once(':')) {
            // Many tools have no other place for a token.
            Some((_, token)) if scheme.eq_ignore_ascii_case("basic") && secret::is_token(token) => {
                Self::Token(token.to_string())
            }
            Some((user, password)) if scheme.eq_ignore_ascii_case("basic") => {
                Self::Password { user: user.to_string(), password: password.to_string() }
            }
            _ => Self::Unknown,
        }
    }
}

/// Is it in the form of an issuer's token? Those of sessions and persons have no dots.
pub(crate) fn is_issued(token: &str) -> bool {
    token.split('.').count() == 3
}

/// What a log-in rests on; it ends with that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Basis {
    /// Nothing: the lake has no users.
    Open,
    /// A password, by its digest.
    Password(String),
    /// A personal token, by its digest.
    Token(String),
    /// The token of an issuer, until it expires: microseconds since 1970 UTC.
    Issued { until_us: i64 },
    /// The certificate of the connection.
    Certificate,
}

/// Who it is, and how that is known.
pub(crate) struct Known {
    pub(crate) principal: Principal,
    /// When they logged in.
    pub(crate) since: Instant,
    pub(crate) basis: Basis,
}

/// Lets in those who are known, and slows down those who guess.
pub(crate) struct Doorkeeper {
    failures: Mutex<HashMap<(String, IpAddr), Failures>>,
    hashing: Arc<Semaphore>,
    first_wait: Duration,
    issuer: Option<Issuer>,
    /// In a lake without users, let in those from other machines, too.
    insecure: bool,
}

#[derive(Debug, Clone, Copy)]
struct Failures {
    count: u32,
    last: Instant,
}

impl Failures {
    /// How long after the last failure the next attempt has to wait: doubled with each failure beyond the free ones.
    fn wait(self, first: Duration) -> Duration {
        match self.count.checked_sub(FAILURES_FREE) {
            None => Duration::ZERO,
            Some(beyond) => (first * (1 << beyond.min(6))).min(WAIT_MAX),
        }
    }
}

impl Doorkeeper {
    pub(crate) fn new(limits: &Limits, issuer: Option<Issuer>, insecure: bool) -> Self {
        let hashing = Arc::new(Semaphore::new(limits.log_ins_at_once_max));
        Self { failures: Mutex::default(), hashing, first_wait: limits.log_in_wait, issuer, insecure }
    }

    /// Who it is. `of_session`: the session that came along, and its user.
    pub(crate) async fn known(
        &self,
        backend: &Arc<dyn Backend>,
        credentials: Credentials,
        of_session: Option<(String, Session)>,
        peer: &Peer,
    ) -> Result<Known> {
        let (access, now) = (backend.access().await?, Instant::now());
        if access.is_open() {
            return match peer.ip.is_loopback() || self.insecure {
                true => Ok(Known { principal: Principal::local(), since: now, basis: Basis::Open }),
                false => Err(nobody_from_elsewhere()),
            };
        }
        let user = |name: &str| {
            let unknown = || Error::new(ErrorKind::Unauthenticated, format!("{name} is no user here, or is disabled"));
            access.principal(name).ok_or_else(unknown)
        };
        match credentials {
            Credentials::Password { user, password } => {
                let principal = self.log_in(backend, &user, password, peer.ip).await?;
                // The password may have been changed meanwhile; then it is not what the log-in rests on.
                let basis = access.password_basis(&user).unwrap_or_default();
                Ok(Known { principal, since: now, basis: Basis::Password(basis) })
            }
            Credentials::Token(token) => {
                let principal = backend.token_principal(&token).await?;
                Ok(Known { principal, since: now, basis: Basis::Token(secret::digest(&token)) })
            }
            Credentials::Issued(token) => {
                let Some(issuer) = &self.issuer else { return Err(who()) };
                let issued = issuer.check(&token).await?;
                let basis = Basis::Issued { until_us: issued.until_us };
                Ok(Known { principal: user(&issued.user)?, since: now, basis })
            }
            Credentials::Session | Credentials::None => {
                let now_us = chrono::Utc::now().timestamp_micros();
                let known = of_session.and_then(|(user, Session { since, basis, .. })| {
                    // The password has changed, or the token is gone: so is what began with it.
                    let stands = match &basis {
                        Basis::Open => false,
                        Basis::Password(digest) | Basis::Token(digest) => access.stands(&user, digest, now_us),
                        Basis::Issued { until_us } => now_us < *until_us,
                        Basis::Certificate => peer.user.as_deref() == Some(&*user),
                    };
                    let principal = access.principal(&user).filter(|_| stands)?;
                    Some(Known { principal, since, basis })
                });
                match (known, credentials, &peer.user) {
                    (Some(known), ..) => Ok(known),
                    (None, Credentials::None, Some(name)) => {
                        Ok(Known { principal: user(name)?, since: now, basis: Basis::Certificate })
                    }
                    (None, Credentials::None, None) => Err(who()),
                    (None, ..) => Err(Error::new(ErrorKind::Unauthenticated, "the session has ended")
                        .with_hint("log in again with name and password, or with a personal access token")),
                }
            }
            Credentials::Unknown => Err(who()),
        }
    }

    async fn log_in(
        &self,
        backend: &Arc<dyn Backend>,
        user: &str,
        password: String,
        peer: IpAddr,
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
            Err(error) => tracing::warn!(user, %peer, %error, "a log-in failed"),
        }
        outcome
    }

    /// Count an attempt as a failure, until it has succeeded: of many at once, the first ones are tried.
    fn count(&self, key: &(String, IpAddr)) -> Result<()> {
        let mut failures = self.failures.lock();
        let before = failures.get(key).copied();
        if let Some(left) = before.and_then(|before| before.wait(self.first_wait).checked_sub(before.last.elapsed()))
            && !left.is_zero()
        {
            return Err(Error::new(ErrorKind::Unauthenticated, "too many log-ins have failed")
                .with_hint(format!("try again in {} s", left.as_secs() + 1)));
        }
        if failures.len() >= REMEMBERED_MAX {
            failures.retain(|_, failure| failure.last.elapsed() < failure.wait(self.first_wait));
        }
        if failures.len() >= REMEMBERED_MAX {
            return Err(Error::new(ErrorKind::Transient, "too many log-ins fail at the moment").with_hint("try again"));
        }
        let count = before.map_or(0, |before| before.count).saturating_add(1);
        failures.insert(key.clone(), Failures { count, last: Instant::now() });
        Ok(())
    }
}

fn nobody_from_elsewhere() -> Error {
    Error::new(ErrorKind::Unauthenticated, "this lake has no users, so nobody comes in from another machine").with_hint(
        "make the first one on the machine itself: CREATE USER name PASSWORD '...' ROLE admin; or start with --insecure",
    )
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
        let basic = |text: &str| Credentials::of(&format!("Basic {}", BASE64.encode(text)));
        let password = |user: &str, password: &str| Credentials::Password {
            user: user.to_string(),
            password: password.to_string(),
        };
        assert_eq!(basic("ann:a:b"), password("ann", "a:b"));
        assert_eq!(Credentials::of("Basic YW5uOmFi"), password("ann", "ab"));
        assert_eq!(Credentials::of("Basic YW5uOmE="), password("ann", "a"));
        assert_eq!(Credentials::of("Basic YW5uOmE"), password("ann", "a"), "Go leaves the padding out");
        assert_eq!(Credentials::of("bearer flash_12"), Credentials::Token("flash_12".into()));
        let token = secret::token();
        assert_eq!(basic(&format!("ann:{token}")), Credentials::Token(token.clone()));
        assert_eq!(basic(&format!("ann:{token}x")), password("ann", &format!("{token}x")));
        assert_eq!(Credentials::of("Bearer 12"), Credentials::Session);
        assert_eq!(Credentials::of("Bearer a.b.c"), Credentials::Issued("a.b.c".into()));
        for wrong in ["", "Basic", "Basic ???", "Digest x", &format!("Basic {}", BASE64.encode("nocolon"))] {
            assert_eq!(Credentials::of(wrong), Credentials::Unknown, "{wrong}");
        }
    }

    #[test]
    fn who_guesses_waits_longer_and_longer() {
        let wait = |count| Failures { count, last: Instant::now() }.wait(Duration::from_secs(1)).as_secs();
        assert_eq!([0, 4, 5, 6, 8, 11, 1000].map(wait), [0, 0, 1, 2, 8, 60, 60]);
    }
}
