//! Who asks. Fixed by authentication; nothing in SQL can change it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::catalog::access::Grant;
use crate::error::{Error, ErrorKind};
use crate::name::TableName;
use crate::parser::{GrantOn, Privilege, RoleLimits};

/// The one on whose behalf a session runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The name for logs.
    pub subject: String,
    /// What they may do and see.
    pub rights: Rights,
    /// What they may use.
    pub limits: RoleLimits,
}

/// What a principal may do and see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rights {
    /// Everything; no policy or mask holds.
    All,
    /// What was granted.
    Granted(Arc<Granted>),
}

/// What was granted to somebody, directly and by roles.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Granted {
    /// All roles, those of roles too.
    pub roles: BTreeSet<String>,
    /// All rights.
    pub grants: BTreeSet<Grant>,
    /// What policies ask for.
    pub attributes: BTreeMap<String, String>,
}

impl Principal {
    /// The refresher and the operator at the keyboard.
    pub fn system() -> Self {
        Self { subject: "system".into(), rights: Rights::All, limits: RoleLimits::default() }
    }

    /// Somebody on this machine, in a lake without users.
    pub fn local() -> Self {
        Self { subject: "local".into(), rights: Rights::All, limits: RoleLimits::default() }
    }

    /// May do everything.
    pub fn is_admin(&self) -> bool {
        self.rights == Rights::All
    }

    /// May do this with the table.
    pub fn may(&self, privilege: Privilege, table: &TableName) -> bool {
        let Rights::Granted(granted) = &self.rights else { return true };
        let (table, schema) = (GrantOn::Table(table.clone()), GrantOn::Schema(table.schema.clone()));
        [table, schema].into_iter().any(|on| granted.grants.contains(&Grant { privilege, on }))
    }

    /// May change rows of some table.
    pub fn may_write(&self) -> bool {
        match &self.rights {
            Rights::All => true,
            Rights::Granted(granted) => granted.grants.iter().any(|grant| grant.privilege != Privilege::Select),
        }
    }

    /// The value of an attribute, as policies read it.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        match &self.rights {
            Rights::All => None,
            Rights::Granted(granted) => granted.attributes.get(name).map(String::as_str),
        }
    }

    /// The refusal of what they may not do.
    pub fn denied(&self, what: impl std::fmt::Display) -> Error {
        Error::new(ErrorKind::Denied, format!("{} may not {what}", self.subject))
            .with_hint("an administrator gives rights with GRANT")
    }
}
