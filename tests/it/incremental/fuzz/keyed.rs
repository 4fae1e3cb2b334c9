//! Random operators whose rows depend on other rows: groups, subqueries, windows, top-k.
//!
//! ```text
//!   group, grouping sets, totals, distinct, distinct on      rows of one key ─▶ one row
//!   exists, in, scalar subquery                              a row of one side ─▶ rows of the other
//!   window, top per group, limit                             the order of one partition, or of all rows
//! ```

use super::plans::{Column, Generator, Plan, TIES, Type};

/// Window functions, and those of them that give equal rows equal values.
const CALLS: std::ops::Range<u8> = 0..9;
const CALLS_ALIKE_FOR_EQUALS: std::ops::Range<u8> = 1..6;

impl Generator {
    /// One aggregate over a scope.
    fn aggregate(&mut self, scope: &[Column]) -> (String, Type) {
        let comparable = self.comparable(scope);
        let (any, kind) = self.one(&comparable);
        let int = self.value(scope, Type::Int, 1);
        let filter = if self.chance(20) { format!(" FILTER (WHERE {})", self.predicate(scope, 1)) } else { "".into() };
        let (text, result) = match self.rng.u8(0..16) {
            0 | 1 => ("count(*)".to_string(), Type::Int),
            2 => (format!("count({any})"), Type::Int),
            3 | 4 => (format!("count(DISTINCT {any})"), Type::Int),
            5 | 6 => (format!("sum({int})"), Type::Int),
            7 => (format!("sum(DISTINCT {int})"), Type::Int),
            8 => (format!("sum({})", self.value(scope, Type::Decimal, 0)), Type::Decimal),
            9 => (format!("avg({int})"), Type::Other),
            10 | 11 if kind != Type::Bool => (format!("{}({any})", self.one(&["min", "max"])), kind),
            12 => (format!("bool_and({})", self.predicate(scope, 1)), Type::Bool),
            13 => (format!("bool_or({})", self.predicate(scope, 1)), Type::Bool),
            // A Delta table holds no list of wall clocks.
            14 if kind != Type::Time => (format!("array_agg({any} ORDER BY {any})"), Type::Other),
            15 => {
                let text = self.value(scope, Type::Text, 0);
                (format!("string_agg({text}, ',' ORDER BY {text})"), Type::Text)
            }
            _ => (format!("min({int})"), Type::Int),
        };
        (text + &filter, result)
    }

    fn aggregates(&mut self, scope: &[Column]) -> Vec<(String, Type)> {
        (0..self.rng.usize(1..4)).map(|_| self.aggregate(scope)).collect()
    }

    /// A count, or a sum or average of exact numbers.
    fn exact(&mut self, scope: &[Column]) -> (String, Type) {
        match self.rng.u8(0..6) {
            0 => ("count(*)".to_string(), Type::Int),
            1 => (format!("count({})", self.value(scope, Type::Int, 0)), Type::Int),
            2 | 3 => (format!("sum({})", self.value(scope, Type::Int, 0)), Type::Int),
            4 => (format!("sum({})", self.value(scope, Type::Decimal, 0)), Type::Decimal),
            _ => (format!("avg({})", self.value(scope, Type::Decimal, 0)), Type::Other),
        }
    }

    pub fn group(&mut self, depth: usize) -> Plan {
        self.grouped(depth, Self::aggregates)
    }

    /// A group of which rows can be taken off.
    pub fn counted(&mut self, depth: usize) -> Plan {
        self.grouped(depth, |generator, scope| (0..generator.rng.usize(1..4)).map(|_| generator.exact(scope)).collect())
    }

    fn grouped(&mut self, depth: usize, aggregates: impl Fn(&mut Self, &[Column]) -> Vec<(String, Type)>) -> Plan {
        let (plan, alias, scope) = self.input(depth);
        let mut keys = self.some(&scope, 2).into_iter().filter(|(_, kind)| *kind != Type::Other).collect::<Vec<_>>();
        if self.chance(25) {
            let kind = keys[0].1;
            keys[0] = (self.value(&scope, kind, 1), kind);
        }
        if keys.len() > 1 && keys[0].0 == keys[1].0 {
            keys.truncate(1);
        }
        let by = (1..=keys.len()).map(|nth| nth.to_string()).collect::<Vec<_>>().join(", ");
        let having = match self.rng.u8(0..10) {
            0 => format!(" HAVING count(*) > {}", self.rng.u8(1..4)),
            1 => format!(" HAVING sum({}) > 2", self.value(&scope, Type::Int, 0)),
            2 => format!(" HAVING max({}) IS NOT NULL", self.value(&scope, Type::Int, 0)),
            _ => String::new(),
        };
        let list = [keys, aggregates(self, &scope)].concat();
        let rest = format!("FROM {} GROUP BY {by}{having}", plan.item(&alias));
        let rows = plan.rows.min(8);
        self.select("group by", &list, ("SELECT", &rest), rows, vec![plan])
    }

