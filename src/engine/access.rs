//! Who may do what: authentication, and changes of it.
//!
//! ```text
//!   CREATE USER, GRANT, CREATE POLICY ─▶ Access::change ─▶ record N + 1       lost the race: read it, change that
//!   name and password, token ─▶ Principal                                    as the newest record has it
//! ```
//!
//! What a principal sees is worked out in [`super::rules`].

use std::sync::Arc;
use std::time::Duration;

use crate::catalog::access::{Access, Changed, Mask, secret};
use crate::catalog::principal::Rights;
use crate::catalog::{Principal, policy};
use crate::engine::statements::{done, no_view};
use crate::engine::{AlterAction, Answer, Engine};
use crate::error::{Error, ErrorKind, Result};
use crate::name::TableName;
use crate::parser::{AccessStatement, Privilege, UserChange};

/// How long a change that another process has made may go unnoticed.
const ACCESS_AGE_MAX: Duration = Duration::from_secs(2);

/// Times that a change is made anew because another process was faster.
const CHANGES_MAX: usize = 10;

impl Engine {
    /// Who may do what, as of two seconds ago at most.
    ///
    /// # Errors
    /// `Storage`, `Corrupt`.
    pub async fn access(&self) -> Result<Arc<Access>> {
        {
            let (read_at, access) = &*self.access.read();
            if read_at.elapsed() < ACCESS_AGE_MAX {
                return Ok(Arc::clone(access));
            }
        }
        self.load_access().await
    }

    /// The newest record, into memory.
    pub(super) async fn load_access(&self) -> Result<Arc<Access>> {
        let access = Arc::new(Access::load(self.storage.as_ref()).await?);
        let mut held = self.access.write();
        if access.number >= held.1.number {
            *held = (std::time::Instant::now(), access);
        }
        Ok(Arc::clone(&held.1))
    }

    /// Whoever has this name and password.
    ///
    /// # Errors
    /// `Unauthenticated`, with one text for all reasons; `Storage`.
    pub async fn log_in(&self, user: &str, password: &str) -> Result<Principal> {
        let access = self.access().await?;
        let phc = access.users.get(user).and_then(|user| user.password.clone());
        let password = password.to_string();
        let right = tokio::task::spawn_blocking(move || secret::verify(&password, phc.as_deref())).await;
        let principal = access.principal(user).filter(|_| right.unwrap_or(false));
        principal.ok_or_else(|| Error::new(ErrorKind::Unauthenticated, "the name or the password is wrong"))
    }

    /// Whoever has this personal access token.
    ///
    /// # Errors
    /// As `log_in`.
    pub async fn token_principal(&self, token: &str) -> Result<Principal> {
        let access = self.access().await?;
        let owner = access.token_owner(token, self.clock.now_us());
        let principal = owner.and_then(|owner| access.principal(owner));
        principal.ok_or_else(|| Error::new(ErrorKind::Unauthenticated, "the token is unknown, expired or dropped"))
    }

    /// Carry out a statement on users, roles, policies, masks or tokens.
    pub(super) async fn change_access(&self, principal: &Principal, statement: &AccessStatement) -> Result<Answer> {
        if !principal.is_admin() && !is_own(statement, &principal.subject) {
            return Err(principal.denied("change users, roles, policies or tokens"));
        }
        self.check_expression(principal, statement).await?;
        let (hash, shown) = secrets(statement).await?;
        let now_us = self.clock.now_us();
        let changed =
            self.save_access(|access| access.change(statement, &principal.subject, hash.clone(), now_us)).await?;
        let message = match shown {
            Some(token) => format!("{changed}\n{token}\nkeep it: it is not shown again"),
            None => changed,
        };
        Ok(done(message, None))
    }

    /// Whether policies of the tables below reach a view.
    pub(super) async fn classify_view(&self, name: &TableName, action: AlterAction) -> Result<Answer> {
        let fingerprint = self.graph.read().slots.get(name).map(|slot| slot.view.fingerprint.clone());
        let Some(fingerprint) = fingerprint else { return Err(no_view(name)) };
        let message = self
            .save_access(|access| {
                let mut access = access.clone();
                let message = if action == AlterAction::Declassify {
                    access.declassified.insert(name.clone(), fingerprint.clone());
                    format!("{name}: declassified; policies and masks of the tables below do not reach it")
                } else {
                    access.declassified.remove(name);
                    format!("{name}: classified; policies and masks of the tables below reach it")
                };
                Ok(Changed { access, message })
            })
            .await?;
        Ok(done(message, None))
    }

