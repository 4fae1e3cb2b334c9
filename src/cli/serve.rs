//! Listening, serving beside the scheduler, and stopping.
//!
//! ```text
//!  Flags ──bind──▶ Listeners ──start(engine)──▶ Servers   a port in use, or a bad certificate, is found before anything
//!                                                         is done
//!
//!  Ctrl-C, SIGTERM ──▶ shutdown ──┬▶ scheduler ends after its pass      a second one ends the process at once
//!                                 └▶ servers end; running queries are cancelled
//! ```

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::terminal::Terminal;
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::server::{self, Identity, Issuer, IssuerOptions, Limits, Listener, Security, Service, Tls, TlsFiles};

/// Where Flight SQL listens unless told otherwise.
pub const FLIGHT: &str = "127.0.0.1:50051";

/// Where HTTP listens unless told otherwise.
pub const HTTP: &str = "127.0.0.1:8080";

/// The exit code of a process that a second Ctrl-C ended.
const INTERRUPTED: i32 = 130;

/// Where is served, and how clients are known.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Serving")]
pub struct Flags {
    /// Serve Arrow Flight SQL here [default: 127.0.0.1:50051, for a process that stays]
    #[arg(long, value_name = "ADDR", value_parser = address)]
    flight: Option<SocketAddr>,
    /// Serve HTTP here: dashboard, SQL, health, metrics [default: 127.0.0.1:8080, for a process that stays]
    #[arg(long, value_name = "ADDR", value_parser = address)]
    http: Option<SocketAddr>,
    /// The certificate for TLS, then those between it and the root, as PEM; read again when it changes
    #[arg(long, value_name = "FILE", requires = "tls_key", env = "FLASH_TLS_CERT")]
    tls_cert: Option<PathBuf>,
    /// Its private key, as PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert", env = "FLASH_TLS_KEY")]
    tls_key: Option<PathBuf>,
    /// Believe certificates of clients that these sign, as PEM: the certificate's DNS name is the user
    #[arg(long, value_name = "FILE", requires = "tls_cert", env = "FLASH_TLS_CLIENT_CA")]
    tls_client_ca: Option<PathBuf>,
    /// Believe signed tokens (JWT) of this issuer: the claim `iss`
    #[arg(long, value_name = "ISS", requires_all = ["jwt_audience", "jwt_keys"], env = "FLASH_JWT_ISSUER")]
    jwt_issuer: Option<String>,
    /// Those tokens must be meant for this audience: the claim `aud`
    #[arg(long, value_name = "AUD", requires = "jwt_issuer", env = "FLASH_JWT_AUDIENCE")]
    jwt_audience: Option<String>,
    /// The issuer's public keys: a JWKS at https://..., or a file
    #[arg(long, value_name = "URL|FILE", requires = "jwt_issuer", env = "FLASH_JWT_KEYS")]
    jwt_keys: Option<String>,
    /// The claim that names the user
    #[arg(long, value_name = "CLAIM", default_value = "sub", env = "FLASH_JWT_USER_CLAIM")]
    jwt_user_claim: String,
    /// The secret that signs links to embedded pages; without it they end with the process
    #[arg(long, value_name = "TEXT", env = "FLASH_EMBED_KEY", hide_env_values = true)]
    embed_key: Option<String>,
    /// Who may frame embedded pages, as frame-ancestors has it: `'https://shop.example'`
    #[arg(long, value_name = "SOURCES", env = "FLASH_EMBED_ANCESTORS")]
    embed_ancestors: Option<String>,
    /// Listen beyond loopback without TLS, and let everybody into a lake without users: the network must be trusted
    #[arg(long)]
    insecure: bool,
}

/// What is listened on, before anything is served.
#[derive(Debug, Default)]
pub struct Listeners {
    flight: Option<Listener>,
    http: Option<Listener>,
    identity: Identity,
}

/// Where clients reach the servers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Addresses {
    /// Flight SQL.
    pub flight: Option<SocketAddr>,
    /// HTTP.
    pub http: Option<SocketAddr>,
    /// With TLS.
    pub secure: bool,
}

impl Addresses {
    /// For drivers: `grpc://127.0.0.1:50051`.
    pub fn flight_url(&self) -> Option<String> {
        let scheme = if self.secure { "grpc+tls" } else { "grpc" };
        self.flight.map(|addr| format!("{scheme}://{addr}"))
    }

    /// For browsers.
    pub fn http_url(&self) -> Option<String> {
        let scheme = if self.secure { "https" } else { "http" };
        self.http.map(|addr| format!("{scheme}://{addr}/"))
    }
}

/// Running servers.
#[derive(Debug)]
pub struct Servers {
    tasks: JoinSet<Result<()>>,
}

/// An address for `--flight` and `--http`: `127.0.0.1:50051`, `localhost:50051`, `[::1]:50051`.
///
/// # Errors
/// A text for clap.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    let numeric = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => text.to_string(),
    };
    numeric.parse().map_err(|_| format!("write host:port, such as {FLIGHT}; port 0 takes a free one"))
}

/// The address that was given, or the default one for a process that stays.
fn wanted(given: Option<SocketAddr>, default: &str, ends: bool) -> Option<SocketAddr> {
    given.or_else(|| if ends { None } else { address(default).ok() })
}

