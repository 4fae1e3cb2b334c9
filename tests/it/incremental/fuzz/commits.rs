//! The tables of the fuzzer, and random commits to them.
//!
//! ```text
//!   s.t1 (k INT, a INT, s VARCHAR)   s.t2 (k INT, b BIGINT, d DECIMAL(10,2))   s.t3 (k INT, x INT, ts TIMESTAMP)
//!
//!   few distinct values, many NULLs and equal rows; rows that were there before come again
//!   Step: one commit and a refresh each │ several and one refresh │ restart │ a view is made, rests, goes on
//! ```

use super::plans::{Column, Generator, Plan, Type};

/// A column: its name, what it is, the values that it may have.
type Domain = (&'static str, Type, &'static [&'static str]);

/// Name, columns in SQL, and what is put into them.
const TABLES: [(&str, &str, [Domain; 3]); 3] = [
    (
        "s.t1",
        "k INT, a INT, s VARCHAR",
        [
            ("k", Type::Int, &["NULL", "0", "1", "2", "3", "4"]),
            ("a", Type::Int, &["NULL", "-2", "0", "1", "1", "3", "6"]),
            ("s", Type::Text, &["NULL", "'a'", "'b'", "'ab'", "'c'"]),
        ],
    ),
    (
        "s.t2",
        "k INT, b BIGINT, d DECIMAL(10,2)",
        [
            ("k", Type::Int, &["NULL", "0", "1", "2", "3", "5"]),
            ("b", Type::Int, &["NULL", "0", "1", "5", "100"]),
            ("d", Type::Decimal, &["NULL", "0.00", "1.25", "-3.50", "10.10"]),
        ],
    ),
    (
        "s.t3",
        "k INT, x INT, ts TIMESTAMP",
        [
            ("k", Type::Int, &["NULL", "0", "1", "2", "4"]),
            ("x", Type::Int, &["NULL", "0", "2", "3"]),
            (
                "ts",
                Type::Time,
                &[
                    "NULL",
                    "TIMESTAMP '2026-01-01 05:00:00'",
                    "TIMESTAMP '2026-01-01 05:30:00'",
                    "TIMESTAMP '2026-01-01 18:00:00'",
                    "TIMESTAMP '2026-01-02 06:00:00'",
                ],
            ),
        ],
    ),
];

/// The tables as plans.
pub fn tables() -> Vec<Plan> {
    let plan = |(name, _, columns): &(&str, &str, [Domain; 3])| {
        Plan::named(name, columns.iter().map(|(name, kind, _)| Column::new(*name, *kind)).collect(), 12)
    };
    TABLES.iter().map(plan).collect()
}

/// The statements that make the tables.
pub fn creates() -> Vec<String> {
    TABLES.iter().map(|(name, columns, _)| format!("CREATE TABLE {name} ({columns})")).collect()
}

/// A statement that changes a table. Rows stand apart, so that a failing script can be shrunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Insert(&'static str, Vec<String>),
    Other(String),
}

impl Change {
    pub fn sql(&self) -> String {
        match self {
            Self::Insert(table, rows) => format!("INSERT INTO {table} VALUES {}", rows.join(", ")),
            Self::Other(sql) => sql.clone(),
        }
    }
}

/// What happens to a lake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The view of this number is made.
    Create(usize),
    /// Each statement is a commit, and refreshes every view.
    Each(Vec<Change>),
    /// Views are suspended meanwhile: one refresh sees all these commits, of one table or two.
    Together(Vec<Change>),
    /// The engine is opened again.
    Restart,
    /// A view rests while others go on.
    Suspend(usize),
    Resume(usize),
}

/// Makes changes, and remembers rows.
#[derive(Default)]
pub struct Commits {
    before: [Vec<String>; 3],
}

impl Commits {
    fn row(&mut self, generator: &mut Generator, table: usize) -> String {
        if !self.before[table].is_empty() && generator.chance(40) {
            return generator.one(&self.before[table]);
        }
        let cells = TABLES[table].2.iter().map(|(.., values)| generator.one(values)).collect::<Vec<_>>();
        let row = format!("({})", cells.join(", "));
        self.before[table].push(row.clone());
        row
    }

