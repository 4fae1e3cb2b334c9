//! Listening: connections of both servers, with TLS or without.
//!
//! ```text
//!   accept ─▶ room? (connections_max) ─▶ handshake, in a task of its own, HANDSHAKE_TIME_MAX ─▶ Connection { io, peer }
//!                                                                             │                      ▼
//!                                                                             └ fails: closed    gRPC, HTTP
//! ```
//!
//! A client that connects and says nothing holds one handshake's place, not the next client. Beyond loopback there must be
//! TLS, unless the operator takes the risk by name.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::IncomingStream;
use futures::Stream;
use futures::stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

use super::tls::{Tls, named};
use crate::error::{Error, ErrorKind, Result};

/// How long a handshake may take.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);

/// Handshakes under way at the same time.
const HANDSHAKES_MAX: usize = 256;

/// Connections of one listener at the same time; others wait in the system's queue.
const CONNECTIONS_MAX: usize = 10_000;

/// How long accepting rests after it has failed: for want of file descriptors, as a rule.
const ACCEPT_REST: Duration = Duration::from_millis(500);

/// How a listener is protected.
#[derive(Debug, Clone, Default)]
pub struct Security {
    /// The certificate, where there is TLS.
    pub tls: Option<Arc<Tls>>,
    /// Beyond loopback without TLS, and without users, too: others on the network can read and change everything.
    pub insecure: bool,
}

/// A port that is listened on.
#[derive(Debug)]
pub struct Listener {
    tcp: TcpListener,
    tls: Option<Arc<Tls>>,
    room: Arc<Semaphore>,
    handshakes: JoinSet<Option<Connection>>,
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
pub struct Peer {
    pub(crate) ip: IpAddr,
    /// Nobody in between can read or change what is said.
    pub(crate) tls: bool,
    /// The user whom the client's certificate names.
    pub(crate) user: Option<Arc<str>>,
}

/// A connection of a client.
#[derive(Debug)]
pub struct Connection {
    io: Either<TcpStream, Box<TlsStream<TcpStream>>>,
    peer: Peer,
    _room: OwnedSemaphorePermit,
}

/// Refuse every address that is not loopback.
fn loopback_only(addr: SocketAddr) -> Result<()> {
    if addr.ip().is_loopback() {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Config, format!("{addr} is not a loopback address"))
        .with_detail("without TLS, passwords and rows would be readable on the way")
        .with_hint("give --tls-cert and --tls-key; or use 127.0.0.1 and an SSH tunnel; or take the risk: --insecure"))
}

/// Listen on `addr`. `flag` is the option that the user set it with (`--flight`, `--http`).
///
/// # Errors
/// `Config` for an address that cannot be had, `AlreadyExists` for a port in use.
pub async fn bind(addr: SocketAddr, flag: &str) -> Result<TcpListener> {
    TcpListener::bind(addr).await.map_err(|error| {
        let port_zero = SocketAddr::new(addr.ip(), 0);
        match error.kind() {
            io::ErrorKind::AddrInUse => {
                Error::new(ErrorKind::AlreadyExists, format!("{flag}: port {} of {} is in use", addr.port(), addr.ip()))
                    .with_hint(format!(
                        "stop the other process, or choose another port: {flag} {port_zero} takes a free one"
                    ))
            }
            _ => {
                Error::new(ErrorKind::Config, format!("{flag}: cannot listen on {addr}")).with_detail(error.to_string())
            }
        }
    })
}

impl Listener {
    /// As [`bind`], protected.
    ///
    /// # Errors
    /// As [`bind`]; `Config` for an address beyond loopback without TLS.
    pub async fn bind(addr: SocketAddr, flag: &str, security: &Security) -> Result<Self> {
        if security.tls.is_none() && !security.insecure {
            loopback_only(addr).map_err(|error| error.context(flag))?;
        }
        let tcp = bind(addr, flag).await?;
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        Ok(Self { tcp, tls: security.tls.clone(), room, handshakes: JoinSet::new() })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// Does it speak TLS?
    pub fn is_secure(&self) -> bool {
        self.tls.is_some()
    }

    /// The next connection that is ready to be served. May be dropped and called again.
    async fn next(&mut self) -> Connection {
        loop {
            let room = Arc::clone(&self.room);
            let accept = async {
                // The room is there for good: nobody closes it.
                let room = room.acquire_owned().await.map_err(io::Error::other)?;
                self.tcp.accept().await.map(|(tcp, addr)| (tcp, addr, room))
            };
            tokio::select! {
                Some(shaken) = self.handshakes.join_next() => {
                    if let Ok(Some(connection)) = shaken {
                        return connection;
                    }
                }
                accepted = accept, if self.handshakes.len() < HANDSHAKES_MAX => match accepted {
                    Ok((tcp, addr, room)) => {
                        // Small answers must not wait for more.
                        let _ = tcp.set_nodelay(true);
                        let peer = Peer { ip: addr.ip().to_canonical(), tls: false, user: None };
                        match &self.tls {
                            None => return Connection { io: Either::Left(tcp), peer, _room: room },
                            Some(tls) => drop(self.handshakes.spawn(shake(Arc::clone(tls), tcp, peer, room))),
                        }
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a connection cannot be accepted");
                        tokio::time::sleep(ACCEPT_REST).await;
                    }
                }
            }
        }
    }

    /// Its connections, as gRPC takes them.
    pub(crate) fn connections(self) -> impl Stream<Item = io::Result<Connection>> {
        stream::unfold(self, async |mut listener| Some((Ok(listener.next().await), listener)))
    }
}

async fn shake(tls: Arc<Tls>, tcp: TcpStream, peer: Peer, room: OwnedSemaphorePermit) -> Option<Connection> {
    let config = tokio::task::spawn_blocking(move || tls.config()).await.ok()?;
    match tokio::time::timeout(HANDSHAKE_TIME_MAX, TlsAcceptor::from(config).accept(tcp)).await {
        Ok(Ok(io)) => {
            let certificate = io.get_ref().1.peer_certificates().and_then(<[_]>::first);
            let user = certificate.and_then(named).map(Arc::from);
            let peer = Peer { tls: true, user, ..peer };
            Some(Connection { io: Either::Right(Box::new(io)), peer, _room: room })
        }
        Ok(Err(error)) => {
            tracing::debug!(peer = %peer.ip, %error, "no TLS with a client");
            None
        }
        Err(_) => None,
    }
}

impl axum::serve::Listener for Listener {
    type Io = Connection;
    type Addr = Peer;

    async fn accept(&mut self) -> (Connection, Peer) {
        let connection = self.next().await;
        let peer = connection.peer.clone();
        (connection, peer)
    }

    fn local_addr(&self) -> io::Result<Peer> {
        Ok(Peer { ip: self.tcp.local_addr()?.ip(), tls: self.is_secure(), user: None })
    }
}

impl axum::extract::connect_info::Connected<IncomingStream<'_, Listener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Listener>) -> Self {
        stream.remote_addr().clone()
    }
}

impl tonic::transport::server::Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn beyond_loopback_there_is_tls_or_somebody_takes_the_risk() {
        let any: SocketAddr = "0.0.0.0:0".parse().unwrap();
        let error = Listener::bind(any, "--flight", &Security::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.hint().is_some_and(|hint| hint.contains("--tls-cert")), "{error}");
        let risk = Security { tls: None, insecure: true };
        assert!(Listener::bind(any, "--flight", &risk).await.is_ok());
    }
}
