//! What the parser gives: one value per statement of the dialect. Names are normalised (lowercase unless quoted),
//! texts are exact slices of the input, offsets are bytes from the start of the whole input given to `parse`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use sqlparser::ast::DataType;

use crate::name::TableName;

/// One statement of a text.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    /// What it says.
    pub statement: Statement,
    /// Its exact text, without the `;` and without comments before and after it.
    pub text: String,
    /// Where `text` begins: bytes from the start of the input.
    pub offset: usize,
}

/// A statement of the dialect.
#[derive(Debug, Clone, PartialEq)]
pub enum Statement {
    /// `CREATE EXTERNAL TABLE ... STORED AS KINESIS | JSONL`.
    CreateSource(CreateSource),
    /// `CREATE EXTERNAL TABLE ... STORED AS CSV`: a small file that becomes an ordinary table.
    CreateReference(CreateReference),
    /// `CREATE MATERIALIZED VIEW`.
    CreateMaterializedView(CreateMaterializedView),
    /// `CREATE TABLE`.
    CreateTable(CreateTable),
    /// `INSERT INTO`.
    Insert(Insert),
    /// `REFRESH MATERIALIZED VIEW`.
    Refresh(Refresh),
    /// `ALTER MATERIALIZED VIEW`.
    AlterMaterializedView(AlterMaterializedView),
    /// `DROP MATERIALIZED VIEW` and `DROP TABLE`.
    Drop(Drop),
    /// `SHOW MATERIALIZED VIEWS`.
    ShowMaterializedViews,
    /// `EXPLAIN CREATE MATERIALIZED VIEW ...`: the file's own text.
    Explain(Box<CreateMaterializedView>),
    /// `EXPLAIN MATERIALIZED VIEW s.n`: one that is there.
    ExplainView(TableName),
    /// `AUDIT MATERIALIZED VIEW s.n`: compare a view with its query.
    Audit(TableName),
    /// `FORGET WHERE column = value`: one user's rows, out of everything.
    Forget(Forget),
    /// Users, roles, grants, policies, masks and tokens.
    Access(Box<AccessStatement>),
    /// Anything else, as DataFusion parses it.
    Sql(Box<datafusion::sql::parser::Statement>),
}

/// A source of events.
#[derive(Debug, Clone, PartialEq)]
pub struct CreateSource {
    /// Its name.
    pub name: TableName,
    /// How its events are stored.
    pub format: SourceFormat,
    /// Where: `kinesis://ap-south-1/E_com`, a folder, `s3://...`. Never empty.
    pub location: String,
    /// `OPTIONS (...)`; keys in lowercase.
    pub options: BTreeMap<String, String>,
    /// The payload's columns, for information; often empty.
    pub columns: Vec<Column>,
}

/// What a source reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceFormat {
    /// An Amazon Kinesis stream.
    Kinesis,
    /// Files with one JSON object a line.
    Jsonl,
}

/// A CSV file that is loaded into an ordinary table.
#[derive(Debug, Clone, PartialEq)]
pub struct CreateReference {
    /// The table's name.
    pub name: TableName,
    /// The file, relative to the SQL file. Never empty.
    pub location: String,
    /// `OPTIONS (...)`; keys in lowercase.
    pub options: BTreeMap<String, String>,
    /// The table's columns; at least one.
    pub columns: Vec<Column>,
}

/// A declared column.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its SQL type; never a type that is unknown to sqlparser.
    pub data_type: DataType,
    /// False with `NOT NULL`.
    pub nullable: bool,
}

/// A view that is kept as a table.
#[derive(Debug, Clone, PartialEq)]
pub struct CreateMaterializedView {
    /// Its name.
    pub name: TableName,
    /// The exact text of the query after `AS`.
    pub query: String,
    /// Where `query` begins: bytes from the start of the input.
    pub query_offset: usize,
    /// `PARTITIONED BY`, in order.
    pub partitioned_by: Vec<PartitionBy>,
    /// `COMMENT`.
    pub comment: Option<String>,
    /// `WITH (...)`.
    pub options: ViewOptions,
    /// `CONSTRAINT ... EXPECT`, in order; names are unique.
    pub expectations: Vec<Expectation>,
}

/// One partition column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartitionBy {
    /// The values of a column.
    Column(String),
    /// `bucket(count, column)`: a hash of the column's values.
    Bucket {
        /// How many buckets; 1 to 10,000.
        count: u32,
        /// The column.
        column: String,
    },
}

/// `WITH (...)` of a view.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ViewOptions {
    /// At most this far behind its sources, in milliseconds; `None` is `'downstream'`: as the views over it need.
    pub target_lag_ms: Option<u64>,
    /// How it is kept.
    pub refresh_mode: RefreshMode,
    /// Rows with these columns equal are duplicates; the first one stays. Empty: none are.
    pub unique_key: Vec<String>,
    /// Duplicates are looked for this far back, in milliseconds; `None`: without end.
    pub dedupe_within_ms: Option<u64>,
    /// How long rows stay; `None`: without end.
    pub retention: Option<RetentionOptions>,
    /// What of its inputs has expired may be missing where the view reads them again.
    pub ignores_expired: bool,
}

