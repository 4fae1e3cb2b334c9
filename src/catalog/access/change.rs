//! What a statement changes. Pure: hashes and the time come from outside.
//!
//! ```text
//!   Access + statement + secret ─▶ Access'      refused: unknown names, the last administrator, what is there already
//! ```

use std::collections::BTreeSet;

use super::{ADMIN, Access, Grant, Mask, Policy, Role, Token, User};
use crate::error::{Error, ErrorKind, Result};
use crate::name::TableName;
use crate::parser::{AccessStatement, GrantWhat, PUBLIC, UserChange};

/// The most users, and the most roles, that a lake has.
const NAMES_MAX: usize = 100_000;

/// The most tokens that a user has.
const TOKENS_MAX: usize = 100;

/// Names that principals have who are no users.
const RESERVED: [&str; 2] = ["local", "system"];

/// Outcome of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// All of it, afterwards.
    pub access: Access,
    /// What was done, for people.
    pub message: String,
}

impl Access {
    /// Carry out a statement that `subject` gives. `secret`: the hash of the password, or the digest of the token, that
    /// goes with it.
    ///
    /// # Errors
    /// `NotFound`, `AlreadyExists`, `Definition`.
    pub fn change(
        &self,
        statement: &AccessStatement,
        subject: &str,
        secret: Option<String>,
        now_us: i64,
    ) -> Result<Changed> {
        use AccessStatement as S;
        let mut next = self.clone();
        let message = match statement {
            S::CreateUser { name, roles, attributes, .. } => {
                next.unused(name)?;
                let roles = next.known_roles(roles)?;
                let attributes = attributes.clone();
                let user = User { password: secret, enabled: true, roles, attributes, ..User::default() };
                next.users.insert(name.clone(), user);
                format!("user {name}: created")
            }
            S::AlterUser { name, change } => next.alter_user(name, change, secret)?,
            S::DropUser { name, if_exists } => match (next.users.remove(name), if_exists) {
                (None, false) => return Err(no_user(name)),
                (None, true) => format!("user {name} is not there"),
                (Some(_), _) => format!("user {name}: dropped, and its tokens with it"),
            },
            S::CreateRole { name, roles } => {
                next.unused(name)?;
                let roles = next.known_roles(roles)?;
                next.roles.insert(name.clone(), Role { roles, ..Role::default() });
                format!("role {name}: created")
            }
            S::AlterRole { name, limits } => {
                if !next.is_role(name) {
                    return Err(no_role(name));
                }
                next.roles.entry(name.clone()).or_default().limits = *limits;
                format!("role {name}: limits are changed")
            }
            S::DropRole { name, if_exists } => next.drop_role(name, *if_exists)?,
            S::Grant { what, to } => next.grant(what, to, true)?,
            S::Revoke { what, from } => next.grant(what, from, false)?,
            S::CreatePolicy { name, on, restrictive, to, using } => {
                let to = next.known_roles(to)?;
                let policy = Policy { to, restrictive: *restrictive, using: using.clone() };
                if next.policies.entry(on.clone()).or_default().insert(name.clone(), policy).is_some() {
                    return Err(exists("policy", name, on));
                }
                format!("policy {name} on {on}: created")
            }
            S::CreateMask { name, on, column, to, using } => {
                let to = next.known_roles(to)?;
                let mask = Mask { column: column.clone(), to, using: using.clone() };
                if next.masks.entry(on.clone()).or_default().insert(name.clone(), mask).is_some() {
                    return Err(exists("mask", name, on));
                }
                format!("mask {name} on {on}: created")
            }
            S::DropPolicy { name, on, if_exists } => dropped("policy", &mut next.policies, name, on, *if_exists)?,
            S::DropMask { name, on, if_exists } => dropped("mask", &mut next.masks, name, on, *if_exists)?,
            S::CreateToken { name, user, valid_ms } => {
                let expires_us = valid_ms.map(|ms| now_us.saturating_add_unsigned(ms.saturating_mul(1000)));
                let token = Token { hash: secret.unwrap_or_default(), expires_us };
                next.create_token(name, user.as_deref().unwrap_or(subject), token)?
            }
            S::DropToken { name, user } => {
                let user = user.as_deref().unwrap_or(subject);
                if next.user(user)?.tokens.remove(name).is_none() {
                    return Err(Error::new(ErrorKind::NotFound, format!("{user} has no token {name}")));
                }
                format!("token {name} of {user}: dropped; it is refused from now on")
            }
        };
        let stays_open = self.is_open() && next.is_open();
        if !stays_open && !next.has_admin() {
            return Err(Error::new(ErrorKind::Definition, "nobody could administer this lake any more")
                .with_hint("the first user needs ROLE admin, and the last enabled administrator stays"));
        }
        Ok(Changed { access: next, message })
    }

    fn alter_user(&mut self, name: &str, change: &UserChange, secret: Option<String>) -> Result<String> {
        let user = self.user(name)?;
        Ok(match change {
            UserChange::Password(_) => {
                user.password = secret;
                format!("user {name}: the password is changed")
            }
            UserChange::Attributes(attributes) => {
                user.attributes.clone_from(attributes);
                format!("user {name}: attributes are changed")
            }
            UserChange::Limits(limits) => {
                user.limits = *limits;
                format!("user {name}: limits are changed")
            }
            UserChange::Enabled(enabled) => {
                user.enabled = *enabled;
                format!("user {name}: {}", if *enabled { "enabled" } else { "disabled" })
            }
        })
    }