    /// An insert of so many rows.
    pub fn insert(&mut self, generator: &mut Generator, table: usize, rows: usize) -> Change {
        let rows = (0..rows).map(|_| self.row(generator, table)).collect();
        Change::Insert(TABLES[table].0, rows)
    }

    /// A condition that holds for some rows of a table, or for none.
    fn condition(&mut self, generator: &mut Generator, table: usize) -> String {
        let columns = &TABLES[table].2;
        let (name, _, values) = generator.one(columns);
        let value = generator.one(values);
        match generator.rng.u8(0..10) {
            0..4 => format!("{} IS NOT DISTINCT FROM {}", columns[0].0, generator.one(columns[0].2)),
            4..7 => format!("{name} IS NOT DISTINCT FROM {value}"),
            7 => format!("{} > {}", columns[1].0, generator.rng.u8(0..5)),
            8 if !self.before[table].is_empty() => {
                let row = generator.one(&self.before[table]);
                let cells = row[1..row.len() - 1].split(", ").zip(columns);
                let cells = cells.map(|(value, (name, ..))| format!("({name} IS NOT DISTINCT FROM {value})"));
                cells.collect::<Vec<_>>().join(" AND ")
            }
            _ => format!("{} = 99", columns[0].0),
        }
    }

    /// One change of any kind.
    pub fn change(&mut self, generator: &mut Generator) -> Change {
        let table = generator.rng.usize(0..3);
        let (name, _, columns) = &TABLES[table];
        let (column, _, values) = generator.one(columns);
        Change::Other(match generator.rng.u32(0..100) {
            0..42 => {
                let rows = generator.rng.usize(1..5);
                return self.insert(generator, table, rows);
            }
            42..58 => {
                let value = generator.one(values);
                format!("UPDATE {name} SET {column} = {value} WHERE {}", self.condition(generator, table))
            }
            58..64 => {
                let (column, ..) = columns[1];
                format!("UPDATE {name} SET {column} = {column} + 1 WHERE {}", self.condition(generator, table))
            }
            64..90 => format!("DELETE FROM {name} WHERE {}", self.condition(generator, table)),
            90..92 => format!("TRUNCATE TABLE {name}"),
            92 => format!("DELETE FROM {name}"),
            93..96 => format!("INSERT INTO {name} SELECT * FROM {name} WHERE k = {}", generator.rng.u8(0..5)),
            _ => {
                let other = TABLES[(table + 1) % 3].0;
                let shown = columns[1].0;
                format!(
                    "MERGE INTO {name} AS t USING (SELECT DISTINCT k FROM {other} WHERE k > {}) AS u ON t.k = u.k \
                     WHEN MATCHED THEN UPDATE SET {shown} = t.{shown} + 1 \
                     WHEN NOT MATCHED THEN INSERT (k, {shown}) VALUES (u.k, 0)",
                    generator.rng.u8(0..4)
                )
            }
        })
    }
}

/// The steps of a script over `views` views.
pub fn steps(generator: &mut Generator, views: usize, commits: usize) -> Vec<Step> {
    let mut source = Commits::default();
    let mut steps = Vec::new();
    if !generator.chance(15) {
        for table in 0..3 {
            let rows = generator.rng.usize(5..12);
            steps.push(Step::Each(vec![source.insert(generator, table, rows)]));
        }
    }
    steps.extend((0..views).map(Step::Create));
    for _ in 0..commits {
        let many = generator.rng.usize(2..4);
        match generator.rng.u8(0..20) {
            0..3 => steps.push(Step::Together((0..many).map(|_| source.change(generator)).collect())),
            3 => steps.push(Step::Restart),
            _ => {}
        }
        steps.push(Step::Each(vec![source.change(generator)]));
    }
    // A view that rests for a while, one of those that read others, and one that is made late.
    let (view, late) = (generator.rng.usize(views / 2..views), views - 1);
    let first = steps.len() - commits;
    if generator.chance(50) {
        steps.insert(first, Step::Suspend(view));
        steps.insert(first + commits / 2, Step::Resume(view));
    }
    if generator.chance(30) {
        steps.retain(|step| *step != Step::Create(late));
        steps.insert(steps.len() - 2, Step::Create(late));
    }
    steps
}
