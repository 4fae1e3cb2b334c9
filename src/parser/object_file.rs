//! The file of an object: what it is, and who sees what of it.
//!
//! ```text
//!  CREATE MATERIALIZED VIEW gold.kpis ... ;        one object, and it comes first
//!  CREATE POLICY ... ON gold.kpis ... ;            as many rules as there are, all of that object
//!  CREATE MASK ... ON gold.kpis ... ;
//!  GRANT SELECT ON gold.kpis TO ... ;
//!  ALTER MATERIALIZED VIEW gold.kpis DECLASSIFY;
//! ```

use super::ast::{AccessStatement, AlterAction, GrantOn, GrantWhat, Parsed, Statement};
use super::{location_at, parse};
use crate::error::{Error, ErrorKind, Result};
use crate::name::TableName;

/// What a file holds.
#[derive(Debug, Clone)]
pub struct ObjectFile {
    /// The object's name.
    pub name: TableName,
    /// The statement that makes it.
    pub object: Parsed,
    /// Who sees what of it: CREATE POLICY, CREATE MASK, GRANT, and ALTER ... DECLASSIFY, each of this object.
    pub rules: Vec<Parsed>,
}

/// Read the file of an object.
///
/// # Errors
/// `Syntax`; `Definition` for a file without an object, with several, or with rules of another one.
pub fn parse_object_file(text: &str, file: Option<&str>) -> Result<ObjectFile> {
    let mut statements = parse(text, file)?.into_iter();
    let this = file.unwrap_or("the text");
    let Some(object) = statements.next() else {
        return Err(Error::new(ErrorKind::Definition, format!("{this} holds no statement"))
            .with_hint("write one CREATE statement a file"));
    };
    let name = match &object.statement {
        Statement::CreateSource(source) => source.name.clone(),
        Statement::CreateReference(reference) => reference.name.clone(),
        Statement::CreateTable(table) => table.name.clone(),
        Statement::CreateMaterializedView(view) => view.name.clone(),
        _ => {
            return Err(Error::new(ErrorKind::Definition, format!("{this} does not define an object"))
                .with_location(location_at(text, object.offset, file))
                .with_hint(
                    "a project file begins with CREATE MATERIALIZED VIEW, CREATE TABLE or CREATE EXTERNAL TABLE",
                ));
        }
    };
    let rules: Vec<Parsed> = statements.collect();
    for rule in &rules {
        let at = || location_at(text, rule.offset, file);
        let of_view = matches!(object.statement, Statement::CreateMaterializedView(_));
        match ruled(&rule.statement) {
            Some(on) if *on == name && (of_view || matches!(rule.statement, Statement::Access(_))) => {}
            Some(on) if *on == name => {
                return Err(Error::new(ErrorKind::Definition, format!("{name} is no view"))
                    .with_detail("there is nothing below it whose policies would not reach it")
                    .with_location(at()));
            }
            Some(on) => {
                return Err(Error::new(ErrorKind::Definition, format!("{this} is of {name}, and this is of {on}"))
                    .with_location(at())
                    .with_hint(format!("write it into {}/{}.sql", on.schema, on.name)));
            }
            None => {
                let count = rules.len() + 1;
                return Err(Error::new(ErrorKind::Definition, format!("{this} holds {count} statements"))
                    .with_detail("this one is no rule of the object that the file defines")
                    .with_location(at())
                    .with_hint(
                        "write one CREATE statement a file; after it may stand who sees what of it: CREATE POLICY, \
                         CREATE MASK, GRANT .. ON, ALTER MATERIALIZED VIEW .. DECLASSIFY",
                    ));
            }
        }
    }
    Ok(ObjectFile { name, object, rules })
}

/// The object that a rule is of; `None` for any other statement.
fn ruled(statement: &Statement) -> Option<&TableName> {
    match statement {
        Statement::AlterMaterializedView(alter) if alter.action == AlterAction::Declassify => Some(&alter.name),
        Statement::Access(access) => match &**access {
            AccessStatement::CreatePolicy { on, .. }
            | AccessStatement::CreateMask { on, .. }
            | AccessStatement::Grant { what: GrantWhat::Privileges { on: GrantOn::Table(on), .. }, .. } => Some(on),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIEW: &str = "CREATE MATERIALIZED VIEW g.v AS SELECT 1 AS one FROM s.t;";

    fn refused(rest: &str) -> String {
        parse_object_file(&format!("{VIEW}\n{rest}"), Some("g/v.sql")).unwrap_err().render()
    }

    #[test]
    fn rules_of_the_object_follow_it() {
        let text = format!(
            "-- said first\n{VIEW} CREATE POLICY p ON g.v TO r USING (one = 1); CREATE MASK m ON g.v (one) USING (0);
             GRANT SELECT ON g.v TO r; ALTER MATERIALIZED VIEW g.v DECLASSIFY"
        );
        let file = parse_object_file(&text, None).unwrap();
        assert_eq!((file.name.to_string().as_str(), file.rules.len()), ("g.v", 4));
        assert!(file.object.text.starts_with("CREATE MATERIALIZED VIEW") && file.object.text.ends_with("s.t"));
    }

    #[test]
    fn nothing_else_does() {
        assert!(refused(VIEW).contains("holds 2 statements"));
        assert!(refused("GRANT SELECT ON SCHEMA g TO r").contains("holds 2 statements"));
        assert!(refused("ALTER MATERIALIZED VIEW g.v SUSPEND").contains("holds 2 statements"));
        assert!(refused("CREATE USER u PASSWORD 'x'").contains("g/v.sql:2:1"));
        let table = "CREATE TABLE g.t (a INT); ALTER MATERIALIZED VIEW g.t DECLASSIFY";
        assert_eq!(parse_object_file(table, None).unwrap_err().message(), "g.t is no view");
        let other = refused("CREATE POLICY p ON g.w USING (true)");
        assert!(other.contains("is of g.v, and this is of g.w") && other.contains("g/w.sql"), "{other}");
        assert!(parse_object_file("-- nothing", None).unwrap_err().message().contains("no statement"));
        assert!(parse_object_file("SELECT 1", None).unwrap_err().message().contains("does not define"));
    }
}
