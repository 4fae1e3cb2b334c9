//! Random joins.
//!
//! ```text
//!   join    ON l.x = r.y [AND ...]     inner, left, right, full; a fifth of them with itself
//!   theta   CROSS JOIN, ON l.x < r.y   each row with each that fits
//!   cte     WITH w AS (...)            one relation, read twice
//! ```

use super::plans::{Column, Generator, Plan, Type};

/// Estimated rows above which nothing is joined any more.
const ROWS_MAX: usize = 500;

impl Generator {
    pub fn join(&mut self, depth: usize) -> Plan {
        let (left, left_alias, left_scope) = self.input(depth);
        let (mut right, right_alias, mut right_scope) = self.input(depth.min(2));
        if self.chance(20) {
            right = left.clone();
            right_scope =
                right.columns.iter().map(|c| Column::new(format!("{right_alias}.{}", c.name), c.kind)).collect();
        }
        let rows = left.rows * right.rows / 4;
        let common = [Type::Int, Type::Text, Type::Time, Type::Decimal].into_iter().find_map(|kind| {
            Some((self.column(&left_scope, kind)?, self.column(&right_scope, kind)?)).filter(|_| rows <= ROWS_MAX)
        });
        let Some((left_key, right_key)) = common else { return left };
        let (word, operator) = self.one(&[
            ("JOIN", "inner join"),
            ("JOIN", "inner join"),
            ("LEFT JOIN", "left join"),
            ("RIGHT JOIN", "right join"),
            ("FULL JOIN", "full join"),
        ]);
        let both = [left_scope.clone(), right_scope.clone()].concat();
        let same = match self.chance(10) {
            // In brackets: the parser takes an AND behind it for a part of it.
            true => format!("({left_key} IS NOT DISTINCT FROM {right_key})"),
            false => format!("{left_key} = {right_key}"),
        };
        let more = if self.chance(25) { format!(" AND {}", self.predicate(&both, 1)) } else { String::new() };
        let mut list = [self.some(&left_scope, 2), self.some(&right_scope, 2)].concat();
        if self.chance(25) {
            list.push((self.value(&both, Type::Int, 1), Type::Int));
        }
        let rest = format!("FROM {} {word} {} ON {same}{more}", left.item(&left_alias), right.item(&right_alias));
        self.select(operator, &list, ("SELECT", &rest), rows, vec![left, right])
    }

    /// A join without an equality: each row with each that fits.
    pub fn theta(&mut self, depth: usize) -> Plan {
        let (left, left_alias, left_scope) = self.input(depth);
        let (right, right_alias, right_scope) = self.input(1);
        if left.rows * right.rows > ROWS_MAX {
            return left;
        }
        let list = [self.some(&left_scope, 2), self.some(&right_scope, 2)].concat();
        let (left_item, right_item) = (left.item(&left_alias), right.item(&right_alias));
        let on = (self.column(&left_scope, Type::Int), self.column(&right_scope, Type::Int));
        let (operator, from) = match (self.rng.u8(0..4), on) {
            (0, _) | (_, (None, _) | (_, None)) => ("cross join", format!("{left_item} CROSS JOIN {right_item}")),
            (1, (Some(x), Some(y))) => ("left theta join", format!("{left_item} LEFT JOIN {right_item} ON {x} < {y}")),
            (2, (Some(x), Some(y))) => ("full theta join", format!("{left_item} FULL JOIN {right_item} ON {x} > {y}")),
            (_, (Some(x), Some(y))) => ("theta join", format!("{left_item} JOIN {right_item} ON {x} <= {y}")),
        };
        let rows = left.rows * right.rows / 2;
        self.select(operator, &list, ("SELECT", &format!("FROM {from}")), rows, vec![left, right])
    }

    /// One relation, named once and read twice.
    pub fn cte(&mut self, depth: usize) -> Plan {
        let (plan, name) = (self.plan(depth - 1), self.fresh("w"));
        let shared = Plan::named(&name, plan.columns.clone(), plan.rows);
        let tables = std::mem::replace(&mut self.relations, vec![shared.clone(), shared.clone(), shared]);
        let mut body = if self.chance(50) { self.join(1) } else { self.pair(1, "UNION ALL", "union all") };
        self.relations = tables;
        if !body.named {
            body.sql = format!("WITH {name} AS ({}) {}", plan.query(), body.sql);
            body.operators.extend(plan.operators.iter().copied().chain(["cte"]));
            body.parts = vec![plan];
            return body;
        }
        plan
    }
}