/// `retention` and `retention_by`, which come together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetentionOptions {
    /// How long a row stays, in milliseconds; never 0.
    pub ms: u64,
    /// The column that tells when the row is of.
    pub by: String,
}

/// How a view is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RefreshMode {
    /// By changes only; a definition that cannot be kept so is refused.
    #[default]
    Incremental,
    /// Recomputed each time.
    Full,
    /// Whichever costs less.
    Auto,
}

/// A rule for the rows of a view. It passes only when TRUE: NULL is a violation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expectation {
    /// Its name.
    pub name: String,
    /// The exact text between the parentheses.
    pub predicate: String,
    /// Where `predicate` begins: bytes from the start of the input.
    pub predicate_offset: usize,
    /// What becomes of a row that fails.
    pub on_violation: OnViolation,
}

/// What becomes of a row that fails an expectation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OnViolation {
    /// It is counted and kept.
    #[default]
    Warn,
    /// It is counted and left out.
    DropRow,
    /// It goes to the quarantine table.
    QuarantineRow,
    /// The refresh fails; the view stays as it is.
    FailUpdate,
}

impl OnViolation {
    /// `warn`, `drop_row`, `quarantine_row` or `fail_update`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Warn => "warn",
            Self::DropRow => "drop_row",
            Self::QuarantineRow => "quarantine_row",
            Self::FailUpdate => "fail_update",
        }
    }
}

impl fmt::Display for OnViolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An ordinary table.
#[derive(Debug, Clone, PartialEq)]
pub struct CreateTable {
    /// Its name.
    pub name: TableName,
    /// `IF NOT EXISTS`: an existing table is left as it is.
    pub if_not_exists: bool,
    /// Its columns; empty exactly when there is a query.
    pub columns: Vec<Column>,
    /// `PARTITIONED BY`, in order.
    pub partitioned_by: Vec<PartitionBy>,
    /// `COMMENT`.
    pub comment: Option<String>,
    /// `AS query`: its exact text.
    pub query: Option<String>,
    /// Where `query` begins: bytes from the start of the input (0 without a query).
    pub query_offset: usize,
}

/// Rows for an ordinary table.
#[derive(Debug, Clone, PartialEq)]
pub struct Insert {
    /// The table.
    pub name: TableName,
    /// The columns named after it; empty: all, in the table's order.
    pub columns: Vec<String>,
    /// The whole statement, for DataFusion's planner. Its source is a query or VALUES.
    pub statement: Box<datafusion::sql::parser::Statement>,
}

/// Delete rows from all tables and views, and their bytes from storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forget {
    /// The column.
    pub column: String,
    /// Its value, as a text; never empty.
    pub value: String,
    /// `COMMENT`: why, such as the number of a ticket.
    pub comment: Option<String>,
}

/// Bring a view up to date now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refresh {
    /// The view.
    pub name: TableName,
    /// `FULL`: recompute it.
    pub full: bool,
    /// `FULL FORCE`: also where rows that its inputs have let expire are lost by it.
    pub force: bool,
}

/// Change how a view is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlterMaterializedView {
    /// The view.
    pub name: TableName,
    /// What to do.
    pub action: AlterAction,
}

/// What `ALTER MATERIALIZED VIEW` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlterAction {
    /// It takes part in no epoch any more.
    Suspend,
    /// It does again.
    Resume,
    /// Policies of the tables below no longer reach it: its owner answers for what it shows.
    Declassify,
    /// They do again.
    Classify,
}

/// Remove a view or a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drop {
    /// Which of the two.
    pub kind: DropKind,
    /// Its name.
    pub name: TableName,
    /// `IF EXISTS`: nothing of that name is no error.
    pub if_exists: bool,
}

/// What `DROP` removes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropKind {
    /// `DROP MATERIALIZED VIEW`.
    MaterializedView,
    /// `DROP TABLE`: an ordinary table, or a source.
    Table,
}

