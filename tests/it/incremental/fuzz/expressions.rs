//! Random expressions over the columns of a scope.
//!
//! ```text
//!   value(scope, kind, depth) ─▶ a column, a literal, or an operator over values of depth - 1
//!   predicate(scope, depth)   ─▶ comparisons, IS NULL, IN, BETWEEN, LIKE under AND, OR, NOT
//! ```
//!
//! Nothing divides or multiplies columns: values stay small, and no row can make a query fail.

use super::plans::{Column, Generator, Type};

impl Generator {
    /// A column of this kind, if there is one.
    pub fn column(&mut self, scope: &[Column], kind: Type) -> Option<String> {
        let fitting = scope.iter().filter(|column| column.kind == kind).collect::<Vec<_>>();
        (!fitting.is_empty()).then(|| self.one(&fitting).name.clone())
    }

    /// Some columns as they are, at least one of them comparable.
    pub fn some(&mut self, scope: &[Column], at_most: usize) -> Vec<(String, Type)> {
        let comparable = self.comparable(scope);
        let mut list = vec![self.one(&comparable)];
        let mut others = scope.iter().filter(|column| column.name != list[0].0).collect::<Vec<_>>();
        self.rng.shuffle(&mut others);
        let wanted = self.rng.usize(0..at_most.max(2));
        list.extend(others.into_iter().take(wanted).map(|column| (column.name.clone(), column.kind)));
        list
    }

    /// All columns that can be compared.
    pub fn comparable(&self, scope: &[Column]) -> Vec<(String, Type)> {
        let comparable = scope.iter().filter(|column| column.kind != Type::Other);
        comparable.map(|column| (column.name.clone(), column.kind)).collect()
    }

    /// A value of one width for each kind, so that both sides of a set operation have the same types.
    pub fn cast(&mut self, scope: &[Column], kind: Type) -> String {
        let value = self.value(scope, kind, 0);
        match kind {
            Type::Int => format!("CAST({value} AS BIGINT)"),
            Type::Decimal => format!("CAST({value} AS DECIMAL(20, 4))"),
            _ => value,
        }
    }

    /// An expression of this kind.
    pub fn value(&mut self, scope: &[Column], kind: Type, depth: usize) -> String {
        match kind {
            Type::Int => self.int(scope, depth),
            Type::Text => self.text(scope, depth),
            Type::Decimal => self.decimal(scope, depth),
            Type::Time => self.time(scope, depth),
            Type::Bool => format!("({})", self.predicate(scope, depth)),
            Type::Other => unreachable!("nothing is computed from floating point or lists"),
        }
    }

    fn either(&mut self, scope: &[Column], kind: Type, depth: usize) -> String {
        let (left, right) = (self.value(scope, kind, depth - 1), self.value(scope, kind, depth - 1));
        match self.rng.u8(0..3) {
            0 => format!("coalesce({left}, {right})"),
            1 => format!("CASE WHEN {} THEN {left} ELSE {right} END", self.predicate(scope, 1)),
            _ => format!("CASE WHEN {} THEN {left} END", self.predicate(scope, 1)),
        }
    }

    fn int(&mut self, scope: &[Column], depth: usize) -> String {
        let leaf = match self.column(scope, Type::Int) {
            Some(column) if !self.chance(10) => column,
            _ => self.rng.i32(-2..6).to_string(),
        };
        if depth == 0 {
            return leaf;
        }
        match self.rng.u8(0..8) {
            0 => format!("({leaf} + {})", self.int(scope, depth - 1)),
            1 => format!("({leaf} - {})", self.int(scope, depth - 1)),
            2 => format!("abs({leaf})"),
            3 => format!("nullif({leaf}, {})", self.rng.i32(0..4)),
            4 => match self.column(scope, Type::Text) {
                Some(text) => format!("CAST(length({text}) AS INT)"),
                None => format!("({leaf} * 2)"),
            },
            5 => match self.column(scope, Type::Time) {
                Some(time) => format!("CAST(date_part('hour', {time}) AS INT)"),
                None => format!("({leaf} % 3)"),
            },
            6 => self.either(scope, Type::Int, depth),
            _ => leaf,
        }
    }

