//! What the file of an object says of who sees what, and how the lake comes to hold it.
//!
//! ```text
//!   stated: what the file said   ─┐
//!                                 ├─▶ closed: grants that go; `changing` ─▶ the object changes ─▶ opened: all the rest
//!   what the file says now       ─┘       └ where rows would be hidden otherwise, they are shown to nobody meanwhile
//! ```
//!
//! So neither rows of before are judged by rules of afterwards, nor the other way round, wherever the process dies. What
//! comes from a file is written down apart (`stated`); what was said at a prompt, of other names, stays. Roles that are
//! named are made where they are missing.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Access, Grant, Mask, Policy};
use crate::error::{Error, ErrorKind, Result};
use crate::name::TableName;
use crate::parser::{AccessStatement, GrantOn, GrantWhat, Parsed, Privilege, Statement};

/// The rules that stand in the file of one object.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stated {
    /// By name.
    pub policies: BTreeMap<String, Policy>,
    /// By name.
    pub masks: BTreeMap<String, Mask>,
    /// Users or roles, and what they may do.
    pub grants: BTreeSet<(String, Privilege)>,
    /// Policies and masks of the tables below do not reach it.
    pub declassified: bool,
}

/// What is to be said of an object as soon as it is what its new definition makes of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changing {
    /// The rules.
    pub stated: Stated,
    /// Of that definition; empty where the object goes.
    pub fingerprint: String,
    /// Other rows are hidden than before, or other columns masked: until then nobody sees any.
    pub hides: bool,
}

impl Stated {
    /// What these rules say; [`crate::parser::parse_object_file`] has seen to it that they are of one object.
    ///
    /// # Errors
    /// `Definition` for a name that stands there twice.
    pub fn of(rules: &[Parsed]) -> Result<Self> {
        let mut stated = Self::default();
        let twice = |kind, name: &str| Error::new(ErrorKind::Definition, format!("{kind} {name} is defined twice"));
        for rule in rules {
            let Statement::Access(access) = &rule.statement else {
                stated.declassified = true;
                continue;
            };
            match &**access {
                AccessStatement::CreatePolicy { name, restrictive, to, using, .. } => {
                    let policy = Policy { to: to.clone(), restrictive: *restrictive, using: using.clone() };
                    if stated.policies.insert(name.clone(), policy).is_some() {
                        return Err(twice("policy", name));
                    }
                }
                AccessStatement::CreateMask { name, column, to, using, .. } => {
                    let mask = Mask { column: column.clone(), to: to.clone(), using: using.clone() };
                    if stated.masks.insert(name.clone(), mask).is_some() {
                        return Err(twice("mask", name));
                    }
                }
                AccessStatement::Grant { what: GrantWhat::Privileges { privileges, .. }, to } => {
                    stated.grants.extend(to.iter().flat_map(|to| privileges.iter().map(|right| (to.clone(), *right))));
                }
                _ => {}
            }
        }
        Ok(stated)
    }

    /// It says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Access {
    /// Before an object changes. `fingerprint`: of its new definition, that was looked at when it was declassified.
    ///
    /// # Errors
    /// `Definition` for a policy or mask of a user, who is no role; `AlreadyExists` for a name that no role can have.
    pub fn closed(&self, on: &TableName, now: &Stated, fingerprint: &str) -> Result<Self> {
        let mut next = self.clone();
        let before = next.stated.get(on).cloned().unwrap_or_default();
        for (name, right) in before.grants.difference(&now.grants) {
            let grant = Grant { privilege: *right, on: GrantOn::Table(on.clone()) };
            next.users.get_mut(name).map(|user| user.grants.remove(&grant));
            next.roles.get_mut(name).map(|role| role.grants.remove(&grant));
        }
        if before.declassified && !now.declassified {
            next.declassified.remove(on);
        }
        next.changing.remove(on);
        let change = Changing { stated: now.clone(), fingerprint: fingerprint.to_string(), hides: false };
        let after = next.with(on, &change)?;
        let hides = after.policies.get(on) != next.policies.get(on) || after.masks.get(on) != next.masks.get(on);
        if after != next {
            next.changing.insert(on.clone(), Changing { hides, ..change });
        }
        Ok(next)
    }

    /// When it has changed.
    ///
    /// # Errors
    /// As `closed`.
    pub fn opened(&self, on: &TableName) -> Result<Self> {
        let mut next = self.clone();
        match next.changing.remove(on) {
            Some(change) => next.with(on, &change),
            None => Ok(next),
        }
    }

