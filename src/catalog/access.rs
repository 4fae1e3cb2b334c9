//! Who there is, and what they may do and see: values, kept in the lake as numbered records, by conditional put.
//!
//! ```text
//! _flash/access/N.json    { users, roles, policies, masks, declassified }        the newest record is the truth
//!
//!   AccessStatement ──change──▶ Access' ──save──▶ record N + 1
//!   user ──principal──▶ roles (and theirs, and `public`), grants, attributes ─▶ Principal ─▶ rows() masks() of a table
//! ```
//!
//! A lake without users is open to everybody who reaches it, which is this machine only. With the first user, who must be
//! an administrator, everybody has to say who they are.

mod change;
pub mod secret;
mod stated;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::catalog::principal::{Granted, Rights};
use crate::catalog::{Principal, numbered};
use crate::error::Result;
use crate::name::TableName;
use crate::parser::{GrantOn, PUBLIC, Privilege, RoleLimits};
use crate::storage::Storage;

pub use change::Changed;
pub use stated::{Changing, Stated};

/// Folder of the records.
const FOLDER: &str = "_flash/access";

/// The role that may do everything, and that no policy or mask holds for.
pub const ADMIN: &str = "admin";

/// Everything that is known of who may do what.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// The record's number; 0: nothing was ever said.
    pub number: u64,
    /// Users by name.
    pub users: BTreeMap<String, User>,
    /// Roles by name; `admin` and `public` are there without standing here, unless they have grants.
    pub roles: BTreeMap<String, Role>,
    /// Policies by table and name.
    pub policies: BTreeMap<TableName, BTreeMap<String, Policy>>,
    /// Masks by table and name.
    pub masks: BTreeMap<TableName, BTreeMap<String, Mask>>,
    /// Views that policies of the tables below do not reach, by the fingerprint of the definition that was looked at.
    #[serde(default)]
    pub declassified: BTreeMap<TableName, String>,
    /// What of all this stands in the files of a project, by object.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub stated: BTreeMap<TableName, Stated>,
    /// What is to be said of objects that are being changed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub changing: BTreeMap<TableName, Changing>,
}

/// Somebody.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The password's Argon2id hash, as a PHC string.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// May come in.
    pub enabled: bool,
    /// Roles that were given.
    #[serde(default)]
    pub roles: BTreeSet<String>,
    /// Rights that were given to nobody else.
    #[serde(default)]
    pub grants: BTreeSet<Grant>,
    /// What policies ask for.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
    /// Tokens by name.
    #[serde(default)]
    pub tokens: BTreeMap<String, Token>,
    /// What they may use.
    #[serde(default)]
    pub limits: RoleLimits,
}

/// A personal access token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// SHA-256 of the token, in hexadecimal digits. A token is random, so a slow hash would protect nothing.
    pub hash: String,
    /// Microseconds since 1970 UTC; `None`: until it is dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_us: Option<i64>,
}

impl Token {
    /// It is the token of this digest, and not expired.
    fn holds(&self, digest: &str, now_us: i64) -> bool {
        self.hash == digest && self.expires_us.is_none_or(|until| now_us < until)
    }
}

/// A set of rights.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Role {
    /// Roles whose rights it has, too.
    #[serde(default)]
    pub roles: BTreeSet<String>,
    /// Its own rights.
    #[serde(default)]
    pub grants: BTreeSet<Grant>,
    /// What each of those who have it may use.
    #[serde(default)]
    pub limits: RoleLimits,
}

/// A right on a table, or on all of a schema.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Grant {
    /// Which.
    pub privilege: Privilege,
    /// On what.
    pub on: GrantOn,
}

/// Which rows roles see of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// For these roles.
    pub to: BTreeSet<String>,
    /// A further condition, and not one more way to see a row.
    #[serde(default)]
    pub restrictive: bool,
    /// The condition.
    pub using: String,
}

/// What roles see in the place of a column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mask {
    /// The column.
    pub column: String,
    /// For these roles.
    pub to: BTreeSet<String>,
    /// The expression.
    pub using: String,
}

impl Access {
    /// The newest record.
    ///
    /// # Errors
    /// `Storage`, `Corrupt`.
    pub async fn load(storage: &dyn Storage) -> Result<Self> {
        numbered::load(storage, FOLDER).await
    }

    /// Write `self` as the record after `self.number`.
    ///
    /// # Errors
    /// `Conflict` when another process has written it; `Storage`.
    pub async fn save(&mut self, storage: &dyn Storage) -> Result<()> {
        self.number += 1;
        numbered::save(storage, FOLDER, self.number, self, "users").await
    }

    /// Nobody has to say who they are.
    pub fn is_open(&self) -> bool {
        self.users.is_empty()
    }

    /// The user as they stand now; `None` for one who is not there or may not come in.
    pub fn principal(&self, name: &str) -> Option<Principal> {
        let user = self.users.get(name).filter(|user| user.enabled)?;
        let roles = self.closure(&user.roles);
        let of_roles = roles.iter().filter_map(|role| self.roles.get(role)).map(|role| role.limits);
        let limits = of_roles.fold(user.limits, RoleLimits::and);
        if roles.contains(ADMIN) {
            return Some(Principal { subject: name.into(), rights: Rights::All, limits });
        }
        let of_roles = roles.iter().filter_map(|role| self.roles.get(role)).flat_map(|role| role.grants.iter());
        let grants = of_roles.chain(&user.grants).cloned().collect();
        let granted = Granted { roles, grants, attributes: user.attributes.clone() };
        Some(Principal { subject: name.into(), rights: Rights::Granted(granted.into()), limits })
    }

    /// These roles, those that they have, and so on, and the one that everybody has.
    fn closure(&self, roles: &BTreeSet<String>) -> BTreeSet<String> {
        let mut found = BTreeSet::from([PUBLIC.to_string()]);
        let mut open: Vec<&String> = roles.iter().collect();
        while let Some(role) = open.pop() {
            if found.insert(role.clone()) {
                open.extend(self.roles.get(role).into_iter().flat_map(|role| role.roles.iter()));
            }
        }
        found
    }

    /// Somebody who could come in and do everything.
    fn has_admin(&self) -> bool {
        self.users.values().any(|user| user.enabled && self.closure(&user.roles).contains(ADMIN))
    }

    /// What a log-in of this user by password rests on.
    pub fn password_basis(&self, user: &str) -> Option<String> {
        self.users.get(user)?.password.as_deref().map(secret::digest)
    }

    /// What a log-in rested on is still there: the same password, or a token that holds.
    pub fn stands(&self, user: &str, basis: &str, now_us: i64) -> bool {
        let tokens = self.users.get(user).into_iter().flat_map(|user| user.tokens.values());
        tokens.into_iter().any(|token| token.holds(basis, now_us))
            || self.password_basis(user).as_deref() == Some(basis)
    }

    /// Without what was given to, or said of, an object of this name; policies and masks stay, which only hide.
    pub fn without(&self, name: &TableName) -> Self {
        let mut next = self.clone();
        let of_others = |grant: &Grant| grant.on != GrantOn::Table(name.clone());
        next.users.values_mut().for_each(|user| user.grants.retain(of_others));
        next.roles.values_mut().for_each(|role| role.grants.retain(of_others));
        next.declassified.remove(name);
        next
    }

    /// Whose token this is, if it still holds.
    pub fn token_owner(&self, token: &str, now_us: i64) -> Option<&str> {
        let hash = secret::digest(token);
        let owns = |user: &User| user.tokens.values().any(|token| token.holds(&hash, now_us));
        self.users.iter().find(|(_, user)| owns(user)).map(|(name, _)| name.as_str())
    }
}
