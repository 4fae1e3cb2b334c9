//! The same tables as statements for Athena, for who prefers to run them.

use std::fmt::Write;

use super::{Lake, Wanted};

/// `CREATE DATABASE` and `CREATE EXTERNAL TABLE`, in the form that Athena takes for Delta: it reads columns and comments from
/// the log itself, and allows nothing else in the statement. One statement at a time may be given to Athena.
pub fn ddl(lake: &Lake, wanted: &Wanted) -> String {
    let mut text = String::new();
    for (name, schema) in &wanted.schemas {
        let database = lake.database(schema);
        let (comment, place) = (quoted(&database.description), quoted(&database.location));
        // Writing to a String cannot fail.
        let _ = writeln!(text, "CREATE DATABASE IF NOT EXISTS `{name}`\n  COMMENT {comment}\n  LOCATION {place};\n");
    }
    for table in &wanted.tables {
        let (database, name, place) = (&table.database, &table.name, quoted(&table.location));
        let _ = writeln!(
            text,
            "CREATE EXTERNAL TABLE `{database}`.`{name}`\n  LOCATION {place}\n  TBLPROPERTIES ('table_type' = 'DELTA');\n"
        );
    }
    text.truncate(text.trim_end().len());
    text
}

/// A string of Hive's grammar.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::Table;
    use super::*;

    #[test]
    fn statements_are_those_that_athena_takes() {
        let lake = Lake::new("s3://b/o'neil", "fc_").unwrap();
        let location = lake.place("gold/kpis");
        let table = Table { database: "fc_gold".into(), name: "kpis".into(), location, ..Table::default() };
        let schemas = BTreeMap::from([("fc_gold".into(), "gold".into())]);
        let text = ddl(&lake, &Wanted { tables: vec![table], schemas, refused: vec![] });
        let wanted = "CREATE DATABASE IF NOT EXISTS `fc_gold`\n  \
                      COMMENT 'The schema gold of the lake s3://b/o\\'neil, as Delta tables'\n  \
                      LOCATION 's3://b/o\\'neil/gold/';\n\n\
                      CREATE EXTERNAL TABLE `fc_gold`.`kpis`\n  \
                      LOCATION 's3://b/o\\'neil/gold/kpis/'\n  \
                      TBLPROPERTIES ('table_type' = 'DELTA');";
        assert_eq!(text, wanted);
        assert_eq!(ddl(&lake, &Wanted::default()), "");
    }
}
