//! Whether a page of another site may have sent a request.
//!
//! ```text
//!   POST, and the browser names another origin                  refused: the browser would add a log-in that it remembers
//!   a lake without users, and Host is a name but localhost      refused: a page can make its own name mean this machine
//! ```
//!
//! A browser on the operator's machine reaches loopback too, whatever page it shows.

use std::net::IpAddr;

use axum::http::{HeaderMap, Method, Uri, header};

/// `open`: everybody who reaches this server may do everything.
///
/// # Errors
/// A text for the caller.
pub(super) fn check(method: &Method, headers: &HeaderMap, uri: &Uri, open: bool) -> Result<(), &'static str> {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    // HTTP/2 has the host in the address.
    let host = text("host").or_else(|| uri.authority().map(|authority| authority.as_str())).unwrap_or_default();
    if open && !is_machine(host_name(host)) {
        return Err("this lake has no users, so it is asked by address only (hint: use http://127.0.0.1)");
    }
    if matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) {
        return Ok(());
    }
    let same = match (text("sec-fetch-site"), text(header::ORIGIN.as_str())) {
        (Some(site), _) => matches!(site, "same-origin" | "none"),
        (None, Some(origin)) => origin.split_once("://").is_some_and(|(_, from)| from.eq_ignore_ascii_case(host)),
        (None, None) => true, // no browser
    };
    if same { Ok(()) } else { Err("a page of another site may not send this") }
}

/// The host without its port.
fn host_name(host: &str) -> &str {
    match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    }
}

/// An address, or the one name that cannot be made to mean another machine.
fn is_machine(name: &str) -> bool {
    name.parse::<IpAddr>().is_ok() || name.eq_ignore_ascii_case("localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(method: Method, open: bool, headers: &[(&'static str, &str)]) -> bool {
        let mut map = HeaderMap::new();
        headers.iter().for_each(|(name, value)| drop(map.insert(*name, value.parse().unwrap())));
        check(&method, &map, &Uri::from_static("/v1/sql"), open).is_ok()
    }

    #[test]
    fn pages_of_other_sites_change_nothing() {
        let host = ("host", "shop.example:8080");
        assert!(checked(Method::POST, false, &[host]), "curl");
        assert!(checked(Method::POST, false, &[host, ("origin", "https://shop.example:8080")]));
        assert!(checked(Method::POST, false, &[host, ("sec-fetch-site", "same-origin")]));
        assert!(!checked(Method::POST, false, &[host, ("origin", "https://evil.example")]));
        assert!(!checked(Method::POST, false, &[host, ("origin", "null")]));
        assert!(!checked(Method::POST, false, &[host, ("sec-fetch-site", "cross-site")]));
        assert!(!checked(Method::POST, false, &[host, ("sec-fetch-site", "same-site")]));
        assert!(checked(Method::GET, false, &[host, ("sec-fetch-site", "cross-site")]), "a link");
    }

    #[test]
    fn an_open_lake_is_asked_by_address() {
        for host in ["127.0.0.1:8080", "localhost:8080", "[::1]:8080", "10.0.0.7"] {
            assert!(checked(Method::GET, true, &[("host", host)]), "{host}");
        }
        for host in ["evil.example:8080", "127.0.0.1.evil.example", "localhost.evil.example", ""] {
            assert!(!checked(Method::GET, true, &[("host", host)]), "{host}");
        }
    }
}
