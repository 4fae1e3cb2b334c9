//! What is there to query: catalogs, schemas and tables, as the metadata commands of Flight SQL ask for them.
//!
//! ```text
//!   GetTables { catalog?, schema LIKE?, table LIKE?, types, include_schema }
//!     names of the session's catalog ── LIKE with "\" ──▶ kind of each (engine) ── label for these types ──▶ rows
//! ```
//!
//! A catalog that is left out means all, an empty one means "objects without a catalog", of which there are none.
//! `information_schema` and `system` are listed only to those who name them.

use std::sync::Arc;

use arrow::array::{BooleanArray, Scalar, StringArray};
use arrow::compute::kernels::comparison::like;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use arrow_flight::sql::{CommandGetCatalogs, CommandGetDbSchemas, CommandGetTableTypes, CommandGetTables};
use datafusion::catalog::SchemaProvider;
use datafusion::common::TableReference;
use datafusion::datasource::TableType;
use datafusion::prelude::SessionContext;
use tonic::Status;

use super::wire::Wire;
use super::{Backend, status};
use crate::catalog::session::CATALOG;
use crate::engine::ObjectKind;
use crate::name::TableName;

const HIDDEN_SCHEMAS: [&str; 2] = ["information_schema", "system"];

/// Answer GetCatalogs.
pub(crate) fn catalogs() -> Result<RecordBatch, Status> {
    let mut builder = CommandGetCatalogs {}.into_builder();
    builder.append(CATALOG);
    builder.build().map_err(Status::from)
}

/// Answer GetDbSchemas.
pub(crate) fn schemas(session: &SessionContext, mut command: CommandGetDbSchemas) -> Result<RecordBatch, Status> {
    let names = listed_schemas(session, command.catalog.take().as_deref(), command.db_schema_filter_pattern.take())?;
    let mut builder = command.into_builder();
    for (name, _) in names {
        builder.append(CATALOG, name);
    }
    builder.build().map_err(Status::from)
}

/// Answer GetTableTypes.
pub(crate) fn table_types() -> Result<RecordBatch, Status> {
    let mut builder = CommandGetTableTypes {}.into_builder();
    for kind in [Kind::Base, Kind::View, Kind::MaterializedView, Kind::System] {
        builder.append(kind.name());
    }
    builder.build().map_err(Status::from)
}

/// Answer GetTables. A table that cannot be opened is left out, and logged, rather than hiding all the others.
pub(crate) async fn tables(
    backend: &dyn Backend,
    session: &SessionContext,
    mut command: CommandGetTables,
) -> Result<RecordBatch, Status> {
    let catalog = command.catalog.take();
    let table_pattern = command.table_name_filter_pattern.take();
    let wanted = std::mem::take(&mut command.table_types);
    let include_schema = command.include_schema;
    let schemas = listed_schemas(session, catalog.as_deref(), command.db_schema_filter_pattern.take())?;
    let mut builder = command.into_builder();
    for (schema_name, schema) in schemas {
        for name in matching(schema.table_names(), table_pattern.as_deref())? {
            let Some(label) =
                kind_of(backend, &schema_name, &*schema, &name).await.and_then(|kind| label(kind, &wanted))
            else {
                continue;
            };
            let columns = if include_schema {
                match schema.table(&name).await {
                    Ok(Some(table)) => Wire::new(&table.schema()).schema,
                    Ok(None) => continue,
                    Err(error) => {
                        tracing::warn!(schema = schema_name, table = name, %error, "a table cannot be listed");
                        continue;
                    }
                }
            } else {
                Arc::new(Schema::empty())
            };
            builder.append(CATALOG, &schema_name, &name, label, &columns).map_err(Status::from)?;
        }
    }
    builder.build().map_err(Status::from)
}

/// All schemas of the catalog, the hidden ones too.
pub(crate) fn schema_names(session: &SessionContext) -> Vec<String> {
    session.catalog(CATALOG).map(|catalog| catalog.schema_names()).unwrap_or_default()
}

type NamedSchema = (String, Arc<dyn SchemaProvider>);

fn listed_schemas(
    session: &SessionContext,
    catalog: Option<&str>,
    pattern: Option<String>,
) -> Result<Vec<NamedSchema>, Status> {
    let named = pattern.as_deref().map(|pattern| pattern.replace('\\', ""));
    if matching(vec![CATALOG.to_string()], catalog)?.is_empty() {
        return Ok(vec![]);
    }
    let mut names = schema_names(session);
    names.extend(HIDDEN_SCHEMAS.map(String::from)); // information_schema is not in its own catalog
    names.sort_unstable();
    names.dedup();
    let shown = |name: &String| !HIDDEN_SCHEMAS.contains(&name.as_str()) || named.as_ref() == Some(name);
    let state = session.state_ref();
    let with_provider = |name: String| {
        let schema = state.read().schema_for_ref(TableReference::full(CATALOG, name.as_str(), "")).ok();
        schema.map(|schema| (name, schema))
    };
    Ok(matching(names, pattern.as_deref())?.into_iter().filter(shown).filter_map(with_provider).collect())
}

