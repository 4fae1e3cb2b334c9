//! The one error type of the crate.
//!
//! ```text
//! error: unknown column "pric"                       <- message: what is wrong, lowercase, no full stop
//!   --> sql/silver/events.sql:14:22                  <- location, for SQL
//!    |
//! 14 |        CAST(e.pric AS DECIMAL(12,2)) AS price,
//!    |               ^
//! detail: the columns of "e" are event_id, price, …  <- detail: facts
//! hint: did you mean "price"?                        <- hint: what to do
//! ```
//!
//! [`ErrorKind`] tells the *program* what to do (retry, stop, report); the three texts tell the *person*.

use std::fmt;

/// The result of everything fallible in the crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the caller should do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The text is not in the dialect: the author mends it.
    Syntax,
    /// The text parses but means nothing here (unknown column, wrong type, cycle): the author mends it.
    Definition,
    /// The definition is right but cannot be kept incrementally, and full refresh was not asked for.
    NotIncremental,
    /// Nothing of that name.
    NotFound,
    /// The name, object or port is taken.
    AlreadyExists,
    /// An expectation with `FAIL UPDATE` was violated: the view keeps its version.
    Expectation,
    /// Another writer won a conditional put: adopt its record or stop.
    Conflict,
    /// A passing fault (throttling, reset, time-out): try again within the named limits.
    Transient,
    /// The lake cannot be read or written (full disk, read-only folder, no permission): the operator acts.
    Storage,
    /// Stored bytes are not what was written: the operator acts; never retried.
    Corrupt,
    /// The event source refuses or cannot be reached after all retries.
    Source,
    /// Records expired before they were read.
    DataLoss,
    /// A flag, option or environment variable is wrong.
    Config,
    /// A query failed while it ran (division by zero, cast).
    Query,
    /// Who asks is not known: the name, password or token is wrong, or there is none.
    Unauthenticated,
    /// Who asks may not do this.
    Denied,
    /// The work was cancelled by shutdown or by the client.
    Cancelled,
    /// A bug of ours.
    Internal,
}

/// A place in an SQL text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The file, as the user named it; `None` for text typed at a prompt.
    pub file: Option<String>,
    /// 1-based line.
    pub line: usize,
    /// 1-based column, in characters.
    pub column: usize,
    /// The whole line, for the caret.
    pub text: String,
}

/// An error: what happened, the facts, what to do, and where.
#[derive(Debug, Clone)]
pub struct Error(Box<Inner>);

#[derive(Debug, Clone)]
struct Inner {
    kind: ErrorKind,
    message: String,
    detail: Option<String>,
    hint: Option<String>,
    location: Option<Location>,
}

