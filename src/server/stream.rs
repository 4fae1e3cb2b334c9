//! One result on its way to the client.
//!
//! ```text
//!   rows of the plan ─▶ copy (a task of its own) ─▶ channel, `batches_ahead_max` ─▶ Flight, JSON, CSV.. ─▶ client
//!                          │ stops for: cancel by ticket, the time limit, a client that reads nothing, shutdown
//!                          └ is aborted when the client drops the call
//! ```
//!
//! The task is there so that the limits hold even while the client reads nothing: a stalled client would otherwise
//! keep the plan and its turn for ever. A stream ends without an error only when the task has ended without one.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use arrow_flight::FlightData;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use datafusion::common::runtime::SpawnedTask;
use datafusion::execution::SendableRecordBatchStream;
use futures::stream::{self, BoxStream, Stream};
use futures::{StreamExt, TryStreamExt};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use uuid::Uuid;

use super::Limits;
use super::audit_log::Recording;
use super::status;
use super::turns::Turn;
use super::wire::Wire;
use super::workers::Workers;
use crate::catalog::Principal;
use crate::parser::RoleLimits;

/// A result that waits to be fetched.
pub(crate) struct Pending {
    /// How it goes to the client.
    pub(crate) wire: Wire,
    /// Its rows, not started or not beyond the first buffers.
    pub(crate) rows: SendableRecordBatchStream,
    /// When it is given up.
    pub(crate) deadline: Instant,
    /// Whose it is, with the rights under which it was planned.
    pub(crate) principal: Principal,
    /// Its line in the audit log.
    pub(crate) line: Option<Recording>,
}

/// The results that are being fetched, by handle, so that they can be cancelled.
#[derive(Default)]
pub(crate) struct Running(Mutex<HashMap<Uuid, (Principal, CancellationToken)>>);

impl Running {
    /// Cancel; false when it is not running (any more), or is somebody else's.
    pub(crate) fn cancel(&self, handle: Uuid, owner: &str) -> bool {
        let mut running = self.0.lock();
        if running.get(&handle).is_none_or(|(of, _)| of.subject != owner) {
            return false;
        }
        running.remove(&handle).inspect(|(_, token)| token.cancel()).is_some()
    }

    /// Cancel those of these owners.
    pub(crate) fn cancel_where(&self, gone: impl Fn(&Principal) -> bool) {
        self.0.lock().values().filter(|(owner, _)| gone(owner)).for_each(|(_, token)| token.cancel());
    }

    /// Register, until the guard is dropped.
    pub(crate) fn register(self: &Arc<Self>, handle: Uuid, owner: Principal, token: CancellationToken) -> RunningGuard {
        self.0.lock().insert(handle, (owner, token));
        RunningGuard { running: Arc::clone(self), handle }
    }
}

/// Takes a result out of [`Running`] when it ends, however it ends.
pub(crate) struct RunningGuard {
    running: Arc<Running>,
    handle: Uuid,
}

impl Drop for RunningGuard {
    fn drop(&mut self) {
        self.running.0.lock().remove(&self.handle);
    }
}

/// The rows of a result as they become ready.
pub(crate) type Batches = BoxStream<'static, Result<RecordBatch, Status>>;

/// Run `pending`. `held` is kept until the rows end: the turn and the registration.
pub(crate) fn batches(
    pending: Pending,
    cancel: CancellationToken,
    held: (Turn, RunningGuard),
    limits: &Limits,
    workers: &Workers,
) -> (SchemaRef, Batches) {
    let (sender, receiver) = mpsc::channel(limits.batches_ahead_max);
    let idle_max = limits.stream_idle_max;
    let Pending { wire, rows, deadline, principal, line } = pending;
    let schema = Arc::clone(&wire.schema);
    let copying = workers.spawn(async move { copy(rows, &wire, principal.limits, line, (sender, idle_max)).await });
    // Not one of the workers: the limits hold while those are busy.
    let task = SpawnedTask::spawn(async move {
        let (_held, mut copying) = (held, copying);
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(Status::cancelled("the query was cancelled, or may not be asked any more")),
            () = tokio::time::sleep_until(deadline) => Err(too_long()),
            done = copying.join_next() => done.and_then(std::result::Result::ok).unwrap_or_else(|| Err(ended())),
        }
    });
    let batches = stream::unfold(Some((receiver, task)), async |state| {
        let (mut receiver, task) = state?;
        if let Some(batch) = receiver.recv().await {
            return Some((Ok(batch), Some((receiver, task))));
        }
        match task.join().await {
            Ok(Ok(())) => None,
            Ok(Err(status)) => Some((Err(status), None)),
            Err(_) => Some((Err(ended()), None)),
        }
    });
    (schema, batches.boxed())
}