/// A change of who may do what, and see what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessStatement {
    /// `CREATE USER`.
    CreateUser {
        /// The name.
        name: String,
        /// None: the user comes with a token or a certificate.
        password: Option<Secret>,
        /// Its roles.
        roles: BTreeSet<String>,
        /// What policies ask for, such as `seller_id`.
        attributes: BTreeMap<String, String>,
    },
    /// `ALTER USER`.
    AlterUser {
        /// The name.
        name: String,
        /// What changes.
        change: UserChange,
    },
    /// `DROP USER`.
    DropUser {
        /// The name.
        name: String,
        /// Nothing of that name is no error.
        if_exists: bool,
    },
    /// `CREATE ROLE`.
    CreateRole {
        /// The name.
        name: String,
        /// Roles whose rights it has, too.
        roles: BTreeSet<String>,
    },
    /// `ALTER ROLE name LIMITS (...)`.
    AlterRole {
        /// The name.
        name: String,
        /// All limits.
        limits: RoleLimits,
    },
    /// `DROP ROLE`.
    DropRole {
        /// The name.
        name: String,
        /// Nothing of that name is no error.
        if_exists: bool,
    },
    /// `GRANT`.
    Grant {
        /// What is given.
        what: GrantWhat,
        /// Users and roles.
        to: BTreeSet<String>,
    },
    /// `REVOKE`.
    Revoke {
        /// What is taken.
        what: GrantWhat,
        /// Users and roles.
        from: BTreeSet<String>,
    },
    /// `CREATE POLICY`.
    CreatePolicy {
        /// The name, for this table.
        name: String,
        /// The table or view.
        on: TableName,
        /// A further condition, and not one more way to see a row.
        restrictive: bool,
        /// For these roles.
        to: BTreeSet<String>,
        /// The condition's text.
        using: String,
    },
    /// `DROP POLICY`.
    DropPolicy {
        /// The name.
        name: String,
        /// The table or view.
        on: TableName,
        /// Nothing of that name is no error.
        if_exists: bool,
    },
    /// `CREATE MASK`.
    CreateMask {
        /// The name, for this table.
        name: String,
        /// The table or view.
        on: TableName,
        /// The column.
        column: String,
        /// For these roles.
        to: BTreeSet<String>,
        /// The text of what they see in its place.
        using: String,
    },
    /// `DROP MASK`.
    DropMask {
        /// The name.
        name: String,
        /// The table or view.
        on: TableName,
        /// Nothing of that name is no error.
        if_exists: bool,
    },
    /// `CREATE TOKEN`.
    CreateToken {
        /// The name, for this user.
        name: String,
        /// None: whoever asks.
        user: Option<String>,
        /// None: until it is dropped.
        valid_ms: Option<u64>,
    },
    /// `DROP TOKEN`.
    DropToken {
        /// The name.
        name: String,
        /// None: whoever asks.
        user: Option<String>,
    },
}

/// What `ALTER USER` changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserChange {
    /// The password.
    Password(Secret),
    /// All attributes.
    Attributes(BTreeMap<String, String>),
    /// Whether the user may come in.
    Enabled(bool),
    /// All limits.
    Limits(RoleLimits),
}

/// What one user may use; `None`: as much as the server has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RoleLimits {
    /// Statements at the same time; others wait for their turn.
    pub statements_max: Option<u64>,
    /// Milliseconds that a statement may run, fetching of its rows included.
    pub time_ms_max: Option<u64>,
    /// Rows of one result.
    pub rows_max: Option<u64>,
    /// Bytes of one result, as Arrow has it in memory.
    pub bytes_max: Option<u64>,
    /// Bytes that one statement may take for sorts, joins and groups before it spills, or fails.
    pub memory_bytes_max: Option<u64>,
    /// Results that have not been fetched, and prepared statements, each.
    pub handles_max: Option<u64>,
}

impl RoleLimits {
    /// The names, as they are written.
    pub const NAMES: [&str; 6] =
        ["statements_max", "time_max", "rows_max", "bytes_max", "memory_bytes_max", "handles_max"];

    /// The limit of this name.
    pub fn named(&mut self, name: &str) -> Option<&mut Option<u64>> {
        Some(match name {
            "statements_max" => &mut self.statements_max,
            "time_max" => &mut self.time_ms_max,
            "rows_max" => &mut self.rows_max,
            "bytes_max" => &mut self.bytes_max,
            "memory_bytes_max" => &mut self.memory_bytes_max,
            "handles_max" => &mut self.handles_max,
            _ => return None,
        })
    }

    /// Where both say something, the smaller.
    #[must_use]
    pub fn and(mut self, mut other: Self) -> Self {
        for name in Self::NAMES {
            if let (Some(mine), Some(theirs)) = (self.named(name), other.named(name)) {
                *mine = match (*mine, *theirs) {
                    (Some(mine), Some(theirs)) => Some(mine.min(theirs)),
                    (mine, theirs) => mine.or(theirs),
                };
            }
        }
        self
    }
}

impl std::fmt::Display for RoleLimits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut all = *self;
        let mut first = true;
        for name in Self::NAMES {
            let Some(value) = all.named(name).and_then(|value| *value) else { continue };
            let unit = if name == "time_max" { " ms" } else { "" };
            write!(f, "{}{name} = {value}{unit}", if first { "" } else { ", " })?;
            first = false;
        }
        Ok(())
    }
}

/// What a grant is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GrantWhat {
    /// Rights on tables.
    Privileges {
        /// Which.
        privileges: BTreeSet<Privilege>,
        /// On what.
        on: GrantOn,
    },
    /// All rights of these roles.
    Roles(BTreeSet<String>),
}

/// A right on a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Privilege {
    /// To read it.
    Select,
    /// To add rows.
    Insert,
    /// To change rows.
    Update,
    /// To delete rows; TRUNCATE too.
    Delete,
}

/// What a privilege is on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GrantOn {
    /// One table or view.
    Table(TableName),
    /// All of a schema, now and later.
    Schema(String),
}

/// A text that is not to be shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}
