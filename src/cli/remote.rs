//! The client side of `flash sql --server`: one statement over Arrow Flight SQL.
//!
//! ```text
//!   grpc://127.0.0.1:50051 ─▶ connect ─▶ GetFlightInfo (executes) ─▶ DoGet ─▶ batches
//!                                           └ app_metadata: what a change did, for people
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::{Int64Type, SchemaRef};
use arrow::record_batch::RecordBatch;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::{Action, HandshakeRequest, Ticket};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::TryStreamExt;
use hyper_util::rt::TokioIo;
use rustls_platform_verifier::Verifier;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Status};

use crate::error::{Error, ErrorKind, Result};

const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);

/// Where a server listens when the address does not say.
const PORT: u16 = 50051;

/// A connection to a running server.
#[derive(Debug)]
pub struct Remote {
    client: FlightSqlServiceClient<Channel>,
}

/// What a statement gave.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Schema of the batches.
    pub schema: SchemaRef,
    /// The rows; for a change one row with its count or its message.
    pub batches: Vec<RecordBatch>,
    /// What a change did, for people; `None` for a query.
    pub message: Option<String>,
    /// Rows that a change affected, where that means something.
    pub rows_affected: Option<u64>,
}

/// Who connects.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum Login {
    /// Nobody in particular: a lake without users lets everybody in.
    #[default]
    Anonymous,
    /// A name and a password.
    Password {
        /// The name.
        user: String,
        /// The password.
        password: String,
    },
    /// A personal access token.
    Token(String),
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Anonymous => "Anonymous",
            Self::Password { .. } => "Password(***)",
            Self::Token(_) => "Token(***)",
        })
    }
}

/// By what the server is known over TLS, and this client. Files are PEM.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trust {
    /// Who signs the server's certificate; this machine's authorities without it.
    pub ca: Option<PathBuf>,
    /// The client's certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

impl Trust {
    fn config(&self) -> Result<ClientConfig> {
        let broken = |error: tokio_rustls::rustls::Error| {
            Error::new(ErrorKind::Config, "TLS cannot be set up").with_detail(error.to_string())
        };
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
        let builder = builder.map_err(broken)?;
        let builder = match &self.ca {
            None => {
                let verifier = Arc::new(Verifier::new(provider).map_err(broken)?);
                builder.dangerous().with_custom_certificate_verifier(verifier)
            }
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for certificate in
                    pem(path, CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Pem<Vec<_>>>))?
                {
                    roots.add(certificate).map_err(broken)?;
                }
                builder.with_root_certificates(roots)
            }
        };
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((path, key)) => {
                let chain = pem(path, CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Pem<Vec<_>>>))?;
                let key = pem(key, PrivateKeyDer::from_pem_file(key))?;
                builder.with_client_auth_cert(chain, key).map_err(broken)?
            }
        };
        config.alpn_protocols.push(b"h2".to_vec());
        Ok(config)
    }
}

type Pem<T> = std::result::Result<T, tokio_rustls::rustls::pki_types::pem::Error>;

fn pem<T>(path: &Path, read: Pem<T>) -> Result<T> {
    read.map_err(|error| {
        Error::new(ErrorKind::Config, format!("{} cannot be used", path.display())).with_detail(error.to_string())
    })
}

/// A channel whose connections are TLS of this configuration.
async fn secure(endpoint: Endpoint, config: ClientConfig) -> std::result::Result<Channel, tonic::transport::Error> {
    let tls = TlsConnector::from(Arc::new(config));
    let connect = move |uri: Uri| {
        let tls = tls.clone();
        async move {
            let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
            let name = ServerName::try_from(host.to_string()).map_err(std::io::Error::other)?;
            let tcp = TcpStream::connect((host, uri.port_u16().unwrap_or(PORT))).await?;
            tcp.set_nodelay(true)?;
            tls.connect(name, tcp).await.map(TokioIo::new)
        }
    };
    endpoint.connect_with_connector(tower::service_fn(connect)).await
}

