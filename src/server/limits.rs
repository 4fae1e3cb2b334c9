//! The limits of the server, in one place.

use std::time::Duration;

/// What one server lets its clients hold and use. Beyond a limit the answer is RESOURCE_EXHAUSTED, or UNAVAILABLE
/// where waiting helps.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Statements that are planned or run at the same time.
    pub statements_max: usize,
    /// How long a statement waits for its turn.
    pub queue_wait_max: Duration,
    /// How long a statement may run, fetching of its rows included.
    pub statement_time_max: Duration,
    /// Bytes of one SQL text.
    pub sql_bytes_max: usize,
    /// Results that have not been fetched.
    pub results_max: usize,
    /// How long a result waits to be fetched.
    pub result_age_max: Duration,
    /// Prepared statements.
    pub prepared_max: usize,
    /// How long a prepared statement stays without being used.
    pub prepared_idle_max: Duration,
    /// Sessions.
    pub sessions_max: usize,
    /// How long a session stays without being used.
    pub session_idle_max: Duration,
    /// How long a log-in lasts, used or not.
    pub session_age_max: Duration,
    /// Passwords that are checked at the same time.
    pub log_ins_at_once_max: usize,
    /// How long the first log-in after too many failures has to wait; each further one twice as long.
    pub log_in_wait: Duration,
    /// Bytes of one message from a client.
    pub message_bytes_max: usize,
    /// Bytes of the values that are bound to one statement.
    pub values_bytes_max: usize,
    /// Bytes of the headers of one request; drivers put connection properties there.
    pub header_bytes_max: u32,
    /// Batches of one result that wait for the client.
    pub batches_ahead_max: usize,
    /// How long a result waits for a client that has begun to read it.
    pub stream_idle_max: Duration,
    /// How long connections may linger after shutdown.
    pub shutdown_grace_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            statements_max: 64,
            queue_wait_max: Duration::from_secs(10),
            statement_time_max: Duration::from_secs(3600),
            sql_bytes_max: 1 << 20,
            results_max: 1024,
            result_age_max: Duration::from_secs(300),
            prepared_max: 4096,
            prepared_idle_max: Duration::from_secs(3600),
            sessions_max: 4096,
            session_idle_max: Duration::from_secs(3600),
            session_age_max: Duration::from_secs(24 * 3600),
            log_ins_at_once_max: 4,
            log_in_wait: Duration::from_secs(1),
            message_bytes_max: 64 << 20,
            values_bytes_max: 256 << 20,
            header_bytes_max: 64 << 10,
            batches_ahead_max: 2,
            stream_idle_max: Duration::from_secs(300),
            shutdown_grace_max: Duration::from_secs(5),
        }
    }
}
