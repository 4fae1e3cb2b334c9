//! Where a project goes: a lake that this process opens, or a running server.
//!
//! ```text
//!   --lake    ─▶ Engine::plan, Engine::deploy     here; nobody else writes the lake meanwhile
//!   --server  ─▶ PlanProject, ApplyProject         there, while it goes on with its epochs
//! ```

use std::sync::Arc;

use prost::Message;

use super::remote::Remote;
use super::{Context, lake, quiet};
use crate::engine::deploy::Deployed;
use crate::engine::plan::PlannedObject;
use crate::engine::{Engine, ProjectObject};
use crate::error::{ErrorKind, Result};
use crate::name::TableName;
use crate::parser::{self, Statement};
use crate::server::deploy::{APPLY, PLAN, ProjectRequest};

/// Where it goes.
#[derive(Debug)]
pub enum Target {
    /// Here.
    Lake(Arc<Engine>),
    /// There.
    Server(Box<Remote>),
}

impl Target {
    /// The lake at `url` as it is; one that is not there yet is empty.
    ///
    /// # Errors
    /// As `lake::open_existing`.
    pub async fn as_it_is(context: &Context, url: &str) -> Result<Self> {
        match lake::open_existing(context, url).await {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                lake::open(context, "memory:", lake::Sources::new()).await.map(Self::Lake)
            }
            opened => opened.map(Self::Lake),
        }
    }

    /// The lake at `url`, made where it does not exist. Its sources are not read, and neither are those of `objects`.
    ///
    /// # Errors
    /// As `lake::open`.
    pub async fn opened(context: &Context, url: &str, objects: &[ProjectObject]) -> Result<Self> {
        let storage = lake::storage(context, url).await?;
        let mut sources = quiet::sources(storage.as_ref()).await?;
        sources.extend(quiet::of(source_names(objects)?));
        lake::open_with_storage(context, storage, sources).await.map(Self::Lake)
    }

    /// What applying these would change.
    ///
    /// # Errors
    /// As `Engine::plan`; what a server answers.
    pub async fn plan(&mut self, objects: &[ProjectObject]) -> Result<Vec<PlannedObject>> {
        match self {
            Self::Lake(engine) => engine.plan(objects).await,
            Self::Server(remote) => {
                let answer = remote.act(PLAN, ProjectRequest::new(objects, None).encode_to_vec()).await?;
                Ok(serde_json::from_slice(&answer)?)
            }
        }
    }

    /// Apply them, if that is what plan `expected` says.
    ///
    /// # Errors
    /// As `Engine::deploy`; what a server answers.
    pub async fn deploy(&mut self, objects: &[ProjectObject], expected: &str) -> Result<Deployed> {
        match self {
            Self::Lake(engine) => {
                let deployed = engine.deploy(objects, Some(expected)).await;
                engine.finish_maintenance().await;
                deployed
            }
            Self::Server(remote) => {
                let request = ProjectRequest::new(objects, Some(expected.to_string()));
                Ok(serde_json::from_slice(&remote.act(APPLY, request.encode_to_vec()).await?)?)
            }
        }
    }
}

fn source_names(objects: &[ProjectObject]) -> Result<Vec<TableName>> {
    let mut names = Vec::new();
    for object in objects {
        let file = parser::parse_object_file(&object.sql, object.file.as_deref())?;
        if matches!(file.object.statement, Statement::CreateSource(_)) {
            names.push(file.name);
        }
    }
    Ok(names)
}