impl Remote {
    /// Connect to `grpc://host:port`, or with TLS to `grpc+tls://host:port`.
    ///
    /// # Errors
    /// `Config` for an address that is not one, `Transient` when nothing answers there, `Unauthenticated`.
    pub async fn connect(server_url: &str, login: &Login, trust: &Trust) -> Result<Self> {
        let (address, with_tls) = address(server_url)?;
        let endpoint = Endpoint::from_shared(address)
            .map_err(|error| not_an_address(server_url).with_detail(error.to_string()))?
            .connect_timeout(CONNECT_TIME_MAX)
            .tcp_nodelay(true);
        let connected = match with_tls {
            false => endpoint.connect().await,
            true => secure(endpoint, trust.config()?).await,
        };
        let channel = connected.map_err(|error| {
            Error::new(ErrorKind::Transient, format!("no server answers at {server_url}"))
                .with_detail(root_cause(&error))
                .with_hint(match with_tls {
                    true => "is its certificate signed by an authority that this machine knows? --tls-ca names another",
                    false => "start one with flash run or flash demo, or check the address; with TLS it is grpc+tls://",
                })
        })?;
        let inner = FlightServiceClient::new(channel).max_decoding_message_size(usize::MAX);
        let mut client = FlightSqlServiceClient::new_from_inner(inner);
        match login {
            Login::Anonymous => {}
            Login::Token(token) => client.set_token(token.clone()),
            Login::Password { user, password } => {
                let token = handshake(client.inner_mut(), user, password).await?;
                client.set_token(token);
            }
        }
        Ok(Self { client })
    }

    /// Execute one statement and fetch all of its result.
    ///
    /// # Errors
    /// What the server answers, with its text; `Transient` when it goes away.
    pub async fn query(&mut self, sql: &str) -> Result<Reply> {
        let info = self.client.execute(sql.to_string(), None).await.map_err(from_flight)?;
        let message = String::from_utf8_lossy(&info.app_metadata).into_owned();
        let message = (!message.is_empty()).then_some(message);
        let tickets: Vec<_> = info.endpoint.iter().filter_map(|endpoint| endpoint.ticket.clone()).collect();
        let schema = SchemaRef::new(info.try_decode_schema()?);
        let mut batches = vec![];
        for ticket in tickets {
            match self.fetch(ticket).await {
                Ok(rows) => batches.extend(rows),
                // What was changed is changed: after the first user, nobody in particular may fetch anything.
                Err(_) if message.is_some() => {}
                Err(error) => return Err(error),
            }
        }
        let rows_affected = if message.is_some() { count(&batches) } else { None };
        Ok(Reply { schema, batches, message, rows_affected })
    }

    async fn fetch(&mut self, ticket: Ticket) -> Result<Vec<RecordBatch>> {
        let rows = self.client.do_get(ticket).await.map_err(from_flight)?;
        rows.try_collect().await.map_err(from_flight)
    }
}

impl Remote {
    /// Have an action carried out; all of its answer.
    ///
    /// # Errors
    /// As [`Remote::query`].
    pub async fn act(&mut self, name: &str, body: Vec<u8>) -> Result<Vec<u8>> {
        let action = Action { r#type: name.to_string(), body: body.into() };
        let results = self.client.do_action(action).await.map_err(from_flight)?;
        let results: Vec<_> = results.try_collect().await.map_err(|status| from_status(&status))?;
        Ok(results.iter().flat_map(|result| result.body.iter().copied()).collect())
    }
}

/// The token for a name and a password. (The client's own handshake loses the status.)
async fn handshake(client: &mut FlightServiceClient<Channel>, user: &str, password: &str) -> Result<String> {
    let mut request = tonic::Request::new(futures::stream::empty::<HandshakeRequest>());
    let basic = AsciiMetadataValue::try_from(format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))));
    let basic = basic.map_err(|error| Error::new(ErrorKind::Config, error.to_string()))?;
    request.metadata_mut().insert("authorization", basic);
    let response = client.handshake(request).await.map_err(|status| from_status(&status))?;
    let token = response.metadata().get("authorization").and_then(|value| value.to_str().ok());
    let token = token.and_then(|value| value.strip_prefix("Bearer ")).map(String::from);
    token.ok_or_else(|| Error::new(ErrorKind::Unauthenticated, "the server gave no token"))
}

