//! Speaking to Glue: what is asked of it, and what an answer that isn't the wanted one means.
//!
//! ```text
//!  AWS_ENDPOINT_URL_GLUE, region, keys ─▶ aws::Account ─▶ client (retries by itself, a few times)
//!  SdkError ─▶ Fault: what to do about it
//! ```

use std::collections::{BTreeMap, HashMap};

use async_trait::async_trait;
use aws_config::retry::RetryConfig;
use aws_sdk_glue::Client;
use aws_sdk_glue::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_glue::types;

use super::{Column, Database, Format, Table};
use crate::aws::Account;
use crate::error::{Error, ErrorKind, Result};

/// Attempts of a call.
const ATTEMPTS_MAX: u32 = 3;

/// Pages of the tables of one database; a page holds up to 100.
const TABLE_PAGES_MAX: usize = 100;

/// A table that is in Glue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// As it is there.
    pub table: Table,
    /// Its version, for an update that holds for no other.
    pub version: Option<String>,
}

/// A catalog of databases and tables. [`Aws`] is the implementor.
#[async_trait]
pub trait Catalog: Send + Sync + std::fmt::Debug {
    /// The tables of a database; `None` where there is none of that name.
    ///
    /// # Errors
    /// See [`Fault`], here and below.
    async fn tables(&self, database: &str) -> Result<Option<Vec<Found>>, Fault>;

    /// Make a database.
    ///
    /// # Errors
    /// `Race` when it is there.
    async fn create_database(&self, database: &Database) -> Result<(), Fault>;

    /// Make a table.
    ///
    /// # Errors
    /// `Race` when it is there, or its database is not.
    async fn create_table(&self, table: &Table) -> Result<(), Fault>;

    /// Put `table` in the place of that version of it.
    ///
    /// # Errors
    /// `Race` when it has another version, or is not there.
    async fn update_table(&self, table: &Table, version: Option<&str>) -> Result<(), Fault>;

    /// Take a table out.
    ///
    /// # Errors
    /// `Race` when it is not there.
    async fn delete_table(&self, database: &str, name: &str) -> Result<(), Fault>;
}

/// Why a call failed, as far as the caller must know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Somebody else was faster: look again, and decide again.
    Race(String),
    /// A passing fault of the network or the service.
    Passing(String),
    /// Nothing that time would mend: permissions, credentials, limits.
    Refused(String),
}

impl Fault {
    /// For people.
    pub fn text(&self) -> &str {
        match self {
            Self::Race(text) | Self::Passing(text) | Self::Refused(text) => text,
        }
    }
}

/// The catalog of an account in a region.
#[derive(Debug)]
pub struct Aws {
    client: Client,
}

impl Aws {
    /// At the endpoint that is given or that AWS's own tools would take, with the keys that they would. Nothing is sent yet.
    ///
    /// # Errors
    /// `Config` when nothing names a region.
    pub async fn open(endpoint_url: Option<&str>) -> Result<Self> {
        let account = Account::of("Glue", None, endpoint_url, None).await;
        if account.region.is_none() {
            return Err(Error::new(ErrorKind::Config, "no AWS region for Glue")
                .with_hint("set AWS_REGION, or AWS_PROFILE with a region in it"));
        }
        let retry = RetryConfig::standard().with_max_attempts(ATTEMPTS_MAX);
        let config = aws_sdk_glue::config::Builder::from(&account.config()).retry_config(retry).build();
        Ok(Self { client: Client::from_conf(config) })
    }

    async fn exists(&self, database: &str) -> Result<bool, Fault> {
        match self.client.get_database().name(database).send().await {
            Ok(_) => Ok(true),
            Err(error) if error.code() == Some("EntityNotFoundException") => Ok(false),
            Err(error) => Err(fault(&error)),
        }
    }
}