/// The names that are LIKE the pattern, sorted; all of them without one.
fn matching(mut names: Vec<String>, pattern: Option<&str>) -> Result<Vec<String>, Status> {
    names.sort_unstable();
    let Some(pattern) = pattern else { return Ok(names) };
    let array = StringArray::from_iter_values(&names);
    let keep: BooleanArray = like(&array, &Scalar::new(StringArray::from(vec![pattern]))).map_err(status::from)?;
    Ok(names.into_iter().zip(keep.values()).filter_map(|(name, keep)| keep.then_some(name)).collect())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Base,
    View,
    MaterializedView,
    System,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Base => "BASE TABLE",
            Self::View => "VIEW",
            Self::MaterializedView => "MATERIALIZED VIEW",
            Self::System => "SYSTEM TABLE",
        }
    }
}

async fn kind_of(backend: &dyn Backend, schema_name: &str, schema: &dyn SchemaProvider, name: &str) -> Option<Kind> {
    if HIDDEN_SCHEMAS.contains(&schema_name) {
        return Some(Kind::System);
    }
    match backend.kind(&TableName::new(schema_name, name)) {
        Some(ObjectKind::Source) => None,
        Some(ObjectKind::System) => Some(Kind::System),
        Some(ObjectKind::MaterializedView) => Some(Kind::MaterializedView),
        Some(ObjectKind::Table) => Some(Kind::Base),
        None => match schema.table_type(name).await {
            Ok(Some(TableType::View)) => Some(Kind::View),
            _ => Some(Kind::Base),
        },
    }
}

/// What to call a table in a listing of the `wanted` types, or `None` to leave it out.
///
/// Many tools ask for a fixed list and show nothing else. So a materialized view answers to its own type, else to
/// VIEW, else to the names for tables; and everything is listed under the name that was asked for.
fn label(kind: Kind, wanted: &[String]) -> Option<String> {
    if wanted.is_empty() {
        return Some(kind.name().to_string());
    }
    let asked =
        |names: &[&str]| wanted.iter().find(|wanted| names.contains(&wanted.trim().to_uppercase().as_str())).cloned();
    let table = || asked(&["TABLE", "BASE TABLE"]);
    match kind {
        Kind::Base => table(),
        Kind::View => asked(&["VIEW"]),
        Kind::MaterializedView => asked(&["MATERIALIZED VIEW"]).or_else(|| asked(&["VIEW"])).or_else(table),
        Kind::System => asked(&["SYSTEM TABLE", "SYSTEM VIEW"]),
    }
}

/// The answer to GetPrimaryKeys: none are declared.
pub(crate) fn primary_keys() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("catalog_name", DataType::Utf8, true),
        Field::new("db_schema_name", DataType::Utf8, true),
        Field::new("table_name", DataType::Utf8, false),
        Field::new("column_name", DataType::Utf8, false),
        Field::new("key_name", DataType::Utf8, true),
        Field::new("key_sequence", DataType::Int32, false),
    ]))
}

/// The answer to GetExportedKeys, GetImportedKeys and GetCrossReference: there are none.
pub(crate) fn foreign_keys() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("pk_catalog_name", DataType::Utf8, true),
        Field::new("pk_db_schema_name", DataType::Utf8, true),
        Field::new("pk_table_name", DataType::Utf8, false),
        Field::new("pk_column_name", DataType::Utf8, false),
        Field::new("fk_catalog_name", DataType::Utf8, true),
        Field::new("fk_db_schema_name", DataType::Utf8, true),
        Field::new("fk_table_name", DataType::Utf8, false),
        Field::new("fk_column_name", DataType::Utf8, false),
        Field::new("key_sequence", DataType::Int32, false),
        Field::new("fk_key_name", DataType::Utf8, true),
        Field::new("pk_key_name", DataType::Utf8, true),
        Field::new("update_rule", DataType::UInt8, false),
        Field::new("delete_rule", DataType::UInt8, false),
    ]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_listed_under_the_name_that_was_asked_for() {
        let label = |kind, wanted: &[&str]| label(kind, &wanted.iter().map(|w| w.to_string()).collect::<Vec<_>>());
        let some = |text: &str| Some(text.to_string());
        assert_eq!(label(Kind::MaterializedView, &[]), some("MATERIALIZED VIEW"));
        assert_eq!(label(Kind::MaterializedView, &["BASE TABLE", "table"]), some("BASE TABLE"));
        assert_eq!(label(Kind::MaterializedView, &["TABLE", "VIEW"]), some("VIEW"));
        assert_eq!(label(Kind::MaterializedView, &["VIEW", "materialized view"]), some("materialized view"));
        assert_eq!(label(Kind::Base, &["table"]), some("table"));
        assert_eq!(label(Kind::Base, &["VIEW"]), None);
        assert_eq!(label(Kind::System, &["TABLE", "VIEW"]), None);
        assert_eq!(label(Kind::System, &[]), some("SYSTEM TABLE"));
    }

    #[test]
    fn patterns_are_like_patterns_with_a_backslash() {
        let names = || ["seller_daily", "sellerXdaily", "kpis"].map(String::from).to_vec();
        assert_eq!(matching(names(), Some("seller\\_daily")).unwrap(), ["seller_daily"]);
        assert_eq!(matching(names(), Some("seller_daily")).unwrap(), ["sellerXdaily", "seller_daily"]);
        assert_eq!(matching(names(), Some("%p%")).unwrap(), ["kpis"]);
        assert_eq!(matching(names(), None).unwrap().len(), 3);
        assert_eq!(matching(names(), Some("")).unwrap(), [""; 0]);
    }
}
