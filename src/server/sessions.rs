//! Sessions: what stays with a client from one call to the next: who it is, and the default schema.
//!
//! ```text
//!   Handshake ─────────────▶ authorization: Bearer <token>            sent back with every call
//!   SetSessionOptions ─────▶ Set-Cookie: arrow_flight_session_id=<token>    for clients without a token
//!   any call ── token ─▶ SHA-256 ─▶ Session { schema, since } ─▶ default schema of the statement
//! ```
//!
//! A token is kept as its digest only. The messages are those of Flight.proto, which `arrow-flight` has not got.

use std::collections::HashMap;
use std::time::Instant;

use bytes::Bytes;
use datafusion::prelude::SessionContext;
use prost::{Message, Oneof};
use tonic::metadata::{AsciiMetadataValue, MetadataMap};
use tonic::{Response, Status};
use uuid::Uuid;

use super::auth::{Basis, is_issued};
use super::status;
use crate::catalog::access::secret;
use crate::catalog::session::CATALOG;

const COOKIE: &str = "arrow_flight_session_id";

/// What a client has set.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    /// Schema of names that are written without one.
    pub(crate) schema: Option<String>,
    /// When its log-in was.
    pub(crate) since: Instant,
    /// What the log-in rests on.
    pub(crate) basis: Basis,
}

impl Default for Session {
    fn default() -> Self {
        Self { schema: None, since: Instant::now(), basis: Basis::Open }
    }
}

impl Session {
    /// Let `session` resolve names as the client has asked for.
    pub(crate) fn apply(&self, session: &SessionContext) {
        if let Some(schema) = &self.schema {
            session.state_ref().write().config_mut().options_mut().catalog.default_schema.clone_from(schema);
        }
    }
}

/// The longest token that is looked at, in bytes.
const TOKEN_BYTES_MAX: usize = 256;

/// The handle that a token stands for.
pub(crate) fn handle_of(token: &str) -> Uuid {
    Uuid::parse_str(&secret::digest(token)[..32]).unwrap_or_default()
}

/// The handle that came with a call: of the bearer token, or else of the cookie.
pub(crate) fn handle(metadata: &MetadataMap) -> Option<Uuid> {
    let text = |key| metadata.get(key).and_then(|value| value.to_str().ok());
    let bearer = text("authorization").and_then(|value| value.strip_prefix("Bearer "));
    // A personal access token, or an issuer's, says who calls, and is no session.
    let bearer = bearer.filter(|token| !token.starts_with(secret::TOKEN_PREFIX) && !is_issued(token));
    let cookie = || {
        let cookies = text("cookie")?.split(';');
        cookies
            .filter_map(|cookie| cookie.trim().split_once('='))
            .find(|(name, _)| *name == COOKIE)
            .map(|(_, value)| value)
    };
    let token = bearer.or_else(cookie).map(str::trim).filter(|token| token.len() <= TOKEN_BYTES_MAX);
    token.map(handle_of)
}

/// Give the client its bearer token (an answer to Handshake).
pub(crate) fn give_token<T>(response: &mut Response<T>, token: &str) -> Result<(), Status> {
    let value = AsciiMetadataValue::try_from(format!("Bearer {token}"));
    response.metadata_mut().insert("authorization", value.map_err(internal)?);
    Ok(())
}

/// Give the client its token as a cookie.
pub(crate) fn give_cookie<T>(response: &mut Response<T>, token: &str, secure: bool) -> Result<(), Status> {
    let value = AsciiMetadataValue::try_from(cookie(token, secure));
    response.metadata_mut().insert("set-cookie", value.map_err(internal)?);
    Ok(())
}

/// The cookie with this token, which browsers send to this site only, when a page of it asks, and show to no script; an
/// empty token takes it away. `secure`: it came over TLS, and must not be sent without.
pub(crate) fn cookie(token: &str, secure: bool) -> String {
    let gone = if token.is_empty() { "; Max-Age=0" } else { "" };
    let secure = if secure { "; Secure" } else { "" };
    format!("{COOKIE}={token}; Path=/; HttpOnly; SameSite=Strict{secure}{gone}")
}

fn internal(error: impl std::fmt::Display) -> Status {
    Status::internal(error.to_string())
}

/// Answer SetSessionOptions: change `session`, and tell what was not understood. `schemas` are those there are.
pub(crate) fn set(body: &Bytes, schemas: &[String], session: &mut Session) -> Result<Vec<u8>, Status> {
    let request = SetSessionOptionsRequest::decode(body.clone())
        .map_err(|error| status::malformed("SetSessionOptions", error))?;
    let mut errors = HashMap::new();
    for (name, value) in request.session_options {
        let text = match value.option_value {
            Some(OptionValue::String(text)) if !text.is_empty() => Some(text),
            Some(OptionValue::String(_)) | None => None,
            Some(_) => {
                errors.insert(name, OptionError { value: INVALID_VALUE });
                continue;
            }
        };
        match (name.as_str(), text) {
            ("catalog", None) => {}
            ("catalog", Some(catalog)) if catalog == CATALOG => {}
            ("schema", None) => session.schema = None,
            ("schema", Some(schema)) if schemas.contains(&schema) => session.schema = Some(schema),
            ("catalog" | "schema", Some(_)) => {
                errors.insert(name, OptionError { value: INVALID_VALUE });
            }
            _ => {
                errors.insert(name, OptionError { value: INVALID_NAME });
            }
        }
    }
    Ok(SetSessionOptionsResult { errors }.encode_to_vec())
}