impl Flags {
    /// Listen, and read what clients are known by. `ends`: the process serves only where it was told to.
    ///
    /// # Errors
    /// As `server::Listener::bind`, `server::Tls::load` and `server::Issuer::start`.
    pub async fn bind(&self, ends: bool) -> Result<Listeners> {
        let tls = match (&self.tls_cert, &self.tls_key) {
            (Some(certificate), Some(key)) => {
                let (certificate, key) = (certificate.clone(), key.clone());
                Some(Tls::load(TlsFiles { certificate, key, client_ca: self.tls_client_ca.clone() })?)
            }
            _ => None,
        };
        let security = Security { tls, insecure: self.insecure };
        let mut listeners = Listeners::default();
        if let Some(addr) = wanted(self.flight, FLIGHT, ends) {
            listeners.flight = Some(Listener::bind(addr, "--flight", &security).await?);
        }
        if let Some(addr) = wanted(self.http, HTTP, ends) {
            listeners.http = Some(Listener::bind(addr, "--http", &security).await?);
        }
        if let (Some(issuer), Some(audience), Some(keys)) = (&self.jwt_issuer, &self.jwt_audience, &self.jwt_keys) {
            let (issuer, audience, keys) = (issuer.clone(), audience.clone(), keys.clone());
            let options = IssuerOptions { issuer, audience, keys, user_claim: self.jwt_user_claim.clone() };
            listeners.identity.issuer = Some(Issuer::start(options).await?);
        }
        listeners.identity.insecure = self.insecure;
        let embedding = &mut listeners.identity.embedding;
        if let Some(key) = &self.embed_key {
            embedding.key.clone_from(key);
        }
        if let Some(ancestors) = &self.embed_ancestors {
            embedding.ancestors.clone_from(ancestors);
        }
        Ok(listeners)
    }
}

impl Listeners {
    /// Where they listen, with the port that was taken for port 0.
    pub fn addresses(&self) -> Addresses {
        let of = |listener: &Option<Listener>| listener.as_ref().and_then(|one| one.local_addr().ok());
        let secure = [&self.flight, &self.http].into_iter().flatten().any(Listener::is_secure);
        Addresses { flight: of(&self.flight), http: of(&self.http), secure }
    }

    /// Serve until `shutdown`. A server that fails cancels `shutdown`, and `Servers::join` tells why.
    ///
    /// # Errors
    /// As `server::Service::start`.
    pub fn start(self, engine: &Arc<Engine>, shutdown: &CancellationToken) -> Result<Servers> {
        let addresses = self.addresses();
        let service = Service::start(engine.clone(), Limits::default(), self.identity, shutdown.clone())?;
        let mut tasks = JoinSet::new();
        if let Some(listener) = self.flight {
            tasks.spawn(guard(shutdown.clone(), server::serve_flight(listener, Arc::clone(&service))));
        }
        if let Some(listener) = self.http {
            let serving = server::serve_http(listener, Arc::clone(&service), addresses.flight);
            tasks.spawn(guard(shutdown.clone(), serving));
        }
        Ok(Servers { tasks })
    }
}

async fn guard(shutdown: CancellationToken, serving: impl Future<Output = Result<()>>) -> Result<()> {
    let result = serving.await;
    if result.is_err() {
        shutdown.cancel();
    }
    result
}

impl Servers {
    /// Wait until all have ended.
    ///
    /// # Errors
    /// The first failure.
    pub async fn join(mut self) -> Result<()> {
        let mut result = Ok(());
        while let Some(ended) = self.tasks.join_next().await {
            let ended = ended.unwrap_or_else(|error| Err(Error::new(ErrorKind::Internal, error.to_string())));
            result = result.and(ended);
        }
        result
    }
}

/// A token that Ctrl-C and SIGTERM cancel. The second signal ends the process at once.
///
/// # Errors
/// `Internal` when signals cannot be caught.
pub fn shutdown_on_signals(terminal: Terminal) -> Result<CancellationToken> {
    let caught = |error: std::io::Error| Error::new(ErrorKind::Internal, format!("signals cannot be caught: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(caught)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(caught)?;
    let token = CancellationToken::new();
    let given = token.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if given.is_cancelled() {
                terminal.say("stopped at once; the next start mends what was left unfinished");
                std::process::exit(INTERRUPTED);
            }
            terminal.say("stopping after the current epoch; once more stops at once");
            given.cancel();
        }
    });
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_understood() {
        assert_eq!(address(FLIGHT).unwrap(), SocketAddr::from(([127, 0, 0, 1], 50051)));
        assert_eq!(address("localhost:0").unwrap(), SocketAddr::from(([127, 0, 0, 1], 0)));
        assert!(address("[::1]:8080").unwrap().is_ipv6());
        for wrong in ["50051", "localhost", "http://127.0.0.1:1", "127.0.0.1:99999", ""] {
            assert!(address(wrong).unwrap_err().contains("host:port"), "{wrong}");
        }
        address(HTTP).unwrap();
    }

    #[test]
    fn a_process_that_ends_serves_only_where_it_is_told_to() {
        let given = address("127.0.0.1:1").ok();
        assert_eq!(wanted(None, FLIGHT, true), None);
        assert_eq!(wanted(given, FLIGHT, true), given);
        assert_eq!(wanted(None, FLIGHT, false), address(FLIGHT).ok());
    }
}
