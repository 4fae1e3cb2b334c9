//! The metadata commands: what tools ask before they show anything.

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use arrow_flight::IpcMessage;
use arrow_flight::sql::{
    CommandGetCrossReference, CommandGetDbSchemas, CommandGetExportedKeys, CommandGetImportedKeys,
    CommandGetPrimaryKeys, CommandGetTables, CommandGetXdbcTypeInfo, SqlInfo,
};

use super::{Client, Server, column, text};

async fn tables(client: &mut Client, command: CommandGetTables) -> Vec<RecordBatch> {
    let info = client.0.get_tables(command).await.unwrap();
    client.fetch(info).await.unwrap()
}

fn any() -> CommandGetTables {
    CommandGetTables::default()
}

fn types(types: &[&str]) -> CommandGetTables {
    CommandGetTables { table_types: types.iter().map(|name| name.to_string()).collect(), ..any() }
}

#[tokio::test]
async fn catalogs_and_schemas_are_listed() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let info = client.0.get_catalogs().await.unwrap();
    assert_eq!(column(&client.fetch(info).await.unwrap(), "catalog_name"), ["flash"]);

    let schemas = async |client: &mut Client, catalog: Option<&str>, pattern: Option<&str>| {
        let command = CommandGetDbSchemas {
            catalog: catalog.map(String::from),
            db_schema_filter_pattern: pattern.map(String::from),
        };
        let info = client.0.get_db_schemas(command).await.unwrap();
        column(&client.fetch(info).await.unwrap(), "db_schema_name")
    };
    let all = ["gold", "public", "raw", "silver"];
    assert_eq!(schemas(&mut client, None, None).await, all);
    assert_eq!(schemas(&mut client, Some("flash"), Some("%")).await, all);
    assert_eq!(schemas(&mut client, Some("%"), Some("g%")).await, ["gold"]);
    assert_eq!(schemas(&mut client, None, Some("information\\_schema")).await, ["information_schema"]);
    assert_eq!(schemas(&mut client, None, Some("system")).await, ["system"]);
    assert!(schemas(&mut client, Some(""), None).await.is_empty(), "nothing is without a catalog");
    assert!(schemas(&mut client, Some("other"), None).await.is_empty());
}

#[tokio::test]
async fn tables_are_found_by_every_filter() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let all = tables(&mut client, any()).await;
    let expected = "\
+--------------+----------------+--------------+-------------------+
| catalog_name | db_schema_name | table_name   | table_type        |
+--------------+----------------+--------------+-------------------+
| flash        | gold           | endless      | MATERIALIZED VIEW |
| flash        | gold           | kpis         | MATERIALIZED VIEW |
| flash        | silver         | events       | BASE TABLE        |
| flash        | silver         | sellerXdaily | BASE TABLE        |
| flash        | silver         | seller_daily | BASE TABLE        |
+--------------+----------------+--------------+-------------------+";
    assert_eq!(text(&all), expected, "the source raw.events and the system tables are not for everyone");

    let grafana = tables(&mut client, types(&["BASE TABLE", "table"])).await;
    assert_eq!(column(&grafana, "table_type"), ["BASE TABLE"; 5]);
    let odbc = tables(&mut client, types(&["TABLE", "VIEW"])).await;
    assert_eq!(column(&odbc, "table_type"), ["VIEW", "VIEW", "TABLE", "TABLE", "TABLE"]);
    assert_eq!(column(&tables(&mut client, types(&["MATERIALIZED VIEW"])).await, "table_name").len(), 2);

    let named = |pattern: &str| CommandGetTables { table_name_filter_pattern: Some(pattern.into()), ..any() };
    let found = tables(&mut client, named("seller\\_daily")).await;
    assert_eq!(column(&found, "table_name"), ["seller_daily"]);
    assert_eq!(column(&tables(&mut client, named("seller_daily")).await, "table_name").len(), 2);

    let system = CommandGetTables { db_schema_filter_pattern: Some("system".into()), ..any() };
    assert_eq!(column(&tables(&mut client, system).await, "table_type"), ["SYSTEM TABLE"]);
    let elsewhere = CommandGetTables { catalog: Some("other".into()), ..any() };
    assert!(column(&tables(&mut client, elsewhere).await, "table_name").is_empty());
}