    /// What would be said otherwise of this object: `- GRANT SELECT TO seller`, `+ POLICY own TO seller USING (...)`.
    ///
    /// # Errors
    /// As `closed`.
    pub fn difference(&self, on: &TableName, now: &Stated, fingerprint: &str) -> Result<Vec<String>> {
        let after = self.closed(on, now, fingerprint)?.opened(on)?;
        let (old, new) = (self.said_of(on), after.said_of(on));
        let roles =
            after.roles.keys().filter(|role| !self.roles.contains_key(*role)).map(|role| format!("+ ROLE {role}"));
        let gone = old.difference(&new).map(|rule| format!("- {rule}"));
        Ok(roles.chain(gone).chain(new.difference(&old).map(|rule| format!("+ {rule}"))).collect())
    }

    fn with(&self, on: &TableName, change: &Changing) -> Result<Self> {
        let (mut next, now) = (self.clone(), &change.stated);
        let of_policies = now.policies.values().flat_map(|policy| &policy.to);
        for role in of_policies.chain(now.masks.values().flat_map(|mask| &mask.to)) {
            if next.users.contains_key(role) {
                return Err(Error::new(ErrorKind::Definition, format!("{role} is a user"))
                    .with_detail(format!("policies and masks of {on} are for roles"))
                    .with_hint("name a role, and give it to the user: GRANT role TO user"));
            }
            next.role(role)?;
        }
        let before = next.stated.remove(on).unwrap_or_default();
        put(&mut next.policies, on, &before.policies, &now.policies);
        put(&mut next.masks, on, &before.masks, &now.masks);
        for (name, right) in &now.grants {
            let grant = Grant { privilege: *right, on: GrantOn::Table(on.clone()) };
            match next.users.get_mut(name) {
                Some(user) => user.grants.insert(grant),
                None => {
                    next.role(name)?;
                    next.roles.entry(name.clone()).or_default().grants.insert(grant)
                }
            };
        }
        if now.declassified {
            next.declassified.insert(on.clone(), change.fingerprint.clone());
        }
        if !now.is_empty() {
            next.stated.insert(on.clone(), now.clone());
        }
        Ok(next)
    }

    /// All rules of an object, as texts.
    fn said_of(&self, on: &TableName) -> BTreeSet<String> {
        let names = |names: &BTreeSet<String>| names.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        let policies = self.policies.get(on).into_iter().flatten().map(|(name, policy)| {
            let kind = if policy.restrictive { " AS RESTRICTIVE" } else { "" };
            format!("POLICY {name}{kind} TO {} USING ({})", names(&policy.to), policy.using)
        });
        let masks =
            self.masks.get(on).into_iter().flatten().map(|(name, mask)| {
                format!("MASK {name} ({}) TO {} USING ({})", mask.column, names(&mask.to), mask.using)
            });
        let users = self.users.iter().map(|(name, user)| (name, &user.grants));
        let holders = users.chain(self.roles.iter().map(|(name, role)| (name, &role.grants)));
        let grants = holders.flat_map(|(name, grants)| {
            let here = grants.iter().filter(|grant| grant.on == GrantOn::Table(on.clone()));
            here.map(move |grant| format!("GRANT {} TO {name}", format!("{:?}", grant.privilege).to_uppercase()))
        });
        let declassified = self.declassified.contains_key(on).then(|| "DECLASSIFY".to_string());
        policies.chain(masks).chain(grants).chain(declassified).collect()
    }
}