    fn create_token(&mut self, name: &str, user: &str, token: Token) -> Result<String> {
        let tokens = &mut self.user(user)?.tokens;
        if tokens.contains_key(name) {
            return Err(Error::new(ErrorKind::AlreadyExists, format!("{user} has a token {name}"))
                .with_hint(format!("DROP TOKEN {name} FOR {user} first")));
        }
        if tokens.len() >= TOKENS_MAX {
            return Err(Error::new(ErrorKind::Definition, format!("{user} has {TOKENS_MAX} tokens already"))
                .with_hint("drop those that are not used any more"));
        }
        tokens.insert(name.to_string(), token);
        Ok(format!("token {name} of {user}: created"))
    }

    fn drop_role(&mut self, name: &str, if_exists: bool) -> Result<String> {
        if self.roles.remove(name).is_none() {
            return match if_exists {
                true => Ok(format!("role {name} is not there")),
                false => Err(no_role(name)),
            };
        }
        let named = self.policies.values().flat_map(|policies| policies.values().map(|policy| &policy.to));
        let named = named.chain(self.masks.values().flat_map(|masks| masks.values().map(|mask| &mask.to)));
        // A mask without its role would hold for nobody, and show what it hides.
        if named.into_iter().any(|to| to.contains(name)) {
            return Err(Error::new(ErrorKind::Definition, format!("policies or masks are for the role {name}"))
                .with_hint("drop those first; system.policies lists them"));
        }
        let holders = self.users.values_mut().map(|user| &mut user.roles);
        for roles in holders.chain(self.roles.values_mut().map(|role| &mut role.roles)) {
            roles.remove(name);
        }
        Ok(format!("role {name}: dropped"))
    }

    fn grant(&mut self, what: &GrantWhat, to: &BTreeSet<String>, give: bool) -> Result<String> {
        if let GrantWhat::Roles(roles) = what {
            self.known_roles(roles)?;
        }
        for name in to {
            if let Some(user) = self.users.get_mut(name) {
                put(what, &mut user.roles, &mut user.grants, give);
            } else if self.is_role(name) {
                let role = self.roles.entry(name.clone()).or_default();
                put(what, &mut role.roles, &mut role.grants, give);
            } else {
                return Err(Error::new(ErrorKind::NotFound, format!("there is no user or role {name}")));
            }
        }
        if let Some(role) = to.iter().find(|role| self.roles.contains_key(*role) && self.is_in_itself(role)) {
            return Err(Error::new(ErrorKind::Definition, format!("the role {role} would have itself")));
        }
        let names = to.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        Ok(format!("{} {names}", if give { "granted to" } else { "revoked from" }))
    }

    fn is_in_itself(&self, role: &str) -> bool {
        let own = self.roles.get(role).map(|role| &role.roles);
        own.is_some_and(|own| self.closure(own).contains(role) && role != PUBLIC)
    }

    fn is_role(&self, name: &str) -> bool {
        name == ADMIN || name == PUBLIC || self.roles.contains_key(name)
    }

    /// See to it that there is a role of this name.
    pub(super) fn role(&mut self, name: &str) -> Result<()> {
        if !self.is_role(name) {
            self.unused(name)?;
            self.roles.insert(name.to_string(), Role::default());
        }
        Ok(())
    }

    fn known_roles(&self, roles: &BTreeSet<String>) -> Result<BTreeSet<String>> {
        match roles.iter().find(|role| !self.is_role(role)) {
            Some(unknown) => Err(no_role(unknown)),
            None => Ok(roles.clone()),
        }
    }

    fn user(&mut self, name: &str) -> Result<&mut User> {
        self.users.get_mut(name).ok_or_else(|| no_user(name))
    }

    fn unused(&self, name: &str) -> Result<()> {
        if self.users.contains_key(name) || self.is_role(name) || RESERVED.contains(&name) {
            return Err(Error::new(ErrorKind::AlreadyExists, format!("there is a user or role {name} already")));
        }
        if self.users.len().max(self.roles.len()) >= NAMES_MAX {
            return Err(Error::new(ErrorKind::Definition, format!("there are {NAMES_MAX} users or roles already")));
        }
        Ok(())
    }
}

fn put(what: &GrantWhat, roles: &mut BTreeSet<String>, grants: &mut BTreeSet<Grant>, give: bool) {
    match what {
        GrantWhat::Roles(given) if give => roles.extend(given.iter().cloned()),
        GrantWhat::Roles(taken) => roles.retain(|role| !taken.contains(role)),
        GrantWhat::Privileges { privileges, on } => {
            for privilege in privileges {
                let grant = Grant { privilege: *privilege, on: on.clone() };
                if give {
                    grants.insert(grant)
                } else {
                    grants.remove(&grant)
                };
            }
        }
    }
}

fn dropped<T>(
    kind: &str,
    all: &mut std::collections::BTreeMap<TableName, std::collections::BTreeMap<String, T>>,
    name: &str,
    on: &TableName,
    if_exists: bool,
) -> Result<String> {
    let gone = all.get_mut(on).and_then(|of_table| of_table.remove(name));
    all.retain(|_, of_table| !of_table.is_empty());
    match (gone, if_exists) {
        (Some(_), _) => Ok(format!("{kind} {name} on {on}: dropped")),
        (None, true) => Ok(format!("{kind} {name} on {on} is not there")),
        (None, false) => Err(Error::new(ErrorKind::NotFound, format!("there is no {kind} {name} on {on}"))),
    }
}

fn exists(kind: &str, name: &str, on: &TableName) -> Error {
    Error::new(ErrorKind::AlreadyExists, format!("there is a {kind} {name} on {on} already"))
        .with_hint(format!("DROP {} {name} ON {on} first", kind.to_uppercase()))
}

fn no_user(name: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is no user {name}"))
}

fn no_role(name: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is no role {name}")).with_hint(format!("CREATE ROLE {name}"))
}
