//! From our errors to gRPC statuses: the code tells the driver what to do, the text is for the person.

use tonic::{Code, Status};

use crate::error::{Error, ErrorKind, Location};

/// The status for an error: a code by its kind, its whole text, never debug output.
pub(crate) fn of(error: &Error) -> Status {
    let text = match error.location() {
        Some(Location { file: Some(file), line, column, .. }) => format!("{error} ({file}:{line}:{column})"),
        Some(at) => format!("{error} (line {}, column {})", at.line, at.column),
        None => error.to_string(),
    };
    Status::new(if names_no_table(error) { Code::NotFound } else { code(error.kind()) }, text)
}

/// As [`of`], for errors of the libraries.
pub(crate) fn from(error: impl Into<Error>) -> Status {
    of(&error.into())
}

/// Does a query name a table that is not there? To the planner that is one mistake of the text among others, known by
/// its words only; a driver tells a missing table from a wrong query.
fn names_no_table(error: &Error) -> bool {
    let name = error.message().strip_prefix("table '").and_then(|rest| rest.strip_suffix("' not found"));
    error.kind() == ErrorKind::Definition && name.is_some()
}

fn code(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::Syntax
        | ErrorKind::Definition
        | ErrorKind::NotIncremental
        | ErrorKind::Config
        | ErrorKind::Query => Code::InvalidArgument,
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::Unauthenticated => Code::Unauthenticated,
        ErrorKind::Denied => Code::PermissionDenied,
        ErrorKind::AlreadyExists => Code::AlreadyExists,
        ErrorKind::Expectation => Code::FailedPrecondition,
        ErrorKind::Conflict => Code::Aborted,
        ErrorKind::Transient | ErrorKind::Source => Code::Unavailable,
        ErrorKind::Corrupt | ErrorKind::DataLoss => Code::DataLoss,
        ErrorKind::Cancelled => Code::Cancelled,
        ErrorKind::Storage | ErrorKind::Internal => Code::Internal,
    }
}

/// The client sent something that is not the protocol.
pub(crate) fn malformed(what: &str, error: impl std::fmt::Display) -> Status {
    Status::invalid_argument(format!("{what} is not a message of Arrow Flight SQL: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_for_people_and_the_code_for_programs() {
        let error = Error::new(ErrorKind::NotFound, "no view gold.kpi").with_hint("did you mean gold.kpis?");
        let status = of(&error);
        assert_eq!(status.code(), Code::NotFound);
        assert_eq!(status.message(), "no view gold.kpi (hint: did you mean gold.kpis?)");
        assert_eq!(of(&Error::new(ErrorKind::Syntax, "x")).code(), Code::InvalidArgument);
        assert_eq!(of(&Error::new(ErrorKind::Transient, "x")).code(), Code::Unavailable);
    }
}