    pub fn grouping_sets(&mut self, depth: usize) -> Plan {
        let (plan, alias, scope) = self.input(depth);
        let mut keys = self.comparable(&scope);
        self.rng.shuffle(&mut keys);
        keys.truncate(2);
        let names = keys.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>();
        let all = names.join(", ");
        let (operator, by) = match self.rng.u8(0..3) {
            0 => ("rollup", format!("ROLLUP ({all})")),
            1 => ("cube", format!("CUBE ({all})")),
            _ => ("grouping sets", format!("GROUPING SETS (({all}), ({}), ())", names[0])),
        };
        let list = [keys.clone(), self.aggregates(&scope)].concat();
        let rest = format!("FROM {} GROUP BY {by}", plan.item(&alias));
        self.select(operator, &list, ("SELECT", &rest), 15, vec![plan])
    }

    /// An aggregate without keys: one row, also of nothing.
    pub fn totals(&mut self, depth: usize) -> Plan {
        let (plan, alias, scope) = self.input(depth);
        let list = [vec![("count(*)".to_string(), Type::Int)], self.aggregates(&scope)].concat();
        self.select("totals", &list, ("SELECT", &format!("FROM {}", plan.item(&alias))), 1, vec![plan])
    }

    pub fn distinct(&mut self, depth: usize) -> Plan {
        let (plan, alias, scope) = self.input(depth);
        let list = self.some(&scope, 3).into_iter().filter(|(_, kind)| *kind != Type::Other).collect::<Vec<_>>();
        let rows = plan.rows.min(12);
        self.select("distinct", &list, ("SELECT DISTINCT", &format!("FROM {}", plan.item(&alias))), rows, vec![plan])
    }

    pub fn distinct_on(&mut self, depth: usize) -> Plan {
        let (plan, alias, scope) = self.input(depth);
        let mut list = self.comparable(&scope);
        self.rng.shuffle(&mut list);
        let head = format!("SELECT DISTINCT ON ({})", list[0].0);
        let rest = format!("FROM {} ORDER BY {}", plan.item(&alias), names(&list));
        self.select("distinct on", &list, (&head, &rest), 6, vec![plan])
    }

    pub fn subquery(&mut self, depth: usize) -> Plan {
        let (plan, alias, scope) = self.input(depth);
        let (other, other_alias, other_scope) = self.input(depth.min(2));
        let list = self.some(&scope, 3);
        let (Some(x), Some(y)) = (self.column(&scope, Type::Int), self.column(&other_scope, Type::Int)) else {
            return plan;
        };
        let (item, inner) = (plan.item(&alias), other.item(&other_alias));
        let both = [scope.clone(), other_scope.clone()].concat();
        let more = if self.chance(25) { format!(" AND {}", self.predicate(&both, 0)) } else { String::new() };
        let not = self.one(&["", "NOT "]);
        let exists = format!("{not}EXISTS (SELECT 1 FROM {inner} WHERE {y} = {x}{more})");
        let (function, result) = self.aggregate(&other_scope);
        let mut shown = list.clone();
        let (operator, rest) = match self.rng.u8(0..12) {
            0..4 => (if not.is_empty() { "exists" } else { "not exists" }, format!("FROM {item} WHERE {exists}")),
            4..6 => ("in", format!("FROM {item} WHERE {x} IN (SELECT {y} FROM {inner})")),
            6 => ("not in", format!("FROM {item} WHERE {x} NOT IN (SELECT {y} FROM {inner})")),
            7 => ("exists or", format!("FROM {item} WHERE {exists} OR {}", self.predicate(&scope, 0))),
            8 => ("uncorrelated scalar", format!("FROM {item} WHERE {x} > (SELECT min({y}) FROM {inner})")),
            _ => {
                shown.push((format!("(SELECT {function} FROM {inner} WHERE {y} = {x})"), result));
                ("correlated scalar", format!("FROM {item}"))
            }
        };
        let rows = plan.rows;
        self.select(operator, &shown, ("SELECT", &rest), rows, vec![plan, other])
    }

