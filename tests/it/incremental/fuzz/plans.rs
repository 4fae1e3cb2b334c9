//! Random plans as SQL text: every one gives the same multiset whenever it is run over the same rows.
//!
//! ```text
//!   Plan ─┬─ a table or view                       columns c1, c2, ... with types, an estimate of its rows,
//!         └─ SELECT ... over one or two Plans       the operators in it, and its parts (a failing plan is shrunk to one)
//!
//!   deterministic:  LIMIT, row_number and lag only under a total order of all columns that are shown, or marked TIES;
//!                   floating point and lists (Other) are shown, never compared; nothing divides
//! ```

use std::collections::BTreeSet;

use fastrand::Rng;

/// What can be done with a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    Int,
    Text,
    Decimal,
    Time,
    Bool,
    /// Floating point, or a list: shown only.
    Other,
}

/// The operator of a plan whose ORDER BY leaves ties: the engine has one answer for it, other than DataFusion's own.
pub const TIES: &str = "ties";

/// A column, by the name that a query around it uses.
#[derive(Debug, Clone)]
pub struct Column {
    pub name: String,
    pub kind: Type,
}

impl Column {
    pub fn new(name: impl Into<String>, kind: Type) -> Self {
        Self { name: name.into(), kind }
    }
}

/// A relation.
#[derive(Debug, Clone)]
pub struct Plan {
    /// A name, or a query.
    pub sql: String,
    pub named: bool,
    pub columns: Vec<Column>,
    /// A guess.
    pub rows: usize,
    pub operators: BTreeSet<&'static str>,
    pub parts: Vec<Plan>,
}

impl Plan {
    /// A table or view.
    pub fn named(name: &str, columns: Vec<Column>, rows: usize) -> Self {
        Self { sql: name.into(), named: true, columns, rows, operators: BTreeSet::new(), parts: vec![] }
    }

    /// The query that defines a view of these rows.
    pub fn query(&self) -> String {
        if self.named { format!("SELECT * FROM {}", self.sql) } else { self.sql.clone() }
    }

    /// The plan as an item of FROM.
    pub fn item(&self, alias: &str) -> String {
        if self.named { format!("{} AS {alias}", self.sql) } else { format!("({}) AS {alias}", self.sql) }
    }

    /// The plan, with this operator in it, too.
    pub fn with(mut self, operator: Option<&'static str>) -> Self {
        self.operators.extend(operator);
        self
    }

    /// A view of these rows, by name.
    pub fn as_view(&self, name: &str) -> Self {
        Self::named(name, self.columns.clone(), self.rows)
    }
}

/// Makes plans.
pub struct Generator {
    pub rng: Rng,
    names: usize,
    /// Tables, and the views made so far.
    pub relations: Vec<Plan>,
}

impl Generator {
    /// Over the three tables of [`super::commits`].
    pub fn new(seed: u64) -> Self {
        Self { rng: Rng::with_seed(seed), names: 0, relations: super::commits::tables() }
    }

    /// True in `percent` of all cases.
    pub fn chance(&mut self, percent: u32) -> bool {
        self.rng.u32(0..100) < percent
    }

