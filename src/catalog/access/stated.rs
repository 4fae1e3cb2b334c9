//! What the file of an object says of who sees what of it, and how the lake comes to hold it.
//!
//! ```text
//!   the file before ─┐
//!                    ├─▶ closed: policies and masks that come, grants that go       before the object changes
//!   the file now ────┘   opened: policies and masks that go, grants that come       once it has changed
//! ```
//!
//! In that order, so that a crash in between hides too much, and never too little. Roles that are named are made where
//! they are missing. What was said at a prompt, of other names, stays.

use std::collections::{BTreeMap, BTreeSet};

use super::{Access, Grant, Mask, Policy};
use crate::error::{Error, ErrorKind, Result};
use crate::name::TableName;
use crate::parser::{AccessStatement, GrantOn, GrantWhat, Parsed, Privilege, Statement};

/// The rules that stand in the file of one object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
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
    /// With everything of `now` that hides, and without what `before` gave and `now` does not.
    ///
    /// # Errors
    /// `Definition` for a policy or mask of a user, who is no role; for a name that nobody can have.
    pub fn closed(&self, on: &TableName, before: &Stated, now: &Stated) -> Result<Self> {
        let mut next = self.clone();
        let of_policies = now.policies.values().flat_map(|policy| &policy.to);
        for role in of_policies.chain(now.masks.values().flat_map(|mask| &mask.to)) {
            if next.users.contains_key(role) {
                return Err(Error::new(ErrorKind::Definition, format!("{role} is a user"))
                    .with_detail(format!("policies and masks of {on} are for roles")));
            }
            next.role(role)?;
        }
        if !now.policies.is_empty() {
            next.policies.entry(on.clone()).or_default().extend(now.policies.clone());
        }
        if !now.masks.is_empty() {
            next.masks.entry(on.clone()).or_default().extend(now.masks.clone());
        }
        for (name, right) in before.grants.difference(&now.grants) {
            let grant = Grant { privilege: *right, on: GrantOn::Table(on.clone()) };
            next.users.get_mut(name).map(|user| user.grants.remove(&grant));
            next.roles.get_mut(name).map(|role| role.grants.remove(&grant));
        }
        if before.declassified && !now.declassified {
            next.declassified.remove(on);
        }
        Ok(next)
    }

    /// With everything of `now` that shows, and without what `before` hid and `now` does not. `fingerprint`: of the
    /// definition that was looked at when it was declassified.
    ///
    /// # Errors
    /// `Definition` for a name that nobody can have.
    pub fn opened(&self, on: &TableName, before: &Stated, now: &Stated, fingerprint: &str) -> Result<Self> {
        let mut next = self.clone();
        gone(&mut next.policies, on, &before.policies, &now.policies);
        gone(&mut next.masks, on, &before.masks, &now.masks);
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
            next.declassified.insert(on.clone(), fingerprint.to_string());
        }
        Ok(next)
    }
}

/// Without what the file before has said, and the file now does not. What somebody has put in its place stays.
fn gone<T: PartialEq>(
    all: &mut BTreeMap<TableName, BTreeMap<String, T>>,
    on: &TableName,
    before: &BTreeMap<String, T>,
    now: &BTreeMap<String, T>,
) {
    let Some(here) = all.get_mut(on) else { return };
    here.retain(|name, rule| now.contains_key(name) || before.get(name) != Some(rule));
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

    fn applied(access: &Access, before: &Stated, now: &Stated) -> Access {
        access.closed(&on(), before, now).unwrap().opened(&on(), before, now, "f").unwrap()
    }

    #[test]
    fn a_lake_holds_what_the_file_says_and_what_was_said_at_a_prompt() {
        let (before, now, none) = (stated(BEFORE), stated(NOW), Stated::default());
        let first = applied(&Access::default(), &none, &before);
        assert_eq!(first.policies[&on()], before.policies);
        assert_eq!(first.roles["seller"].grants.len(), 2);
        assert_eq!(first.declassified[&on()], "f");
        assert_eq!(applied(&first, &before, &before), first, "again is the same");

        let mut prompted = first.clone();
        prompted.policies.get_mut(&on()).unwrap().insert("more".into(), before.policies["own"].clone());
        prompted.users.insert("asha".into(), User::default());
        let second = applied(&prompted, &before, &now);
        assert_eq!(second.policies[&on()]["own"].using, "s = 2");
        assert!(second.policies[&on()].contains_key("more") && !second.masks.contains_key(&on()));
        assert_eq!((second.roles["seller"].grants.len(), second.users["asha"].grants.len()), (1, 1));
        assert!(second.declassified.is_empty() && !second.roles.contains_key("asha"));

        let gone = applied(&second, &now, &none);
        assert_eq!(gone.policies[&on()].keys().collect::<Vec<_>>(), ["more"]);
        assert!(gone.roles["seller"].grants.is_empty() && gone.users["asha"].grants.is_empty());
    }

    #[test]
    fn in_between_too_much_is_hidden_and_never_too_little() {
        let (before, now) = (stated(BEFORE), stated(NOW));
        let first = applied(&Access::default(), &Stated::default(), &before);
        let between = first.closed(&on(), &before, &now).unwrap();
        assert_eq!(between.policies[&on()]["own"].using, "s = 2");
        assert!(between.masks[&on()].contains_key("m"), "still hidden");
        assert_eq!(between.roles["seller"].grants.len(), 1);
        assert!(between.declassified.is_empty());
        let fresh = Access::default().closed(&on(), &Stated::default(), &before).unwrap();
        assert!(fresh.policies.contains_key(&on()) && fresh.roles["seller"].grants.is_empty(), "not granted yet");
    }

    #[test]
    fn a_policy_of_a_user_and_a_name_that_stands_twice_are_refused() {
        let access = Access { users: BTreeMap::from([("seller".into(), User::default())]), ..Access::default() };
        let error = access.closed(&on(), &Stated::default(), &stated(BEFORE)).unwrap_err();
        assert_eq!(error.message(), "seller is a user");
        let twice = parse(&format!("{BEFORE}; {BEFORE}"), None).unwrap();
        assert!(Stated::of(&twice).unwrap_err().message().contains("policy own is defined twice"));
    }
}
