//! `GET /v1/openapi.json`: what the HTTP API takes and gives, for programs that are written against it.

use axum::http::header;
use axum::response::{IntoResponse, Response};

const DOCUMENT: &str = include_str!("openapi.json");

pub(super) async fn document() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT).into_response()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;
    use crate::dashboard::queries::TILES;

    #[test]
    fn the_document_names_what_there_is() {
        let document: Value = serde_json::from_str(DOCUMENT).unwrap();
        let documented: BTreeSet<&str> = document["paths"].as_object().unwrap().keys().map(String::as_str).collect();
        let routes = [include_str!("dashboard.rs"), include_str!("../http.rs")].join("\n");
        let code = routes.split("#[cfg(test)]").next().unwrap();
        for path in &documented {
            assert!(routes.contains(&format!("\"{path}\"")), "{path} is documented, and not there");
        }
        for part in code.split(".route(\"").skip(1) {
            let path = part.split('"').next().unwrap();
            assert!(!path.starts_with("/v1/") || documented.contains(path), "{path} is not documented");
        }
        let tiles = &document["components"]["schemas"]["Dashboard"]["properties"]["tiles"]["properties"];
        let relations = ["cube", "last_orders", "places", "shelf", "sold", "steps", "trend_by_minute", "visits"];
        let wanted: BTreeSet<&str> = TILES.keys().copied().filter(|name| !relations.contains(name)).collect();
        assert_eq!(tiles.as_object().unwrap().keys().map(String::as_str).collect::<BTreeSet<_>>(), wanted);
    }
}
