//! Who looks at a page, and whose rows they look at.
//!
//! ```text
//!   token=v1...            ─Signer─▶ who made the link, as they stand now; the seller is fixed
//!   cookie, Authorization  ─Service─▶ whoever it is
//! ```

use axum::http::HeaderMap;
use tonic::Status;

use super::{Failure, Site};
use crate::catalog::{Principal, system};
use crate::dashboard::link::Link;
use crate::error::{Error, ErrorKind};
use crate::name::TableName;
use crate::parser::Privilege;
use crate::server::listener::Peer;
use crate::server::status;

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Guest {
    pub(super) principal: Principal,
    /// The seller that a link is for.
    pub(super) seller: Option<String>,
    /// The number of the rules under which this was found out.
    pub(super) access: u64,
    /// They have said who they are.
    known: bool,
}

impl Guest {
    /// By a link: nobody else's rows, and no other page.
    pub(super) fn locked(&self) -> bool {
        self.seller.is_some()
    }

    /// May see how the views are kept.
    pub(super) fn is_operator(&self) -> bool {
        !self.locked() && self.principal.may(Privilege::Select, &views())
    }

    /// The refusal of those who may not.
    pub(super) fn not_operator(&self) -> Status {
        status::of(&self.principal.denied(format!("read {}", views())))
    }

    /// Their name, where there are names.
    pub(super) fn name(&self) -> Option<&str> {
        (self.known && !self.locked()).then_some(self.principal.subject.as_str())
    }
}

fn views() -> TableName {
    TableName::new(system::SCHEMA, "materialized_views")
}

impl Site {
    /// Who it is: by the link's token where there is one, or else by what the headers say.
    pub(super) async fn guest(&self, headers: &HeaderMap, token: Option<&str>, peer: &Peer) -> Result<Guest, Failure> {
        let access = self.service.backend.access().await.map_err(|error| status::of(&error))?;
        let Some(token) = token else {
            let caller = self.caller(headers, peer).await?;
            let known = !access.is_open();
            return Ok(Guest { principal: caller.principal, seller: None, access: access.number, known });
        };
        let read = self.signer.read(token, chrono::Utc::now().timestamp());
        let Link { user, seller, .. } = read.map_err(|error| status::of(&error))?;
        let maker = match &user {
            Some(user) => access.principal(user),
            None => access.is_open().then(Principal::local),
        };
        let principal = maker.ok_or_else(|| {
            status::of(&Error::new(ErrorKind::Unauthenticated, "whoever made this link may not come in any more"))
        })?;
        Ok(Guest { principal, seller: Some(seller), access: access.number, known: user.is_some() })
    }
}