/// What the file says now in the place of what it said. What somebody has put in a rule's place stays, unless the file names it.
fn put<T: PartialEq + Clone>(
    all: &mut BTreeMap<TableName, BTreeMap<String, T>>,
    on: &TableName,
    before: &BTreeMap<String, T>,
    now: &BTreeMap<String, T>,
) {
    let here = all.entry(on.clone()).or_default();
    here.retain(|name, rule| before.get(name) != Some(rule));
    here.extend(now.clone());
    if here.is_empty() {
        all.remove(on);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::access::User;
    use crate::parser::parse;

    fn stated(rules: &str) -> Stated {
        Stated::of(&parse(rules, None).unwrap()).unwrap()
    }

    fn on() -> TableName {
        TableName::new("g", "v")
    }

    const BEFORE: &str =
        "CREATE POLICY own ON g.v TO seller USING (s = 1); CREATE MASK m ON g.v (c) TO seller USING (0);
        GRANT SELECT, INSERT ON g.v TO seller; ALTER MATERIALIZED VIEW g.v DECLASSIFY";
    const NOW: &str = "CREATE POLICY own ON g.v TO seller USING (s = 2); GRANT SELECT ON g.v TO seller, asha";

    fn applied(access: &Access, now: &Stated) -> Access {
        access.closed(&on(), now, "f").unwrap().opened(&on()).unwrap()
    }

    #[test]
    fn a_lake_holds_what_the_file_says_and_what_was_said_at_a_prompt() {
        let (before, now, none) = (stated(BEFORE), stated(NOW), Stated::default());
        let first = applied(&Access::default(), &before);
        assert_eq!(first.policies[&on()], before.policies);
        assert_eq!(first.roles["seller"].grants.len(), 2);
        assert_eq!(first.declassified[&on()], "f");
        assert_eq!(first.closed(&on(), &before, "f").unwrap(), first, "again is nothing");

        let mut prompted = first.clone();
        prompted.policies.get_mut(&on()).unwrap().insert("more".into(), before.policies["own"].clone());
        prompted.users.insert("asha".into(), User::default());
        let second = applied(&prompted, &now);
        assert_eq!(second.policies[&on()]["own"].using, "s = 2");
        assert!(second.policies[&on()].contains_key("more") && !second.masks.contains_key(&on()));
        assert_eq!((second.roles["seller"].grants.len(), second.users["asha"].grants.len()), (1, 1));
        assert!(second.declassified.is_empty() && !second.roles.contains_key("asha"));

        let gone = applied(&second, &none);
        assert_eq!(gone.policies[&on()].keys().collect::<Vec<_>>(), ["more"]);
        assert!(gone.roles["seller"].grants.is_empty() && gone.users["asha"].grants.is_empty());
        assert!(gone.stated.is_empty() && gone.changing.is_empty());
    }

    #[test]
    fn in_between_the_old_rules_stand_and_hide_everything() {
        let first = applied(&Access::default(), &stated(BEFORE));
        let between = first.closed(&on(), &stated(NOW), "g").unwrap();
        assert_eq!((&between.policies, &between.masks), (&first.policies, &first.masks));
        assert!(between.changing[&on()].hides);
        assert_eq!(between.roles["seller"].grants.len(), 1, "what goes, goes first");
        assert!(between.declassified.is_empty());
        let only_grants = "GRANT SELECT ON g.v TO seller";
        let between = Access::default().closed(&on(), &stated(only_grants), "g").unwrap();
        assert!(!between.changing[&on()].hides && between.roles.is_empty(), "nothing is hidden, nothing granted yet");
        // Whatever was begun and not ended, the next one begins from what is there.
        assert_eq!(applied(&first.closed(&on(), &stated(NOW), "g").unwrap(), &stated(BEFORE)), first);
    }

    #[test]
    fn a_difference_tells_of_rules_and_of_roles_that_are_made() {
        let first = applied(&Access::default(), &stated(BEFORE));
        let lines = first.difference(&on(), &stated(NOW), "f").unwrap();
        assert_eq!(
            lines,
            [
                "+ ROLE asha",
                "- DECLASSIFY",
                "- GRANT INSERT TO seller",
                "- MASK m (c) TO seller USING (0)",
                "- POLICY own TO seller USING (s = 1)",
                "+ GRANT SELECT TO asha",
                "+ POLICY own TO seller USING (s = 2)"
            ]
        );
        assert!(first.difference(&on(), &stated(BEFORE), "f").unwrap().is_empty());
    }

    #[test]
    fn a_policy_of_a_user_and_a_name_that_stands_twice_are_refused() {
        let access = Access { users: BTreeMap::from([("seller".into(), User::default())]), ..Access::default() };
        let error = access.closed(&on(), &stated(BEFORE), "f").unwrap_err();
        assert_eq!(error.message(), "seller is a user");
        let reserved = stated("GRANT SELECT ON g.v TO local");
        assert!(Access::default().closed(&on(), &reserved, "f").is_err(), "before anything changes");
        let twice = parse(&format!("{BEFORE}; {BEFORE}"), None).unwrap();
        assert!(Stated::of(&twice).unwrap_err().message().contains("policy own is defined twice"));
    }
}