/// The status of a result whose client has stopped reading.
fn idle(idle_max: Duration) -> Status {
    let seconds = idle_max.as_secs();
    Status::deadline_exceeded(format!(
        "nothing was read for {seconds} s, so the result is given up (hint: fetch all of it, or ask for less)"
    ))
}

/// The status of a statement that has panicked.
pub(crate) fn ended() -> Status {
    Status::internal("the statement ended unexpectedly; the server's log tells why")
}

/// The status of a statement that has used up its time.
pub(crate) fn too_long() -> Status {
    Status::deadline_exceeded("the statement ran for longer than this server allows")
}

async fn copy(
    mut rows: SendableRecordBatchStream,
    wire: &Wire,
    limits: RoleLimits,
    mut line: Option<Recording>,
    (sender, idle_max): (mpsc::Sender<RecordBatch>, Duration),
) -> Result<(), Status> {
    let (mut row_count, mut byte_count) = (0, 0);
    let mut send = async |batch: RecordBatch, line: &mut Option<Recording>| {
        let batch = wire.batch(&batch).map_err(status::from)?;
        row_count += batch.num_rows() as u64;
        byte_count += batch.columns().iter().map(bytes).sum::<u64>();
        within(row_count, limits.rows_max, "rows")?;
        within(byte_count, limits.bytes_max, "bytes")?;
        line.iter_mut().for_each(|line| line.fetched(row_count, byte_count));
        let sent = tokio::time::timeout(idle_max, sender.send(batch)).await;
        sent.map(|sent| sent.is_ok()).map_err(|_| idle(idle_max))
    };
    while let Some(batch) = rows.next().await {
        let sent = match batch {
            Ok(batch) => send(batch, &mut line).await,
            Err(error) => Err(status::from(error)),
        };
        match sent {
            Ok(true) => {}
            Ok(false) => return Ok(()), // the client is gone
            Err(status) => {
                line.iter_mut().for_each(|line| line.failed(&status));
                return Err(status);
            }
        }
    }
    line.iter_mut().for_each(Recording::done);
    Ok(())
}

/// Bytes of a column's own rows: a slice of a larger one counts as what it is.
fn bytes(column: &ArrayRef) -> u64 {
    column.to_data().get_slice_memory_size().unwrap_or_else(|_| column.get_array_memory_size()) as u64
}

/// An error rather than a part of the rows that looks like all of them.
fn within(count: u64, max: Option<u64>, what: &str) -> Result<(), Status> {
    match max {
        Some(max) if count > max => Err(Status::resource_exhausted(format!(
            "the result has more than the {max} {what} that you may fetch (hint: ask for less, with WHERE, LIMIT or a sum)"
        ))),
        _ => Ok(()),
    }
}

/// One batch as a whole result, for metadata.
pub(crate) fn one(batch: RecordBatch) -> BoxStream<'static, Result<FlightData, Status>> {
    encode(batch.schema(), stream::iter([Ok(batch)]))
}

/// As the messages of Flight.
pub(crate) fn encode(
    schema: SchemaRef,
    batches: impl Stream<Item = Result<RecordBatch, Status>> + Send + 'static,
) -> BoxStream<'static, Result<FlightData, Status>> {
    FlightDataEncoderBuilder::new()
        .with_schema(schema)
        .build(batches.map_err(FlightError::from))
        .map_err(Status::from)
        .boxed()
}