    /// One window function, and whether it leaves ties; `partition` is what stands in its brackets before ORDER BY.
    fn over(
        &mut self,
        scope: &[Column],
        partition: &str,
        of: std::ops::Range<u8>,
    ) -> ((String, Type), Option<&'static str>) {
        let mut order = self.comparable(scope);
        self.rng.shuffle(&mut order);
        let nth = self.rng.u8(of);
        let (total, ties) = if matches!(nth, 0 | 6 | 7) { self.order(&order) } else { (names(&order), None) };
        let (first, kind) = order[0].clone();
        let int = self.value(scope, Type::Int, 0);
        let text = |function: String, order: String| format!("{function} OVER ({partition}{order})");
        let call = match nth {
            0 => (format!("CAST({} AS BIGINT)", text("row_number()".into(), format!("ORDER BY {total}"))), Type::Int),
            1 => (format!("CAST({} AS BIGINT)", text("rank()".into(), format!("ORDER BY {first} DESC"))), Type::Int),
            2 => (format!("CAST({} AS BIGINT)", text("dense_rank()".into(), format!("ORDER BY {first}"))), Type::Int),
            3 => (text(format!("sum({int})"), String::new()), Type::Int),
            4 => (text(format!("sum({int})"), format!("ORDER BY {first}")), Type::Int),
            5 => (text("count(*)".into(), String::new()), Type::Int),
            6 => (text(format!("lag({first})"), format!("ORDER BY {total}")), kind),
            7 => (text(format!("lead({first}, 2)"), format!("ORDER BY {total} DESC")), kind),
            _ => {
                let frame = format!("ORDER BY {total} ROWS BETWEEN 1 PRECEDING AND CURRENT ROW");
                (text(format!("max({int})"), frame), Type::Int)
            }
        };
        (call, ties)
    }

    pub fn window(&mut self, depth: usize) -> Plan {
        let (plan, alias, scope) = self.input(depth);
        let shown = self.comparable(&scope);
        let (key, _) = self.one(&shown);
        let mut list = shown.clone();
        let (call, mut ties) = self.over(&scope, &format!("PARTITION BY {key} "), CALLS);
        list.push(call);
        if self.chance(25) {
            let (other, _) = self.one(&shown);
            // Two that tell equal rows from each other may do so in any of two ways.
            let (call, more) = self.over(&scope, &format!("PARTITION BY {key}, {other} "), CALLS_ALIKE_FOR_EQUALS);
            list.push(call);
            ties = ties.or(more);
        }
        let rows = plan.rows;
        self.select("window", &list, ("SELECT", &format!("FROM {}", plan.item(&alias))), rows, vec![plan]).with(ties)
    }

    pub fn global_window(&mut self, depth: usize) -> Plan {
        let (plan, alias, scope) = self.input(depth);
        let mut list = self.comparable(&scope);
        let (call, ties) = self.over(&scope, "", CALLS);
        list.push(call);
        let (rows, rest) = (plan.rows, format!("FROM {}", plan.item(&alias)));
        self.select("global window", &list, ("SELECT", &rest), rows, vec![plan]).with(ties)
    }

    pub fn top_per_group(&mut self, depth: usize) -> Plan {
        let (plan, alias, scope) = self.input(depth);
        let mut list = self.comparable(&scope);
        let (key, _) = self.one(&list);
        let (order, ties) = self.order(&list);
        list.push((format!("row_number() OVER (PARTITION BY {key} ORDER BY {order})"), Type::Int));
        let inner = self.select("top per group", &list, ("SELECT", &format!("FROM {}", plan.item(&alias))), 8, vec![]);
        let outer = self.fresh("q");
        let mut shown = inner.columns.iter().map(|c| (format!("{outer}.{}", c.name), c.kind)).collect::<Vec<_>>();
        let (place, _) = shown.pop().unwrap();
        let rest = format!("FROM {} WHERE {place} <= {}", inner.item(&outer), self.rng.u8(1..4));
        self.select("top per group", &shown, ("SELECT", &rest), 8, vec![plan]).with(ties)
    }

    pub fn limit(&mut self, depth: usize) -> Plan {
        let (plan, alias, scope) = self.input(depth);
        let list = self.comparable(&scope);
        let offset = if self.chance(25) { " OFFSET 1" } else { "" };
        let (order, ties) = self.order(&list);
        let rest = format!("FROM {} ORDER BY {order} LIMIT {}{offset}", plan.item(&alias), self.rng.u8(1..6));
        self.select("limit", &list, ("SELECT", &rest), 4, vec![plan]).with(ties)
    }

    /// All of these columns, or one of them.
    fn order(&mut self, list: &[(String, Type)]) -> (String, Option<&'static str>) {
        match self.chance(40) {
            true => (self.one(list).0, Some(TIES)),
            false => (names(list), None),
        }
    }
}

fn names(list: &[(String, Type)]) -> String {
    list.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")
}
