//! Tokens of an issuer (a company's log-in service): signed, so that nobody has to be asked about each.
//!
//! ```text
//!   Bearer head.claims.signature ─▶ the issuer's key of this id ─▶ signature, iss, aud, exp, nbf ─▶ the user it names
//!                                        │ unknown: read the keys again, at most every READ_REST
//!                                        └ keys: a JWKS, from https://... or a file          (RFC 7517, RFC 7519)
//! ```
//!
//! Only signatures by public key: a shared secret would let whoever checks a token make one. A token says who it is; what
//! they may do is said by SQL, so the user must be there.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use url::Url;

use super::jws::{self, Expected, Header, Key, Keys};
use crate::error::{Error, ErrorKind, Result};

/// How long keys that came from the issuer are taken as they were.
const KEYS_AGE_MAX: Duration = Duration::from_secs(3600);

/// How long the issuer is left alone after it was asked, whatever keys are named.
const READ_REST: Duration = Duration::from_secs(10);

/// How long the issuer may take to answer.
const READ_TIME_MAX: Duration = Duration::from_secs(10);

/// Bytes of the issuer's answer.
const KEYS_BYTES_MAX: usize = 1 << 20;

/// Bytes of one token; headers have their own limit.
const TOKEN_BYTES_MAX: usize = 16 << 10;

/// Whose tokens are believed.
#[derive(Debug, Clone)]
pub struct IssuerOptions {
    /// The claim `iss`.
    pub issuer: String,
    /// The claim `aud`: this server, so that tokens for others do not open it.
    pub audience: String,
    /// Where its public keys are: `https://...` (`http://` on loopback), or a file.
    pub keys: String,
    /// The claim with the user's name.
    pub user_claim: String,
}

/// An issuer of tokens, and its keys.
#[derive(Debug)]
pub struct Issuer {
    options: IssuerOptions,
    place: Place,
    client: reqwest::Client,
    keys: Mutex<Read>,
}

#[derive(Debug)]
enum Place {
    Url(Url),
    File(PathBuf),
}

#[derive(Debug)]
struct Read {
    keys: Keys,
    at: Instant,
}

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Issued {
    pub(crate) user: String,
    /// Microseconds since 1970 UTC.
    pub(crate) until_us: i64,
}

impl Issuer {
    /// Read the keys: a wrong address is found at the start.
    ///
    /// # Errors
    /// `Config` for an address that is none, `Transient` when the issuer does not answer, `Corrupt` for what is no JWKS.
    pub async fn start(options: IssuerOptions) -> Result<Self> {
        let place = place(&options.keys)?;
        let client = reqwest::Client::builder().timeout(READ_TIME_MAX).redirect(reqwest::redirect::Policy::none());
        let client = client.build().map_err(|error| Error::new(ErrorKind::Internal, error.to_string()))?;
        let keys = read(&place, &client).await?;
        Ok(Self { options, place, client, keys: Mutex::new(Read { keys, at: Instant::now() }) })
    }

    /// Whom the token names.
    ///
    /// # Errors
    /// `Unauthenticated`, with the reason: a token that is refused says nothing about others.
    pub(crate) async fn check(&self, token: &str) -> Result<Issued> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(refused("it is too long"));
        }
        let header = Header::of(token).map_err(refused)?;
        let key = self.key(header.kid.as_deref()).await?;
        let options = &self.options;
        let expected = Expected { issuer: &options.issuer, audience: &options.audience, now: chrono::Utc::now() };
        let claims = jws::verified(token, &key, &expected).map_err(refused)?;
        let user = claims.text(&options.user_claim);
        let user = user.ok_or_else(|| refused(format!("it has no claim {}", options.user_claim)))?.to_string();
        Ok(Issued { user, until_us: claims.until_us })
    }

    /// The key of this id, as the issuer has it now.
    async fn key(&self, id: Option<&str>) -> Result<Key> {
        // One call asks the issuer; the others wait for its answer.
        let mut read_before = self.keys.lock().await;
        let (found, age) = (read_before.keys.find(id).cloned(), read_before.at.elapsed());
        let unknown = || refused("its key is not one of the issuer's");
        if age < READ_REST || (found.is_some() && age < KEYS_AGE_MAX) {
            return found.ok_or_else(unknown);
        }
        read_before.at = Instant::now();
        match read(&self.place, &self.client).await {
            Ok(keys) => read_before.keys = keys,
            Err(error) => tracing::error!(%error, "the issuer's keys cannot be read; the last ones stay"),
        }
        read_before.keys.find(id).cloned().ok_or_else(unknown)
    }
}

