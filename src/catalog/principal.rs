//! Who asks. Fixed by authentication; nothing in SQL can change it.

/// The one on whose behalf a session runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The name for logs.
    pub subject: String,
    /// May change objects and data, not only read.
    pub may_write: bool,
}

impl Principal {
    /// The refresher and the operator at the keyboard.
    pub fn system() -> Self {
        Self { subject: "system".into(), may_write: true }
    }

    /// Somebody on this machine, not logged in.
    pub fn local() -> Self {
        Self { subject: "local".into(), may_write: true }
    }
}
