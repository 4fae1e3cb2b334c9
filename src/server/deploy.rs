//! Planning and applying a project: two actions beside those of Flight SQL.
//!
//! ```text
//!   PlanProject   ProjectRequest ─▶ JSON: what would change        Engine::plan
//!   ApplyProject  ProjectRequest ─▶ JSON: what was done            Engine::deploy, in the server's own process, so that
//!                                                                  passes and readers go on meanwhile
//! ```
//!
//! For administrators. Applying runs to its end when its client goes away, and has a line in the audit log.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use tonic::Status;

use super::service::{Caller, Service};
use super::statement::Shape;
use super::{Backend, status};
use crate::engine::ProjectObject;

/// The action that tells what would change.
pub const PLAN: &str = "PlanProject";

/// The action that changes it.
pub const APPLY: &str = "ApplyProject";

/// The files of a project.
#[derive(Clone, PartialEq, Message)]
pub struct ProjectRequest {
    /// All of them.
    #[prost(message, repeated, tag = "1")]
    pub files: Vec<ProjectFile>,
    /// Do it only if this is the number of the plan.
    #[prost(string, optional, tag = "2")]
    pub plan: Option<String>,
}

/// One file of a project.
#[derive(Clone, PartialEq, Message)]
pub struct ProjectFile {
    /// Its path, for error messages.
    #[prost(string, optional, tag = "1")]
    pub path: Option<String>,
    /// Its text.
    #[prost(string, tag = "2")]
    pub sql: String,
    /// The file that its LOCATION names.
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub data: Option<Bytes>,
}

impl ProjectRequest {
    /// These objects; `plan`: see there.
    pub fn new(objects: &[ProjectObject], plan: Option<String>) -> Self {
        let file = |object: &ProjectObject| ProjectFile {
            path: object.file.clone(),
            sql: object.sql.clone(),
            data: object.data.clone().map(Bytes::from),
        };
        Self { files: objects.iter().map(file).collect(), plan }
    }

    fn objects(self) -> Vec<ProjectObject> {
        let object = |file: ProjectFile| ProjectObject {
            file: file.path,
            sql: file.sql,
            data: file.data.map(|bytes| bytes.to_vec()),
        };
        self.files.into_iter().map(object).collect()
    }
}

/// What would change.
pub(crate) async fn plan(service: &Service, caller: &Caller, body: Bytes) -> Result<Vec<u8>, Status> {
    let objects = read(PLAN, body)?.objects();
    let deadline = service.deadline(&caller.principal);
    let work = async move |backend: Arc<dyn Backend>, _, principal| backend.plan(&principal, &objects).await;
    let (planned, line) = service.run(caller, (Shape::Query, "(plan a project)"), deadline, work).await?;
    line.into_iter().for_each(|line| line.forget());
    serde_json::to_vec(&planned).map_err(status::from)
}

/// Change it.
pub(crate) async fn apply(service: &Service, caller: &Caller, body: Bytes) -> Result<Vec<u8>, Status> {
    let mut request = read(APPLY, body)?;
    let expected = request.plan.take();
    let text = match &expected {
        Some(plan) => format!("(apply a project: plan {plan})"),
        None => "(apply a project)".into(),
    };
    let objects = request.objects();
    let deadline = service.deadline(&caller.principal);
    let work = async move |backend: Arc<dyn Backend>, _, principal| {
        backend.deploy(&principal, &objects, expected.as_deref()).await
    };
    let (deployed, line) = service.run(caller, (Shape::Change, &text), deadline, work).await?;
    service.changed(line, 0, true).await;
    serde_json::to_vec(&deployed).map_err(status::from)
}

fn read(action: &str, body: Bytes) -> Result<ProjectRequest, Status> {
    ProjectRequest::decode(body).map_err(|error| status::malformed(action, error))
}