impl Error {
    /// An error with its primary message (lowercase, no full stop).
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, message: message.into(), detail: None, hint: None, location: None }))
    }

    /// Facts that help to understand the message.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.0.detail = Some(detail.into());
        self
    }

    /// An action that is likely to help.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Where in the SQL text.
    #[must_use]
    pub fn with_location(mut self, location: Location) -> Self {
        self.0.location = Some(location);
        self
    }

    /// Put `context` before the message: `context: message`.
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.0.message = format!("{context}: {}", self.0.message);
        self
    }

    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }
    /// The primary message.
    pub fn message(&self) -> &str {
        &self.0.message
    }
    /// The facts.
    pub fn detail(&self) -> Option<&str> {
        self.0.detail.as_deref()
    }
    /// The advice.
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }
    /// The place in the SQL text.
    pub fn location(&self) -> Option<&Location> {
        self.0.location.as_ref()
    }

    /// The process exit code for this error: 2 for what the user wrote, 3 for what the operator must mend,
    /// 4 for a lost race, 1 for the rest.
    pub fn exit_code(&self) -> u8 {
        match self.0.kind {
            ErrorKind::Syntax
            | ErrorKind::Definition
            | ErrorKind::NotIncremental
            | ErrorKind::NotFound
            | ErrorKind::Unauthenticated
            | ErrorKind::Denied
            | ErrorKind::Config => 2,
            ErrorKind::Storage | ErrorKind::Corrupt | ErrorKind::Source | ErrorKind::DataLoss => 3,
            ErrorKind::Conflict => 4,
            _ => 1,
        }
    }

    /// The whole error for a terminal, in the layout of the module's drawing.
    pub fn render(&self) -> String {
        self.render_as("error")
    }

    /// As `render`, with another word than "error" before it.
    pub fn render_as(&self, word: &str) -> String {
        let mut out = format!("{word}: {}\n", self.0.message);
        if let Some(at) = &self.0.location {
            let number = at.line.to_string();
            let gap = " ".repeat(number.len());
            let file = at.file.as_deref().unwrap_or("<sql>");
            let caret = " ".repeat(at.column.saturating_sub(1));
            out += &format!("{gap}--> {file}:{}:{}\n{gap} |\n", at.line, at.column);
            out += &format!("{number} | {}\n{gap} | {caret}^\n", at.text.replace('\t', " "));
        }
        if let Some(detail) = &self.0.detail {
            out += &format!("detail: {detail}\n");
        }
        if let Some(hint) = &self.0.hint {
            out += &format!("hint: {hint}\n");
        }
        out
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.message)?;
        if let Some(detail) = &self.0.detail {
            write!(f, "; {detail}")?;
        }
        if let Some(hint) = &self.0.hint {
            write!(f, " (hint: {hint})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// A fault of a bucket, or of the network on the way to it, that is likely to pass. The types that would tell are private
/// to `object_store`, and lost in the errors of the libraries in between; the text is not.
pub(crate) fn passes(text: &str) -> bool {
    const PASSING: [&str; 4] =
        ["HTTP error:", "non-2xx status code: 5", "non-2xx status code: 429", "Server returned error response"];
    text.contains("Generic S3 error") && PASSING.iter().any(|passing| text.contains(passing))
}

impl From<datafusion::error::DataFusionError> for Error {
    fn from(error: datafusion::error::DataFusionError) -> Self {
        use datafusion::error::DataFusionError as D;
        match error.find_root() {
            root if passes(&root.to_string()) => Error::new(ErrorKind::Transient, plain(&error)),
            D::External(inner) => match inner.downcast_ref::<Error>() {
                Some(ours) => ours.clone(),
                None => Error::new(ErrorKind::Query, inner.to_string()),
            },
            D::SQL(..) => Error::new(ErrorKind::Syntax, error.strip_backtrace()),
            D::Plan(_) | D::SchemaError(..) | D::NotImplemented(_) => Error::new(ErrorKind::Definition, plain(&error)),
            D::Internal(_) => Error::new(ErrorKind::Internal, plain(&error)),
            D::ObjectStore(_) | D::IoError(_) => Error::new(ErrorKind::Storage, plain(&error)),
            D::ParquetError(_) => Error::new(ErrorKind::Corrupt, plain(&error)),
            _ => Error::new(ErrorKind::Query, plain(&error)),
        }
    }
}

/// DataFusion's text without its "Error during planning: " prefixes and backtrace.
fn plain(error: &datafusion::error::DataFusionError) -> String {
    let text = error.find_root().strip_backtrace();
    for prefix in
        ["Error during planning: ", "Schema error: ", "This feature is not implemented: ", "Execution error: "]
    {
        if let Some(rest) = text.strip_prefix(prefix) {
            return rest.to_string();
        }
    }
    // Each layer that a Parquet error passes puts its name before it.
    text.replace("Parquet error: ", "").replace("External: ", "")
}

impl From<datafusion::arrow::error::ArrowError> for Error {
    fn from(error: datafusion::arrow::error::ArrowError) -> Self {
        datafusion::error::DataFusionError::from(error).into()
    }
}

impl From<Error> for datafusion::error::DataFusionError {
    fn from(error: Error) -> Self {
        datafusion::error::DataFusionError::External(Box::new(error))
    }
}

impl From<object_store::Error> for Error {
    fn from(error: object_store::Error) -> Self {
        use object_store::Error as O;
        let kind = match &error {
            O::NotFound { .. } => ErrorKind::NotFound,
            O::AlreadyExists { .. } | O::Precondition { .. } => ErrorKind::Conflict,
            error if passes(&error.to_string()) => ErrorKind::Transient,
            _ => ErrorKind::Storage,
        };
        let mut text = error.to_string();
        if let Some((_, cause)) = text.strip_prefix("Generic ").and_then(|rest| rest.split_once(" error: ")) {
            text = cause.to_string();
        }
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !text.contains(&cause_text) {
                text = format!("{text}: {cause_text}");
            }
            source = cause.source();
        }
        let full = text.contains("No space left");
        let read_only = text.contains("Permission denied") || text.contains("Read-only file system");
        let error = Error::new(kind, text);
        match (full, read_only) {
            (true, _) => {
                error.with_hint("free disk space; what was committed is safe and the next start goes on from it")
            }
            (_, true) => error.with_hint("the lake folder must be writable by this user"),
            _ => error,
        }
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        let kind = match error.kind() {
            std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            std::io::ErrorKind::AddrInUse => ErrorKind::AlreadyExists,
            _ => ErrorKind::Storage,
        };
        Error::new(kind, error.to_string())
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Error::new(ErrorKind::Corrupt, format!("not the expected JSON: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_of_a_bucket_pass_and_its_refusals_do_not() {
        let s3 = |text: &str| format!("Generic S3 error: Error performing GET http://b/k in 3 ms - {text}");
        for passing in [
            "HTTP error: request or response body error",
            "Server returned non-2xx status code: 503 Service Unavailable: SlowDown",
            "Server returned error response: InternalError",
        ] {
            assert!(passes(&s3(passing)) && passes(&format!("Kernel error: {}", s3(passing))), "{passing}");
        }
        assert!(!passes(&s3("Server returned non-2xx status code: 400 Bad Request: InvalidArgument")));
        assert!(!passes("No space left on device (os error 28)"));
    }
}