#[tokio::test]
async fn a_tables_columns_are_those_of_a_query_over_it() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let command = CommandGetTables { table_name_filter_pattern: Some("kpis".into()), include_schema: true, ..any() };
    let listed = tables(&mut client, command).await;
    let bytes = listed[0].column_by_name("table_schema").unwrap().as_binary::<i32>().value(0).to_vec();
    let columns = Schema::try_from(IpcMessage(bytes.into())).unwrap();
    assert_eq!(columns.field(0).metadata()["ARROW:FLIGHT:SQL:TYPE_NAME"], "VARCHAR");
    assert_eq!(columns.field(2).metadata()["ARROW:FLIGHT:SQL:PRECISION"], "12");
    let queried = client.query("SELECT * FROM gold.kpis").await.unwrap();
    assert_eq!(&columns, queried[0].schema().as_ref());
}

#[tokio::test]
async fn table_types_and_keys_have_the_specified_schemas() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let info = client.0.get_table_types().await.unwrap();
    let expected = ["BASE TABLE", "MATERIALIZED VIEW", "SYSTEM TABLE", "VIEW"];
    assert_eq!(column(&client.fetch(info).await.unwrap(), "table_type"), expected);

    let info = client.0.get_primary_keys(CommandGetPrimaryKeys { table: "kpis".into(), ..Default::default() }).await;
    let info = info.unwrap();
    let schema = info.clone().try_decode_schema().unwrap();
    assert_eq!(schema.field(5), &Field::new("key_sequence", DataType::Int32, false));
    assert_eq!(column(&client.fetch(info).await.unwrap(), "table_name").len(), 0);

    let exported = CommandGetExportedKeys { table: "kpis".into(), ..Default::default() };
    let imported = CommandGetImportedKeys { table: "kpis".into(), ..Default::default() };
    let cross = CommandGetCrossReference { pk_table: "a".into(), fk_table: "b".into(), ..Default::default() };
    for info in [
        client.0.get_exported_keys(exported).await.unwrap(),
        client.0.get_imported_keys(imported).await.unwrap(),
        client.0.get_cross_reference(cross).await.unwrap(),
    ] {
        assert_eq!(info.clone().try_decode_schema().unwrap().fields().len(), 13);
        client.fetch(info).await.unwrap();
    }
}

#[tokio::test]
async fn capabilities_are_told_in_full_or_as_asked() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let info = client.0.get_sql_info(vec![]).await.unwrap();
    let all = client.fetch(info).await.unwrap();
    let numbers = column(&all, "info_name");
    assert_eq!(numbers.len(), 12 + 2 + 77);
    let info = client.0.get_sql_info(vec![SqlInfo::FlightSqlServerTransaction, SqlInfo::FlightSqlServerReadOnly]).await;
    let some = text(&client.fetch(info.unwrap()).await.unwrap());
    assert!(
        some.contains("| 3         | {bool_value=false}") && some.contains("| 8         | {int32_bitmask=0}"),
        "{some}"
    );
    let info = client.0.get_sql_info(vec![SqlInfo::SqlNumericFunctions]).await.unwrap();
    assert!(text(&client.fetch(info).await.unwrap()).contains("sqrt"));

    let info = client.0.get_xdbc_type_info(CommandGetXdbcTypeInfo { data_type: None }).await.unwrap();
    let names = column(&client.fetch(info).await.unwrap(), "type_name");
    assert!(names.contains(&"VARCHAR".to_string()) && names.contains(&"DECIMAL".to_string()));
}
