//! The dashboard's files, as `build.rs` has put them into the binary.
//!
//! ```text
//!   /assets/<hash of the build>/app.js ─▶ br, gzip or plain, kept by the browser for good: another build, another path
//!   index.html ─▶ {{assets}} and {{charts}} filled in, never kept
//! ```

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// A file.
pub(super) struct Asset {
    name: &'static str,
    plain: &'static [u8],
    gzip: Option<&'static [u8]>,
    brotli: Option<&'static [u8]>,
}

include!(concat!(env!("OUT_DIR"), "/assets.rs"));

/// Where the files of this build are.
pub(super) fn path() -> String {
    format!("/assets/{BUILD}")
}

/// A file of this build.
pub(super) fn serve(build: &str, name: &str, headers: &HeaderMap) -> Response {
    let found = ASSETS.iter().find(|asset| asset.name == name && !is_page(name) && build == BUILD);
    let Some(asset) = found else { return (StatusCode::NOT_FOUND, "there is no such file\n").into_response() };
    let accepted = headers.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let accepts = |name: &str| accepted.split(',').any(|each| each.trim().split(';').next() == Some(name));
    let (bytes, encoding) = match (asset.brotli, asset.gzip) {
        (Some(bytes), _) if accepts("br") => (bytes, Some("br")),
        (_, Some(bytes)) if accepts("gzip") => (bytes, Some("gzip")),
        _ => (asset.plain, None),
    };
    let mut response = ([(header::CONTENT_TYPE, kind(name))], bytes).into_response();
    let kept = HeaderValue::from_static("public, max-age=31536000, immutable");
    response.headers_mut().insert(header::CACHE_CONTROL, kept);
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if let Some(encoding) = encoding {
        response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
    }
    response
}

/// The text of a page, with its places filled in; the values are escaped.
pub(super) fn page(name: &str, values: &[(&str, &str)]) -> String {
    let found = ASSETS.iter().find(|asset| asset.name == name);
    let mut text = found.map_or(String::new(), |asset| String::from_utf8_lossy(asset.plain).into_owned());
    let chart = |file: &str| if CHARTS { format!("{}/{file}", path()) } else { String::new() };
    for (name, value) in [("charts", chart("charts.js")), ("map", chart("india.json")), ("assets", path())] {
        text = text.replace(&format!("{{{{{name}}}}}"), &value);
    }
    for (name, value) in values {
        text = text.replace(&format!("{{{{{name}}}}}"), &escape(value));
    }
    text
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn is_page(name: &str) -> bool {
    name.ends_with(".html")
}

fn kind(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" => "application/json",
        "svg" => "image/svg+xml",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_name_files_that_are_there() {
        for name in ["index.html", "login.html"] {
            let text = page(name, &[("wrong", ""), ("next", "/\"><script>"), ("embed", "")]);
            assert!(!text.contains("{{") && !text.contains("<script>"), "{text}");
            for part in text.split(&format!("{}/", path())).skip(1) {
                let file = part.split(['"', '\'']).next().unwrap_or_default();
                assert_eq!(serve(BUILD, file, &HeaderMap::new()).status(), StatusCode::OK, "{file}");
            }
        }
        assert_eq!(serve(BUILD, "index.html", &HeaderMap::new()).status(), StatusCode::NOT_FOUND);
        assert_eq!(serve("another", "app.js", &HeaderMap::new()).status(), StatusCode::NOT_FOUND);
    }

    #[test]
    fn what_the_browser_can_read_is_sent_small() {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip, br;q=0.5"));
        let response = serve(BUILD, "app.js", &headers);
        assert_eq!(response.headers().get(header::CONTENT_ENCODING).is_some(), CHARTS);
    }
}
