//! The client side of `flash sql --server`: one statement over Arrow Flight SQL.
//!
//! ```text
//!   grpc://127.0.0.1:50051 ─▶ connect ─▶ GetFlightInfo (executes) ─▶ DoGet ─▶ batches
//!                                           └ app_metadata: what a change did, for people
//! ```

use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::{Int64Type, SchemaRef};
use arrow::record_batch::RecordBatch;
use arrow_flight::HandshakeRequest;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::client::FlightSqlServiceClient;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::TryStreamExt;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::error::{Error, ErrorKind, Result};

const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);

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

impl Remote {
    /// Connect to `grpc://host:port`.
    ///
    /// # Errors
    /// `Config` for an address that is not one, `Transient` when nothing answers there, `Unauthenticated`.
    pub async fn connect(server_url: &str, login: &Login) -> Result<Self> {
        let address = address(server_url)?;
        let endpoint = Endpoint::from_shared(address)
            .map_err(|error| not_an_address(server_url).with_detail(error.to_string()))?
            .connect_timeout(CONNECT_TIME_MAX)
            .tcp_nodelay(true);
        let channel = endpoint.connect().await.map_err(|error| {
            Error::new(ErrorKind::Transient, format!("no server answers at {server_url}"))
                .with_detail(root_cause(&error))
                .with_hint("start one with flash run or flash demo, or check the address")
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
            let rows = self.client.do_get(ticket).await.map_err(from_flight)?;
            batches.extend(rows.try_collect::<Vec<_>>().await.map_err(from_flight)?);
        }
        let rows_affected = if message.is_some() { count(&batches) } else { None };
        Ok(Reply { schema, batches, message, rows_affected })
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
    let reply = Remote::connect(server_url, &Login::Anonymous).await?.query(sql).await?;
    Ok((reply.schema, reply.batches, reply.rows_affected))
}

fn count(batches: &[RecordBatch]) -> Option<u64> {
    let column = batches.first()?.column_by_name("count")?;
    u64::try_from(column.as_primitive_opt::<Int64Type>()?.iter().next()??).ok()
}

fn address(server_url: &str) -> Result<String> {
    let (scheme, rest) = server_url.split_once("://").ok_or_else(|| not_an_address(server_url))?;
    let host = rest.trim_end_matches('/');
    match scheme {
        _ if host.is_empty() || host.contains('/') => Err(not_an_address(server_url)),
        "grpc" | "grpc+tcp" | "http" => Ok(format!("http://{host}")),
        "grpc+tls" | "https" => Err(Error::new(ErrorKind::Config, format!("{server_url}: TLS is not supported yet"))
            .with_hint("use grpc:// and, from another machine, an SSH tunnel")),
        _ => Err(not_an_address(server_url)),
    }
}

fn not_an_address(server_url: &str) -> Error {
    Error::new(ErrorKind::Config, format!("\"{server_url}\" is not the address of a server"))
        .with_hint("write grpc://host:port, such as grpc://127.0.0.1:50051")
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
        assert_eq!(address("grpc://127.0.0.1:50051").unwrap(), "http://127.0.0.1:50051");
        assert_eq!(address("grpc+tcp://[::1]:1/").unwrap(), "http://[::1]:1");
        for wrong in ["127.0.0.1:50051", "grpc://", "ftp://x", "grpc://a/b", "grpc+tls://a:1"] {
            let error = address(wrong).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{wrong}");
            assert!(error.hint().is_some_and(|hint| hint.contains("grpc://")), "{wrong}");
        }
    }
}
