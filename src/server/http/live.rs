//! Tells pages that there is something new: versions only, never rows.
//!
//! ```text
//!   published record ─▶ gold views with a new version, of those that the page may read ─▶ event: published
//!   every LAG_EVERY  ─▶ how far behind, and whether the page may still look             ─▶ event: lag, or the end
//! ```

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, Uri};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use tonic::Status;

use super::dashboard::{instant, parameter, versions};
use super::{Failure, Site};
use crate::epoch::{PublishedRecord, Version};
use crate::name::TableName;
use crate::parser::Privilege;
use crate::server::listener::Peer;

/// Pages that may listen at the same time.
pub(super) const PAGES_MAX: usize = 10_000;

/// Time between two looks at how far behind the views are; it also keeps the connection open.
const LAG_EVERY: Duration = Duration::from_secs(15);

/// Epochs that come within this time are told as one.
const TOGETHER: Duration = Duration::from_millis(200);

/// One page that listens.
struct Listener {
    site: Arc<Site>,
    headers: HeaderMap,
    token: Option<String>,
    peer: Peer,
    published: watch::Receiver<Arc<PublishedRecord>>,
    told: BTreeMap<String, Version>,
    lag: Interval,
    _place: OwnedSemaphorePermit,
}

pub(super) async fn stream(
    State(site): State<Arc<Site>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let token = parameter(&uri, "token");
    site.guest(&headers, token.as_deref(), &peer).await?;
    let full = |_| Status::unavailable("too many pages are open (hint: try again later)");
    let place = Arc::clone(&site.places).try_acquire_owned().map_err(full)?;
    let published = site.service.backend.published();
    let told = versions(&published.borrow());
    let mut lag = interval_at(Instant::now(), LAG_EVERY);
    lag.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let listener = Listener { site, headers, token, peer, published, told, lag, _place: place };
    let events = stream::unfold(listener, |mut listener| async {
        let event = listener.next().await?;
        Some((Ok::<_, Infallible>(event), listener))
    });
    Ok(Sse::new(events).into_response())
}

impl Listener {
    /// The next thing to tell; the stream ends when there is nothing more, or nobody who may hear it.
    async fn next(&mut self) -> Option<Event> {
        let stop = self.site.service.shutdown.clone();
        loop {
            tokio::select! {
                () = stop.cancelled() => return None,
                _ = self.lag.tick() => return self.lag().await,
                changed = self.published.changed() => {
                    changed.ok()?;
                    tokio::time::sleep(TOGETHER).await;
                    if let Some(event) = self.news().await? {
                        return Some(event);
                    }
                }
            }
        }
    }

    async fn lag(&self) -> Option<Event> {
        self.site.guest(&self.headers, self.token.as_deref(), &self.peer).await.ok()?;
        let as_of = instant(self.published.borrow().now_us);
        let lag_ms = self.site.lag_ms().await.ok()?;
        event("lag", &json!({ "as_of": as_of, "lag_ms": lag_ms }))
    }

    /// The views with a new version; nothing where there is none that the page may read.
    async fn news(&mut self) -> Option<Option<Event>> {
        let record = Arc::clone(&self.published.borrow_and_update());
        let guest = self.site.guest(&self.headers, self.token.as_deref(), &self.peer).await.ok()?;
        let now = versions(&record);
        let as_of = instant(record.now_us);
        let is_new = |name: &str, version: Version| self.told.get(name) != Some(&version);
        let may_read = |name: &str| {
            let (schema, table) = name.split_once('.').unwrap_or_default();
            guest.principal.may(Privilege::Select, &TableName::new(schema, table))
        };
        let new = now.iter().filter(|(name, version)| is_new(name, **version) && may_read(name));
        let views: Vec<_> =
            new.map(|(view, version)| json!({ "view": view, "version": version, "as_of": as_of })).collect();
        self.told = now;
        if views.is_empty() {
            return Some(None);
        }
        Some(event("published", &json!({ "as_of": as_of, "views": views })))
    }
}

fn event(name: &str, data: &serde_json::Value) -> Option<Event> {
    Some(Event::default().event(name).data(data.to_string()))
}
