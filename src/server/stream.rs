//! One result on its way to the client.
//!
//! ```text
//!   rows of the plan ─▶ copy (a task of its own) ─▶ channel, `batches_ahead_max` ─▶ Flight encoder ─▶ client
//!                          │ stops for: cancel by ticket, the time limit, shutdown
//!                          └ is aborted when the client drops the call
//! ```
//!
//! The task is there so that the limits hold even while the client reads nothing: a stalled client would otherwise
//! keep the plan and its turn for ever. A stream ends without an error only when the task has ended without one.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use arrow_flight::FlightData;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use datafusion::common::runtime::SpawnedTask;
use datafusion::execution::SendableRecordBatchStream;
use futures::stream::{self, BoxStream, Stream};
use futures::{StreamExt, TryStreamExt};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use uuid::Uuid;

use super::status;
use super::wire::Wire;
use crate::catalog::Principal;

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
}

/// The results that are being fetched, by handle, so that they can be cancelled.
#[derive(Default)]
pub(crate) struct Running(Mutex<HashMap<Uuid, (String, CancellationToken)>>);

impl Running {
    /// Cancel; false when it is not running (any more), or is somebody else's.
    pub(crate) fn cancel(&self, handle: Uuid, owner: &str) -> bool {
        let mut running = self.0.lock();
        if running.get(&handle).is_none_or(|(of, _)| of != owner) {
            return false;
        }
        running.remove(&handle).inspect(|(_, token)| token.cancel()).is_some()
    }

    /// Register, until the guard is dropped.
    pub(crate) fn register(self: &Arc<Self>, handle: Uuid, owner: &str, token: CancellationToken) -> RunningGuard {
        self.0.lock().insert(handle, (owner.to_string(), token));
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

/// Send `pending`. `held` is kept until the rows end: the turn and the registration.
pub(crate) fn send(
    pending: Pending,
    cancel: CancellationToken,
    held: (OwnedSemaphorePermit, RunningGuard),
    batches_ahead_max: usize,
) -> BoxStream<'static, Result<FlightData, Status>> {
    let (sender, receiver) = mpsc::channel(batches_ahead_max);
    let Pending { wire, rows, deadline, .. } = pending;
    let schema = Arc::clone(&wire.schema);
    let task = SpawnedTask::spawn(async move {
        let _held = held;
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(Status::cancelled("the query was cancelled")),
            () = tokio::time::sleep_until(deadline) => Err(too_long()),
            done = copy(rows, &wire, sender) => done,
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
            Err(_) => Some((Err(Status::internal("the query ended unexpectedly; the server's log tells why")), None)),
        }
    });
    encode(schema, batches)
}

/// The status of a statement that has used up its time.
pub(crate) fn too_long() -> Status {
    Status::deadline_exceeded("the statement ran for longer than this server allows")
}

async fn copy(
    mut rows: SendableRecordBatchStream,
    wire: &Wire,
    sender: mpsc::Sender<RecordBatch>,
) -> Result<(), Status> {
    while let Some(batch) = rows.next().await {
        let batch = wire.batch(&batch.map_err(status::from)?).map_err(status::from)?;
        if sender.send(batch).await.is_err() {
            break; // the client is gone
        }
    }
    Ok(())
}

/// One batch as a whole result, for metadata.
pub(crate) fn one(batch: RecordBatch) -> BoxStream<'static, Result<FlightData, Status>> {
    encode(batch.schema(), stream::iter([Ok(batch)]))
}

fn encode(
    schema: arrow::datatypes::SchemaRef,
    batches: impl Stream<Item = Result<RecordBatch, Status>> + Send + 'static,
) -> BoxStream<'static, Result<FlightData, Status>> {
    FlightDataEncoderBuilder::new()
        .with_schema(schema)
        .build(batches.map_err(FlightError::from))
        .map_err(Status::from)
        .boxed()
}