    /// One of these.
    pub fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.rng.usize(0..of.len())].clone()
    }

    /// A name that no other part of the query has.
    pub fn fresh(&mut self, prefix: &str) -> String {
        self.names += 1;
        format!("{prefix}{}", self.names)
    }

    /// A plan of at most `depth` operators above each other.
    pub fn plan(&mut self, depth: usize) -> Plan {
        if depth == 0 {
            let views = self.relations.len() - 3;
            let at = if views > 0 && self.chance(35) { 3 + self.rng.usize(0..views) } else { self.rng.usize(0..3) };
            return self.relations[at].clone();
        }
        match self.rng.u32(0..100) {
            0..9 => self.filter(depth),
            9..16 => self.project(depth),
            16..22 => self.union(depth),
            22..36 => self.join(depth),
            36..40 => self.theta(depth),
            40..51 => self.subquery(depth),
            51..66 => self.group(depth),
            66..70 => self.grouping_sets(depth),
            70..72 => self.totals(depth),
            72..76 => self.distinct(depth),
            76..79 => self.distinct_on(depth),
            79..83 => self.set_operation(depth),
            83..89 => self.window(depth),
            89..91 => self.global_window(depth),
            91..95 => self.top_per_group(depth),
            95..97 => self.limit(depth),
            _ => self.cte(depth),
        }
    }

    /// A plan and an alias to read it by; most of the depth is left to one side of a join.
    pub fn input(&mut self, depth: usize) -> (Plan, String, Vec<Column>) {
        let below = if self.chance(25) { 0 } else { depth - 1 };
        let plan = self.plan(below);
        let alias = self.fresh("q");
        let scope = plan.columns.iter().map(|c| Column::new(format!("{alias}.{}", c.name), c.kind)).collect();
        (plan, alias, scope)
    }

    /// `head` list `rest` with fresh column names.
    pub fn select(
        &mut self,
        operator: &'static str,
        list: &[(String, Type)],
        clauses: (&str, &str),
        rows: usize,
        parts: Vec<Plan>,
    ) -> Plan {
        let columns = list.iter().map(|(_, kind)| Column::new(self.fresh("c"), *kind)).collect::<Vec<_>>();
        let shown = list.iter().zip(&columns).map(|((text, _), c)| format!("{text} AS {}", c.name));
        let sql = format!("{} {} {}", clauses.0, shown.collect::<Vec<_>>().join(", "), clauses.1);
        let mut operators = parts.iter().flat_map(|part| part.operators.clone()).collect::<BTreeSet<_>>();
        operators.insert(operator);
        Plan { sql, named: false, columns, rows: rows.max(1), operators, parts }
    }

    fn filter(&mut self, depth: usize) -> Plan {
        let (plan, alias, scope) = self.input(depth);
        let list = self.some(&scope, 4);
        let rest = format!("FROM {} WHERE {}", plan.item(&alias), self.predicate(&scope, 2));
        self.select("filter", &list, ("SELECT", &rest), plan.rows / 2, vec![plan])
    }

    fn project(&mut self, depth: usize) -> Plan {
        let (plan, alias, scope) = self.input(depth);
        let mut list = self.some(&scope, 2);
        for _ in 0..self.rng.usize(1..3) {
            let kind = self.one(&[Type::Int, Type::Int, Type::Text, Type::Decimal, Type::Time, Type::Bool]);
            list.push((self.value(&scope, kind, 2), kind));
        }
        self.select("project", &list, ("SELECT", &format!("FROM {}", plan.item(&alias))), plan.rows, vec![plan])
    }

    fn union(&mut self, depth: usize) -> Plan {
        let word = self.one(&["UNION ALL", "UNION ALL", "UNION"]);
        self.pair(depth, word, if word == "UNION" { "union" } else { "union all" })
    }

    fn set_operation(&mut self, depth: usize) -> Plan {
        let (word, operator) = self.one(&[("INTERSECT", "intersect"), ("EXCEPT", "except")]);
        self.pair(depth, word, operator)
    }

    /// Two plans, cast to the same columns, and a set operation between them.
    pub fn pair(&mut self, depth: usize, word: &str, operator: &'static str) -> Plan {
        let (left, left_alias, left_scope) = self.input(depth);
        let (right, right_alias, right_scope) = self.input(depth);
        let kinds = self.some(&left_scope, 3).into_iter().map(|(_, kind)| kind).filter(|kind| *kind != Type::Other);
        let kinds = kinds.collect::<Vec<_>>();
        let left_list = kinds.iter().map(|kind| (self.cast(&left_scope, *kind), *kind)).collect::<Vec<_>>();
        let right_list = kinds.iter().map(|kind| self.cast(&right_scope, *kind)).collect::<Vec<_>>().join(", ");
        let rest =
            format!("FROM {} {word} SELECT {right_list} FROM {}", left.item(&left_alias), right.item(&right_alias));
        let rows = left.rows + right.rows;
        self.select(operator, &left_list, ("SELECT", &rest), rows, vec![left, right])
    }
}
