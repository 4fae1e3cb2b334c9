//! Listening, serving beside the scheduler, and stopping.
//!
//! ```text
//!  bind ──▶ Listeners ──start(engine)──▶ Servers          a port in use is found before anything is done
//!
//!  Ctrl-C, SIGTERM ──▶ shutdown ──┬▶ scheduler ends after its pass      a second one ends the process at once
//!                                 └▶ servers end; running queries are cancelled
//! ```

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::terminal::Terminal;
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::server;

/// Where Flight SQL listens unless told otherwise.
pub const FLIGHT: &str = "127.0.0.1:50051";

/// Where HTTP listens unless told otherwise.
pub const HTTP: &str = "127.0.0.1:8080";

/// The exit code of a process that a second Ctrl-C ended.
const INTERRUPTED: i32 = 130;

/// What is listened on, before anything is served.
#[derive(Debug, Default)]
pub struct Listeners {
    flight: Option<TcpListener>,
    http: Option<TcpListener>,
}

/// Where clients reach the servers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Addresses {
    /// Flight SQL.
    pub flight: Option<SocketAddr>,
    /// HTTP.
    pub http: Option<SocketAddr>,
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
pub fn wanted(given: Option<SocketAddr>, default: &str, ends: bool) -> Option<SocketAddr> {
    given.or_else(|| if ends { None } else { address(default).ok() })
}

impl Listeners {
    /// Listen on the given addresses.
    ///
    /// # Errors
    /// As `server::bind`.
    pub async fn bind(flight: Option<SocketAddr>, http: Option<SocketAddr>) -> Result<Self> {
        let mut listeners = Self::default();
        if let Some(addr) = flight {
            listeners.flight = Some(server::bind(addr, "--flight").await?);
        }
        if let Some(addr) = http {
            listeners.http = Some(server::bind(addr, "--http").await?);
        }
        Ok(listeners)
    }

    /// Where they listen, with the port that was taken for port 0.
    pub fn addresses(&self) -> Addresses {
        let of = |listener: &Option<TcpListener>| listener.as_ref().and_then(|one| one.local_addr().ok());
        Addresses { flight: of(&self.flight), http: of(&self.http) }
    }

    /// Serve until `shutdown`. A server that fails cancels `shutdown`, and `Servers::join` tells why.
    pub fn start(self, engine: &Arc<Engine>, shutdown: &CancellationToken) -> Servers {
        let addresses = self.addresses();
        let mut tasks = JoinSet::new();
        if let Some(listener) = self.flight {
            let (engine, token) = (engine.clone(), shutdown.clone());
            tasks.spawn(guard(shutdown.clone(), server::serve_flight(listener, engine, token)));
        }
        if let Some(listener) = self.http {
            let (engine, token) = (engine.clone(), shutdown.clone());
            tasks.spawn(guard(shutdown.clone(), server::serve_http(listener, engine, addresses.flight, token)));
        }
        Servers { tasks }
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