/// Answer GetSessionOptions.
pub(crate) fn get(session: &Session) -> Vec<u8> {
    let text = |text: &str| SessionOptionValue { option_value: Some(OptionValue::String(text.to_string())) };
    let mut session_options = HashMap::from([("catalog".to_string(), text(CATALOG))]);
    if let Some(schema) = &session.schema {
        session_options.insert("schema".to_string(), text(schema));
    }
    GetSessionOptionsResult { session_options }.encode_to_vec()
}

/// Answer CloseSession.
pub(crate) fn closed() -> Vec<u8> {
    CloseSessionResult { status: CLOSED }.encode_to_vec()
}

const INVALID_NAME: i32 = 1;
const INVALID_VALUE: i32 = 2;
const CLOSED: i32 = 1;

#[derive(Clone, PartialEq, Message)]
struct SessionOptionValue {
    #[prost(oneof = "OptionValue", tags = "1, 2, 3, 4, 5")]
    option_value: Option<OptionValue>,
}

#[derive(Clone, PartialEq, Oneof)]
enum OptionValue {
    #[prost(string, tag = "1")]
    String(String),
    #[prost(bool, tag = "2")]
    Bool(bool),
    #[prost(sfixed64, tag = "3")]
    Int64(i64),
    #[prost(double, tag = "4")]
    Double(f64),
    #[prost(message, tag = "5")]
    StringList(StringList),
}

#[derive(Clone, PartialEq, Message)]
struct StringList {
    #[prost(string, repeated, tag = "1")]
    values: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct SetSessionOptionsRequest {
    #[prost(map = "string, message", tag = "1")]
    session_options: HashMap<String, SessionOptionValue>,
}

#[derive(Clone, PartialEq, Message)]
struct OptionError {
    #[prost(int32, tag = "1")]
    value: i32,
}

#[derive(Clone, PartialEq, Message)]
struct SetSessionOptionsResult {
    #[prost(map = "string, message", tag = "1")]
    errors: HashMap<String, OptionError>,
}

#[derive(Clone, PartialEq, Message)]
struct GetSessionOptionsResult {
    #[prost(map = "string, message", tag = "1")]
    session_options: HashMap<String, SessionOptionValue>,
}

#[derive(Clone, PartialEq, Message)]
struct CloseSessionResult {
    #[prost(int32, tag = "1")]
    status: i32,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(options: &[(&str, OptionValue)]) -> Bytes {
        let value = |value: &OptionValue| SessionOptionValue { option_value: Some(value.clone()) };
        let session_options = options.iter().map(|(name, option)| (name.to_string(), value(option))).collect();
        SetSessionOptionsRequest { session_options }.encode_to_vec().into()
    }

    fn errors(body: &Bytes, session: &mut Session) -> Vec<(String, i32)> {
        let result = set(body, &["gold".to_string()], session).unwrap();
        let result = SetSessionOptionsResult::decode(&*result).unwrap();
        let mut errors: Vec<_> = result.errors.into_iter().map(|(name, error)| (name, error.value)).collect();
        errors.sort();
        errors
    }

    #[test]
    fn known_options_are_kept_and_the_others_named() {
        let mut session = Session::default();
        let text = |text: &str| OptionValue::String(text.to_string());
        assert_eq!(errors(&request(&[("catalog", text("flash")), ("schema", text("gold"))]), &mut session), []);
        assert_eq!(session.schema.as_deref(), Some("gold"));

        let wrong = request(&[("catalog", text("x")), ("schema", OptionValue::Bool(true)), ("colour", text("red"))]);
        let expected = [("catalog", INVALID_VALUE), ("colour", INVALID_NAME), ("schema", INVALID_VALUE)];
        assert_eq!(errors(&wrong, &mut session), expected.map(|(name, value)| (name.to_string(), value)));
        assert_eq!(session.schema.as_deref(), Some("gold"));

        assert_eq!(errors(&request(&[("schema", text(""))]), &mut session), []);
        assert_eq!(session.schema, None);
    }

    #[test]
    fn the_handle_is_found_in_the_token_or_the_cookie() {
        let token = secret::random();
        let mut metadata = MetadataMap::new();
        assert_eq!(handle(&metadata), None);
        metadata.insert("cookie", format!("a=b; {COOKIE}={token}; c=d").parse().unwrap());
        assert_eq!(handle(&metadata), Some(handle_of(&token)));
        let other = secret::random();
        assert_ne!(handle_of(&other), handle_of(&token));
        metadata.insert("authorization", format!("Bearer {other}").parse().unwrap());
        assert_eq!(handle(&metadata), Some(handle_of(&other)));
        metadata.insert("authorization", "Bearer flash_1234".parse().unwrap());
        assert_eq!(handle(&metadata), Some(handle_of(&token)), "a personal token leaves the session to the cookie");
    }
}