#[async_trait]
impl Catalog for Aws {
    async fn tables(&self, database: &str) -> Result<Option<Vec<Found>>, Fault> {
        let (mut tables, mut token) = (Vec::new(), None);
        for _ in 0..TABLE_PAGES_MAX {
            let page = match self.client.get_tables().database_name(database).set_next_token(token).send().await {
                Ok(page) => page,
                Err(error) if error.code() == Some("EntityNotFoundException") => return Ok(None),
                Err(error) => return Err(fault(&error)),
            };
            tables.extend(page.table_list.unwrap_or_default().into_iter().map(|table| found(database, table)));
            token = page.next_token.filter(|token| !token.is_empty());
            if token.is_none() {
                // Emulators say of a database that is not there that it is empty.
                let exists = !tables.is_empty() || self.exists(database).await?;
                return Ok(exists.then_some(tables));
            }
        }
        Err(Fault::Refused(format!("{database} has more than {TABLE_PAGES_MAX} pages of tables")))
    }

    async fn create_database(&self, database: &Database) -> Result<(), Fault> {
        let input = types::DatabaseInput::builder()
            .name(&database.name)
            .description(&database.description)
            .location_uri(&database.location)
            .set_parameters(Some(map(&database.parameters)));
        let input = input.build().map_err(|error| Fault::Refused(error.to_string()))?;
        done(self.client.create_database().database_input(input).send().await)
    }

    async fn create_table(&self, table: &Table) -> Result<(), Fault> {
        done(self.client.create_table().database_name(&table.database).table_input(input(table)?).send().await)
    }

    async fn update_table(&self, table: &Table, version: Option<&str>) -> Result<(), Fault> {
        let call = self.client.update_table().database_name(&table.database).table_input(input(table)?);
        done(call.set_version_id(version.map(str::to_string)).send().await)
    }

    async fn delete_table(&self, database: &str, name: &str) -> Result<(), Fault> {
        done(self.client.delete_table().database_name(database).name(name).send().await)
    }
}

fn done<T, E, R>(answer: Result<T, SdkError<E, R>>) -> Result<(), Fault>
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: std::fmt::Debug,
{
    answer.map(drop).map_err(|error| fault(&error))
}

