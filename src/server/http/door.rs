//! Coming in by name and password, going out, and letting others look.
//!
//! ```text
//!   POST /login   user, password ─▶ session ─▶ Set-Cookie: HttpOnly, SameSite=Strict (and Secure under TLS) ─▶ 303
//!   POST /logout  the session ends
//!   POST /v1/embed-links?seller=S001&days=7 ─▶ {"url": "/embed?token=v1...", "expires": "..."}
//! ```
//!
//! Other sites cannot make a browser do any of it: the cookie stays away from what they send, and what they post is
//! refused before it comes here (`origin`).

use std::sync::Arc;

use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::json;
use tonic::Status;

use super::dashboard::{html, instant, parameter};
use super::{Failure, Site, assets};
use crate::dashboard::link::{Link, VALID_SECONDS_MAX};
use crate::server::listener::Peer;
use crate::server::sessions::cookie;

/// Days that a link holds unless it is told.
const LINK_DAYS: i64 = 7;

/// The longest name of a seller, in bytes.
const SELLER_BYTES_MAX: usize = 256;

const DAY_SECONDS: i64 = 24 * 3600;

pub(super) async fn page(uri: Uri) -> Response {
    let next = inside(&parameter(&uri, "next").unwrap_or_default());
    html(assets::page("login.html", &[("wrong", ""), ("next", &next)]))
}

pub(super) async fn log_in(
    State(site): State<Arc<Site>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    body: Bytes,
) -> Response {
    let field = |wanted: &str| {
        let found = url::form_urlencoded::parse(&body).find(|(name, _)| name == wanted);
        found.map(|(_, value)| value.into_owned()).unwrap_or_default()
    };
    let next = inside(&field("next"));
    match begin(&site, &field("user"), &field("password"), &peer).await {
        Ok(token) => {
            let set = cookie(&token, peer.tls);
            (StatusCode::SEE_OTHER, [(header::LOCATION, next), (header::SET_COOKIE, set)]).into_response()
        }
        Err(Failure(status)) => {
            let page = assets::page("login.html", &[("wrong", status.message()), ("next", &next)]);
            (StatusCode::UNAUTHORIZED, html(page)).into_response()
        }
    }
}

async fn begin(site: &Site, user: &str, password: &str, peer: &Peer) -> Result<String, Failure> {
    let mut headers = HeaderMap::new();
    let basic = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
    let basic = HeaderValue::from_str(&basic).map_err(|error| Status::invalid_argument(error.to_string()))?;
    headers.insert(header::AUTHORIZATION, basic);
    let caller = site.caller(&headers, peer).await?;
    Ok(site.service.begin_session(&caller, None).await?)
}

pub(super) async fn log_out(
    State(site): State<Arc<Site>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    headers: HeaderMap,
) -> Response {
    if let Ok(caller) = site.caller(&headers, &peer).await
        && let Some(handle) = caller.session
    {
        // It may have ended by itself.
        let _ = site.service.sessions.take(handle.as_bytes(), &caller.principal.subject);
    }
    let gone = cookie("", peer.tls);
    (StatusCode::SEE_OTHER, [(header::LOCATION, "/login".to_string()), (header::SET_COOKIE, gone)]).into_response()
}

pub(super) async fn embed_link(
    State(site): State<Arc<Site>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let guest = site.guest(&headers, None, &peer).await?;
    let seller = parameter(&uri, "seller").filter(|seller| !seller.is_empty() && seller.len() <= SELLER_BYTES_MAX);
    let seller = seller.ok_or_else(|| Status::invalid_argument("say for which seller: ?seller=S001"))?;
    let days = parameter(&uri, "days").map_or(Ok(LINK_DAYS), |days| days.parse());
    let days = days.map_err(|_| Status::invalid_argument("days is a number"))?;
    let seconds = days.checked_mul(DAY_SECONDS).filter(|seconds| (1..=VALID_SECONDS_MAX).contains(seconds));
    let seconds = seconds.ok_or_else(|| Status::invalid_argument("a link holds for 1 to 366 days"))?;
    let expires = chrono::Utc::now().timestamp() + seconds;
    let token = site.signer.sign(&Link { user: guest.name().map(str::to_string), seller, expires });
    let body = json!({ "url": format!("/embed?token={token}"), "expires": instant(expires * 1_000_000) });
    Ok((StatusCode::CREATED, axum::Json(body)).into_response())
}

/// A path of ours to go on to; anything else is the front page.
fn inside(next: &str) -> String {
    let path = next.starts_with('/') && !next.starts_with("//") && next.bytes().all(|byte| byte.is_ascii_graphic());
    if path && !next.contains('\\') { next.to_string() } else { "/".to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_on_stays_inside() {
        assert_eq!(inside("/?range=7d&city=New+Delhi"), "/?range=7d&city=New+Delhi");
        for outside in ["", "//evil.example", "https://evil.example", "/\\evil.example", "/a\r\nb", "javascript:x"] {
            assert_eq!(inside(outside), "/", "{outside}");
        }
    }
}
