//! The rows of an INSERT, one by one.
//!
//! ```text
//!   INSERT INTO s.t (a, b) VALUES (1, 'x'), (2, 'y')
//!     singles   INSERT INTO s.t (a, b) VALUES (1, 'x');  INSERT INTO s.t (a, b) VALUES (2, 'y')
//!     queries   SELECT 1 AS c0, 'x' AS c1;               SELECT 2 AS c0, 'y' AS c1
//! ```

use datafusion::sql::parser::Statement as DataFusionStatement;
use sqlparser::ast::{Expr, Insert as SqlInsert, Query, SetExpr, Statement as SqlStatement, Values};

use crate::name::TableName;
use crate::parser::{self, Statement};

/// An INSERT of a script.
#[derive(Debug)]
pub(super) struct Insert {
    /// The table.
    pub(super) name: TableName,
    /// The columns that it names.
    pub(super) columns: Vec<String>,
    sql: SqlInsert,
}

impl Insert {
    /// The INSERT that a text is; `None` for anything else, mistakes included: the engine tells of them.
    pub(super) fn of(sql: &str) -> Option<Self> {
        let parsed = parser::parse(sql, None).ok()?;
        let [parsed] = <[_; 1]>::try_from(parsed).ok()?;
        let Statement::Insert(insert) = parsed.statement else { return None };
        let DataFusionStatement::Statement(statement) = *insert.statement else { return None };
        let SqlStatement::Insert(sql) = *statement else { return None };
        Some(Self { name: insert.name, columns: insert.columns, sql })
    }

    /// The same as INSERTs of one row each. What takes its rows from a query stays one.
    pub(super) fn singles(&self) -> Vec<String> {
        let rows = self.values().into_iter().flat_map(|values| &values.rows);
        let single = |row: &_| {
            let mut one = self.sql.clone();
            if let Some(SetExpr::Values(values)) = one.source.as_deref_mut().map(|query| query.body.as_mut()) {
                values.rows = vec![Clone::clone(row)];
            }
            one.to_string()
        };
        let singles = rows.map(single).collect::<Vec<_>>();
        if singles.is_empty() { vec![self.sql.to_string()] } else { singles }
    }

    /// Queries for its rows, one each, so that the type of one row does not bend to that of another.
    pub(super) fn queries(&self) -> Vec<String> {
        let select = |row: &[Expr]| {
            let cells = row.iter().enumerate().map(|(index, cell)| format!("{cell} AS c{index}"));
            format!("SELECT {}", cells.collect::<Vec<_>>().join(", "))
        };
        match self.values() {
            Some(values) => values.rows.iter().map(|row| select(&row.content)).collect(),
            None => self.sql.source.iter().map(ToString::to_string).collect(),
        }
    }

    /// Its VALUES, where it has nothing else.
    fn values(&self) -> Option<&Values> {
        let Query { with: None, body, order_by: None, limit_clause: None, fetch: None, .. } =
            self.sql.source.as_deref()?
        else {
            return None;
        };
        match body.as_ref() {
            SetExpr::Values(values) => Some(values),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_insert_is_split_at_its_rows() {
        let insert = Insert::of("INSERT INTO s.t (a, \"B\") VALUES (1, 'it''s (b'),\n (abs(-2), NULL);").unwrap();
        assert_eq!((insert.name.to_string(), insert.columns.join(",")), ("s.t".into(), "a,B".into()));
        assert_eq!(
            insert.singles(),
            ["INSERT INTO s.t (a, \"B\") VALUES (1, 'it''s (b')", "INSERT INTO s.t (a, \"B\") VALUES (abs(-2), NULL)"]
        );
        assert_eq!(insert.queries(), ["SELECT 1 AS c0, 'it''s (b' AS c1", "SELECT abs(-2) AS c0, NULL AS c1"]);
    }

    #[test]
    fn what_takes_its_rows_from_a_query_stays_one() {
        let insert = Insert::of("INSERT INTO s.t SELECT 1 UNION ALL SELECT 2").unwrap();
        assert_eq!(insert.singles(), ["INSERT INTO s.t SELECT 1 UNION ALL SELECT 2"]);
        assert_eq!(insert.queries(), ["SELECT 1 UNION ALL SELECT 2"]);
        let limited = Insert::of("INSERT INTO s.t VALUES (1), (2) LIMIT 1").unwrap();
        assert_eq!((limited.singles().len(), limited.queries().len()), (1, 1));
        assert!(Insert::of("DELETE FROM s.t").is_none() && Insert::of("INSERT INTO").is_none());
    }
}