    /// What was given on an object goes with it: the next one of that name is another.
    pub(super) async fn forget_access(&self, name: &TableName) -> Result<()> {
        self.save_stated(|access| Ok(access.without(name))).await
    }

    /// Make the change in the newest record; a lost race is a newer record.
    pub(super) async fn save_access(&self, change: impl Fn(&Access) -> Result<Changed>) -> Result<String> {
        for attempt in 1.. {
            let newest = self.load_access().await?;
            let Changed { mut access, message } = change(&newest)?;
            match access.save(self.storage.as_ref()).await {
                Ok(()) => {
                    let mut held = self.access.write();
                    if access.number >= held.1.number {
                        *held = (std::time::Instant::now(), Arc::new(access));
                    }
                    return Ok(message);
                }
                Err(error) if error.kind() == ErrorKind::Conflict && attempt < CHANGES_MAX => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::new(ErrorKind::Internal, "a change of access ended without an outcome"))
    }

    /// A policy or mask must fit its table before it is kept: later it would only hide rows.
    async fn check_expression(&self, principal: &Principal, statement: &AccessStatement) -> Result<()> {
        let (AccessStatement::CreatePolicy { on, .. } | AccessStatement::CreateMask { on, .. }) = statement else {
            return Ok(());
        };
        let session = self.session(principal).await?;
        let table = session.table_provider(datafusion::common::TableReference::partial(&*on.schema, &*on.name)).await;
        let schema =
            table.map_err(|_| Error::new(ErrorKind::NotFound, format!("there is no table or view {on}")))?.schema();
        policy::fits(&session.state(), statement, &schema)
    }

    /// May this principal change rows of the table in this way? Not through policies: they say what is seen.
    pub(super) async fn may_change(
        &self,
        principal: &Principal,
        privilege: Privilege,
        table: &TableName,
        verb: &str,
    ) -> Result<()> {
        let Rights::Granted(granted) = &principal.rights else { return Ok(()) };
        if !principal.may(privilege, table) {
            return Err(principal.denied(format!("{verb} {table}")));
        }
        let access = self.access().await?;
        let masked = |mask: &Mask| !mask.to.is_disjoint(&granted.roles);
        let masks = access.masks.get(table).into_iter().flat_map(|masks| masks.values());
        if access.policies.contains_key(table) || masks.into_iter().any(masked) {
            return Err(principal
                .denied(format!("{verb} {table}"))
                .with_detail("it has policies or masks: only an administrator changes rows that others may not see"));
        }
        Ok(())
    }
}

/// A statement that everybody may give for themselves.
fn is_own(statement: &AccessStatement, subject: &str) -> bool {
    match statement {
        AccessStatement::AlterUser { name, change: UserChange::Password(_) } => name == subject,
        AccessStatement::CreateToken { user, .. } | AccessStatement::DropToken { user, .. } => {
            user.as_deref().is_none_or(|user| user == subject)
        }
        _ => false,
    }
}

/// What is kept of the statement's secret, and what is shown once.
async fn secrets(statement: &AccessStatement) -> Result<(Option<String>, Option<String>)> {
    match statement {
        AccessStatement::CreateUser { password: Some(password), .. }
        | AccessStatement::AlterUser { change: UserChange::Password(password), .. } => {
            let password = password.0.clone();
            let hash = tokio::task::spawn_blocking(move || secret::hash(&password)).await;
            let hash = hash.map_err(|error| Error::new(ErrorKind::Internal, error.to_string()))??;
            Ok((Some(hash), None))
        }
        AccessStatement::CreateToken { .. } => {
            let token = secret::token();
            Ok((Some(secret::digest(&token)), Some(token)))
        }
        _ => Ok((None, None)),
    }
}