    fn text(&mut self, scope: &[Column], depth: usize) -> String {
        let leaf = match self.column(scope, Type::Text) {
            Some(column) if !self.chance(10) => column,
            _ => self.one(&["'a'", "'b'", "'ab'", "'zz'"]).to_string(),
        };
        match (depth, self.rng.u8(0..6)) {
            (0, _) => leaf,
            (_, 0) => format!("upper({leaf})"),
            (_, 1) => format!("{leaf} || '{}'", self.one(&["x", "yy"])),
            (_, 2) => format!("CAST({} AS VARCHAR)", self.int(scope, 0)),
            (_, 3) => format!("substr({leaf}, 1, 1)"),
            (_, 4) => self.either(scope, Type::Text, depth),
            _ => leaf,
        }
    }

    fn decimal(&mut self, scope: &[Column], depth: usize) -> String {
        let leaf = match self.column(scope, Type::Decimal) {
            Some(column) if !self.chance(10) => column,
            _ => format!("CAST({} AS DECIMAL(10, 2))", self.one(&["0.00", "1.25", "-3.50"])),
        };
        match (depth, self.rng.u8(0..5)) {
            (0, _) => leaf,
            (_, 0) => format!("({leaf} + {})", self.decimal(scope, depth - 1)),
            (_, 1) => format!("abs({leaf})"),
            (_, 2) => format!("CAST({} AS DECIMAL(12, 2))", self.int(scope, 0)),
            (_, 3) => self.either(scope, Type::Decimal, depth),
            _ => leaf,
        }
    }

    fn time(&mut self, scope: &[Column], depth: usize) -> String {
        let leaf = match self.column(scope, Type::Time) {
            Some(column) if !self.chance(5) => column,
            _ => "TIMESTAMP '2026-01-02 06:00:00'".to_string(),
        };
        match (depth, self.rng.u8(0..6)) {
            (0, _) => leaf,
            (_, 0) => format!("date_trunc('day', {leaf})"),
            (_, 1) => format!("date_bin(INTERVAL '6 hours', {leaf}, TIMESTAMP '2026-01-01 00:00:00')"),
            (_, 2) => format!("({leaf} + INTERVAL '1 hour')"),
            (_, 3) => self.either(scope, Type::Time, depth),
            _ => leaf,
        }
    }

    /// A condition.
    pub fn predicate(&mut self, scope: &[Column], depth: usize) -> String {
        if depth > 0 && self.chance(35) {
            let (left, right) = (self.predicate(scope, depth - 1), self.predicate(scope, depth - 1));
            return match self.rng.u8(0..5) {
                0 | 1 => format!("({left} AND {right})"),
                2 | 3 => format!("({left} OR {right})"),
                _ => format!("NOT ({left})"),
            };
        }
        let comparable = self.comparable(scope);
        let (column, kind) = self.one(&comparable);
        if self.chance(15) {
            let not = self.one(&["", "NOT "]);
            return format!("{column} IS {not}NULL");
        }
        let operator = self.one(&["=", "<>", "<", "<=", ">", ">="]);
        match (kind, self.rng.u8(0..4)) {
            (Type::Bool, _) => format!("{column} IS {}TRUE", self.one(&["", "NOT "])),
            (Type::Int, 0) => format!("{column} IN (0, 1, {})", self.rng.i32(2..7)),
            (Type::Int, 1) => format!("{column} BETWEEN {} AND 4", self.rng.i32(-2..4)),
            (Type::Text, 0) => format!("{column} LIKE '{}'", self.one(&["a%", "%b", "_"])),
            (kind, 2) if depth > 0 => format!("{column} {operator} {}", self.value(scope, kind, 1)),
            (Type::Int, _) => format!("{column} {operator} {}", self.rng.i32(-1..6)),
            (Type::Text, _) => format!("{column} {operator} '{}'", self.one(&["a", "b", "ab"])),
            (Type::Decimal, _) => format!("{column} {operator} {}", self.one(&["0", "1.25", "5"])),
            (_, _) => format!("{column} {operator} TIMESTAMP '2026-01-01 12:00:00'"),
        }
    }
}