/// One statement over a connection of its own: its schema, its rows, and the rows that a change affected.
///
/// # Errors
/// As [`Remote::connect`] and [`Remote::query`].
pub async fn query(server_url: &str, sql: &str) -> Result<(SchemaRef, Vec<RecordBatch>, Option<u64>)> {
    let reply = Remote::connect(server_url, &Login::Anonymous, &Trust::default()).await?.query(sql).await?;
    Ok((reply.schema, reply.batches, reply.rows_affected))
}

fn count(batches: &[RecordBatch]) -> Option<u64> {
    let column = batches.first()?.column_by_name("count")?;
    u64::try_from(column.as_primitive_opt::<Int64Type>()?.iter().next()??).ok()
}

/// Where to connect, and whether with TLS.
fn address(server_url: &str) -> Result<(String, bool)> {
    let (scheme, rest) = server_url.split_once("://").ok_or_else(|| not_an_address(server_url))?;
    let host = rest.trim_end_matches('/');
    match scheme {
        _ if host.is_empty() || host.contains('/') => Err(not_an_address(server_url)),
        "grpc" | "grpc+tcp" | "http" => Ok((format!("http://{host}"), false)),
        // TLS is put under it by the connector.
        "grpc+tls" | "https" => Ok((format!("http://{host}"), true)),
        _ => Err(not_an_address(server_url)),
    }
}

fn not_an_address(server_url: &str) -> Error {
    Error::new(ErrorKind::Config, format!("\"{server_url}\" is not the address of a server"))
        .with_hint("write grpc://host:port, such as grpc://127.0.0.1:50051, or grpc+tls://host:port")
}

fn from_flight(error: FlightError) -> Error {
    match error {
        FlightError::Tonic(status) => from_status(&status),
        FlightError::Arrow(error) => error.into(),
        other => Error::new(ErrorKind::Internal, other.to_string()),
    }
}

fn from_status(status: &Status) -> Error {
    let kind = match status.code() {
        Code::InvalidArgument => ErrorKind::Definition,
        Code::NotFound => ErrorKind::NotFound,
        Code::AlreadyExists => ErrorKind::AlreadyExists,
        Code::FailedPrecondition => ErrorKind::Expectation,
        Code::Aborted => ErrorKind::Conflict,
        Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded => ErrorKind::Transient,
        Code::DataLoss => ErrorKind::Corrupt,
        Code::Cancelled => ErrorKind::Cancelled,
        Code::Unauthenticated => ErrorKind::Unauthenticated,
        Code::PermissionDenied => ErrorKind::Denied,
        _ => ErrorKind::Internal,
    };
    Error::new(kind, status.message())
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_understood_or_refused_with_a_hint() {
        assert_eq!(address("grpc://127.0.0.1:50051").unwrap(), ("http://127.0.0.1:50051".into(), false));
        assert_eq!(address("grpc+tcp://[::1]:1/").unwrap(), ("http://[::1]:1".into(), false));
        assert_eq!(address("grpc+tls://a:1").unwrap(), ("http://a:1".into(), true));
        for wrong in ["127.0.0.1:50051", "grpc://", "ftp://x", "grpc://a/b"] {
            let error = address(wrong).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{wrong}");
            assert!(error.hint().is_some_and(|hint| hint.contains("grpc://")), "{wrong}");
        }
    }
}