fn map(parameters: &BTreeMap<String, String>) -> HashMap<String, String> {
    parameters.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn columns(columns: &[Column]) -> Result<Vec<types::Column>, Fault> {
    let column = |column: &Column| {
        let built = types::Column::builder().name(&column.name).r#type(&column.data_type);
        built.set_comment(column.comment.clone()).build()
    };
    let columns: Result<Vec<_>, _> = columns.iter().map(column).collect();
    columns.map_err(|error| Fault::Refused(error.to_string()))
}

fn input(table: &Table) -> Result<types::TableInput, Fault> {
    let format = &table.format;
    let serde = types::SerDeInfo::builder().serialization_library(&format.serde);
    let storage = types::StorageDescriptor::builder()
        .location(&table.location)
        .set_columns(Some(columns(&table.columns)?))
        .input_format(&format.input)
        .output_format(&format.output)
        .serde_info(serde.set_parameters(Some(map(&format.parameters))).build());
    let input = types::TableInput::builder()
        .name(&table.name)
        .set_description(table.description.clone())
        .storage_descriptor(storage.build())
        .set_partition_keys(Some(columns(&table.partition_keys)?))
        .table_type(&table.table_type)
        .set_parameters(Some(map(&table.parameters)));
    input.build().map_err(|error| Fault::Refused(error.to_string()))
}

/// A table as Glue tells of it. What is left out there is empty.
fn found(database: &str, table: types::Table) -> Found {
    let text = |text: Option<String>| text.filter(|text| !text.is_empty());
    let sorted = |map: Option<HashMap<String, String>>| map.into_iter().flatten().collect::<BTreeMap<_, _>>();
    let columns = |columns: Option<Vec<types::Column>>| {
        let column = |column: types::Column| Column {
            name: column.name,
            data_type: column.r#type.unwrap_or_default(),
            comment: text(column.comment),
        };
        columns.into_iter().flatten().map(column).collect::<Vec<_>>()
    };
    let storage = table.storage_descriptor;
    let (mut format, mut location, mut stored) = (Format::default(), String::new(), Vec::new());
    if let Some(storage) = storage {
        let serde = storage.serde_info;
        format.input = storage.input_format.unwrap_or_default();
        format.output = storage.output_format.unwrap_or_default();
        format.serde = serde.as_ref().and_then(|it| it.serialization_library.clone()).unwrap_or_default();
        format.parameters = sorted(serde.and_then(|it| it.parameters));
        (location, stored) = (storage.location.unwrap_or_default(), columns(storage.columns));
    }
    let version = text(table.version_id);
    let table = Table {
        database: database.to_string(),
        name: table.name,
        description: text(table.description),
        location,
        columns: stored,
        partition_keys: columns(table.partition_keys),
        table_type: table.table_type.unwrap_or_default(),
        parameters: sorted(table.parameters),
        format,
    };
    Found { table, version }
}

/// What an SDK error means.
fn fault<E, R>(error: &SdkError<E, R>) -> Fault
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: std::fmt::Debug,
{
    let text = || DisplayErrorContext(error).to_string();
    match error {
        SdkError::ServiceError(service) => {
            let message = service.err().message().unwrap_or_default();
            by_code(service.err().code().unwrap_or_default(), message)
        }
        SdkError::TimeoutError(_) => Fault::Passing("no answer in time".into()),
        SdkError::DispatchFailure(_) | SdkError::ConstructionFailure(_) if text().contains("redential") => {
            Fault::Refused(text())
        }
        SdkError::ConstructionFailure(_) => Fault::Refused(text()),
        _ => Fault::Passing(text()),
    }
}

fn by_code(code: &str, message: &str) -> Fault {
    let text = format!("{code}: {message}");
    match code {
        "ConcurrentModificationException" | "AlreadyExistsException" | "EntityNotFoundException" => Fault::Race(text),
        "InternalServiceException"
        | "InternalFailure"
        | "OperationTimeoutException"
        | "ResourceNotReadyException"
        | "ServiceUnavailable"
        | "ServiceUnavailableException"
        | "ThrottlingException"
        | "Throttling"
        | "" => Fault::Passing(text),
        _ => Fault::Refused(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_say_what_to_do() {
        let of = |code: &str| by_code(code, "m");
        for code in ["ConcurrentModificationException", "AlreadyExistsException", "EntityNotFoundException"] {
            assert_eq!(of(code), Fault::Race(format!("{code}: m")));
        }
        for code in ["ThrottlingException", "InternalServiceException", "OperationTimeoutException", ""] {
            assert!(matches!(of(code), Fault::Passing(_)), "{code}");
        }
        for code in ["AccessDeniedException", "InvalidInputException", "ResourceNumberLimitExceededException"] {
            assert!(matches!(of(code), Fault::Refused(_)), "{code}");
        }
    }

    #[test]
    fn what_is_sent_is_what_is_found() {
        let column = |name: &str, comment: Option<&str>| Column {
            name: name.into(),
            data_type: "int".into(),
            comment: comment.map(Into::into),
        };
        let parameters = |key: &str| BTreeMap::from([(key.to_string(), "v".to_string())]);
        let table = Table {
            database: "d".into(),
            name: "t".into(),
            description: Some("All.".into()),
            location: "s3://b/t/".into(),
            columns: vec![column("a", None), column("b", Some("c"))],
            partition_keys: vec![column("p", None)],
            table_type: "EXTERNAL_TABLE".into(),
            parameters: parameters("x"),
            format: Format { input: "i".into(), output: "o".into(), serde: "s".into(), parameters: parameters("path") },
        };
        let sent = input(&table).unwrap();
        let answer = types::Table::builder()
            .name("t")
            .set_description(sent.description)
            .set_storage_descriptor(sent.storage_descriptor)
            .set_partition_keys(sent.partition_keys)
            .set_table_type(sent.table_type)
            .set_parameters(sent.parameters)
            .version_id("3");
        let found = found("d", answer.build().unwrap());
        assert_eq!(found, Found { table, version: Some("3".into()) });
        let empty = types::Table::builder().name("t").description("").build().unwrap();
        assert_eq!(
            super::found("d", empty).table,
            Table { database: "d".into(), name: "t".into(), ..Table::default() }
        );
    }
}