fn place(keys: &str) -> Result<Place> {
    if !keys.contains("://") {
        return Ok(Place::File(keys.into()));
    }
    let wrong = |why: &str| {
        Error::new(ErrorKind::Config, format!("--jwt-keys {keys}: {why}"))
            .with_hint("write https://host/path of the issuer's JWKS, or the path of a file")
    };
    let url = Url::parse(keys).map_err(|error| wrong(&error.to_string()))?;
    let loopback = url.host_str().is_some_and(|host| matches!(host, "localhost" | "127.0.0.1" | "[::1]"));
    match url.scheme() {
        "https" => Ok(Place::Url(url)),
        "http" if loopback => Ok(Place::Url(url)),
        "http" => Err(wrong("whoever is on the way could put in keys of their own")),
        _ => Err(wrong("this is no web address")),
    }
}

async fn read(place: &Place, client: &reqwest::Client) -> Result<Keys> {
    let bytes = match place {
        Place::File(path) => tokio::fs::read(path).await.map_err(|error| {
            Error::new(ErrorKind::Config, format!("--jwt-keys: {} cannot be read", path.display()))
                .with_detail(error.to_string())
        })?,
        Place::Url(url) => {
            let failed = |error: reqwest::Error| {
                Error::new(ErrorKind::Transient, format!("the issuer's keys at {url} cannot be read"))
                    .with_detail(error.to_string())
            };
            let mut answer = client.get(url.clone()).send().await.map_err(failed)?;
            answer = answer.error_for_status().map_err(failed)?;
            let mut bytes = Vec::new();
            while let Some(part) = answer.chunk().await.map_err(failed)? {
                bytes.extend_from_slice(&part);
                if bytes.len() > KEYS_BYTES_MAX {
                    return Err(Error::new(ErrorKind::Corrupt, format!("the issuer's keys at {url} have no end")));
                }
            }
            bytes
        }
    };
    Keys::of(&bytes).map_err(|why| {
        Error::new(ErrorKind::Corrupt, "the issuer's keys are no JWKS: {\"keys\": [...]}").with_detail(why)
    })
}

fn refused(why: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Unauthenticated, "the token is refused").with_detail(why.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::jws::tests::{Signer, claims};
    use super::*;

    #[tokio::test]
    async fn new_keys_are_read_when_a_token_names_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.json");
        let (first, second) = (Signer::new("a"), Signer::new("b"));
        std::fs::write(&path, first.keys()).unwrap();
        let (issuer, audience) = ("https://id.example".to_string(), "flash".to_string());
        let options = IssuerOptions { issuer, audience, keys: path.display().to_string(), user_claim: "sub".into() };
        let issuer = Issuer::start(options).await.unwrap();
        assert_eq!(issuer.check(&first.token(&claims())).await.unwrap().user, "ann");

        std::fs::write(&path, second.keys()).unwrap();
        let of_second = second.token(&claims());
        assert!(issuer.check(&of_second).await.is_err(), "the issuer is left alone for a while");
        issuer.keys.lock().await.at = Instant::now().checked_sub(READ_REST).unwrap();
        assert_eq!(issuer.check(&of_second).await.unwrap().user, "ann");
        assert!(issuer.check(&first.token(&claims())).await.is_err(), "a key that is gone");
    }

    #[test]
    fn keys_come_over_a_way_that_nobody_can_change() {
        assert!(matches!(place("https://id.example/keys").unwrap(), Place::Url(_)));
        assert!(matches!(place("http://127.0.0.1:1/keys").unwrap(), Place::Url(_)));
        assert!(matches!(place("keys.json").unwrap(), Place::File(_)));
        for wrong in ["http://id.example/keys", "ftp://id.example/keys", "https://"] {
            assert_eq!(place(wrong).unwrap_err().kind(), ErrorKind::Config, "{wrong}");
        }
    }
}
