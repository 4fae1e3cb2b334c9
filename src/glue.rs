//! Glue: the lake's tables in the AWS Glue Data Catalog, where Athena and QuickSight look for them.
//!
//! ```text
//!  definitions + newest published record ─▶ wanted ─┐
//!                                                   ├─▶ decide (pure) ─▶ steps ─▶ carried out ─▶ look again
//!  GetTables of our databases ─▶ found, by version ─┘                                    ▲            │
//!            read first ────────────────────────────────────────────────────────────────┘  until nothing is to do
//! ```
//!
//! `flash run --glue flashcommerce_` registers `gold.kpis` as `flashcommerce_gold.kpis`, at the folder that is *published*: a
//! changed view moves when its epoch is. A table of ours says so (the parameter `flashcommerce.lake`); any other is left alone
//! and reported.
//!
//! No two writers need to know of each other. Glue is read before the lake, and an update holds only for the version of the
//! table that was read: whoever wrote that version knew a record that is at most as new as ours, so nobody puts an older
//! place over a newer one. What has no version to compare (create and delete) is looked at once more after it was done.

mod client;
mod columns;
mod ddl;
mod decide;
mod reconcile;
mod registrar;
mod wanted;

use std::collections::BTreeMap;

use object_store::path::Path;
use url::Url;

use crate::error::{Error, ErrorKind, Result};
use crate::name::TableName;

pub use client::{Aws, Catalog, Fault, Found};
pub use ddl::ddl;
pub use decide::{Aspect, Decision, Step, decide};
pub use reconcile::{Failed, Reconciler, Report};
pub use registrar::{Registrar, RegistrarOptions, Status};
pub use wanted::{Refused, Wanted};

/// The parameter of a table that says whose it is: the root of its lake.
pub const OWNER: &str = "flashcommerce.lake";

/// Characters of a name in Glue.
const NAME_CHARACTERS_MAX: usize = 255;

/// A lake in a bucket, and what its databases are called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lake {
    /// `s3://bucket/prefix`, without a slash at the end.
    root: String,
    /// `flashcommerce_`: the schema gold is the database flashcommerce_gold.
    prefix: String,
}

impl Lake {
    /// The lake at `root`, whose databases begin with `prefix`.
    ///
    /// # Errors
    /// `Config` for a lake that is not in a bucket, or a prefix that no database can have.
    pub fn new(root: &str, prefix: &str) -> Result<Self> {
        let wrong = |message: String| Error::new(ErrorKind::Config, message);
        if name(prefix) != Ok(prefix.to_string()) {
            return Err(wrong(format!("\"{prefix}\" cannot begin the name of a Glue database")).with_hint(
                "lowercase letters, digits and _: --glue flashcommerce_ makes flashcommerce_gold of the schema gold",
            ));
        }
        let url = Url::parse(root).ok().filter(|url| url.scheme() == "s3");
        let (Some(url), Some(bucket)) = (&url, url.as_ref().and_then(Url::host_str)) else {
            return Err(wrong(format!("the lake {root} cannot be registered in Glue"))
                .with_detail("Athena reads tables in Amazon S3 only")
                .with_hint("use a lake at s3://bucket/prefix, or leave --glue (FLASH_GLUE) out"));
        };
        let folder = Path::from_url_path(url.path());
        let folder = folder.map_err(|error| wrong(format!("{root} is no place in a bucket: {error}")))?;
        let root = format!("s3://{bucket}/{folder}").trim_end_matches('/').to_string();
        Ok(Self { root, prefix: prefix.to_string() })
    }

    /// The place of a folder, as Athena wants it: with a slash at the end.
    fn place(&self, folder: &str) -> String {
        format!("{}/{folder}/", self.root)
    }

    /// What a table of the lake is called in Glue.
    pub fn full_name(&self, name: &TableName) -> String {
        format!("{}{}", self.prefix, name).to_lowercase()
    }

    /// What Glue holds of a schema.
    fn database(&self, schema: &str) -> Database {
        Database {
            name: format!("{}{schema}", self.prefix),
            description: format!("The schema {schema} of the lake {}, as Delta tables", self.root),
            location: self.place(schema),
            parameters: BTreeMap::from([(OWNER.into(), self.root.clone())]),
        }
    }
}

/// A name as Glue and Athena have it: in lowercase.
fn name(text: &str) -> Result<String, String> {
    let lower = text.to_lowercase();
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    match lower.chars().all(plain) && !lower.is_empty() && lower.len() <= NAME_CHARACTERS_MAX {
        true => Ok(lower),
        false => Err(format!("\"{text}\" is no name for Athena, which takes letters, digits and _")),
    }
}

/// A database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    /// Its name.
    pub name: String,
    /// What it is.
    pub description: String,
    /// The folder of the schema.
    pub location: String,
    /// Ours.
    pub parameters: BTreeMap<String, String>,
}

/// A table, as it should be or as Glue has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    /// Its database.
    pub database: String,
    /// Its name.
    pub name: String,
    /// The view's comment.
    pub description: Option<String>,
    /// Its folder: `s3://bucket/prefix/gold/kpis/`.
    pub location: String,
    /// All of its columns, those that partition it included: Athena takes these from the Delta log.
    pub columns: Vec<Column>,
    /// What Glue calls so are Hive's, of which a Delta table has none.
    pub partition_keys: Vec<Column>,
    /// `EXTERNAL_TABLE`.
    pub table_type: String,
    /// What tells readers that it is Delta, and that it is ours; those of others stay.
    pub parameters: BTreeMap<String, String>,
    /// How the files are read by who does not know Delta: not at all.
    pub format: Format,
}

/// The classes and parameters of a storage descriptor.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Format {
    /// Class that reads.
    pub input: String,
    /// Class that writes.
    pub output: String,
    /// Class that decodes.
    pub serde: String,
    /// Its parameters.
    pub parameters: BTreeMap<String, String>,
}

/// A column.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Column {
    /// Its name, in lowercase.
    pub name: String,
    /// Its type as Hive writes it: `decimal(12,2)`, `array<string>`.
    pub data_type: String,
    /// What the type does not say.
    pub comment: Option<String>,
}

impl Table {
    /// `database.table`.
    pub fn full_name(&self) -> String {
        format!("{}.{}", self.database, self.name)
    }

    /// The lake that it says it belongs to.
    pub fn owner(&self) -> Option<&str> {
        self.parameters.get(OWNER).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lake_is_in_a_bucket() {
        let lake = Lake::new("s3://shop/a%20lake/", "fc_").unwrap();
        assert_eq!(
            (lake.root.as_str(), lake.place("gold/kpis")),
            ("s3://shop/a lake", "s3://shop/a lake/gold/kpis/".into())
        );
        assert_eq!(Lake::new("s3://shop", "fc_").unwrap().place("gold"), "s3://shop/gold/");
        let database = lake.database("gold");
        assert_eq!((database.name.as_str(), database.location.as_str()), ("fc_gold", "s3://shop/a lake/gold/"));
        for root in ["/data/lake", "memory:///", "file:///data", "lake"] {
            let error = Lake::new(root, "fc_").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains("Athena reads tables in Amazon S3 only"), "{error}");
        }
    }

    #[test]
    fn names_are_those_that_athena_takes() {
        assert_eq!(name("Orders_2"), Ok("orders_2".into()));
        for text in ["", "a b", "a-b", "a.b", "é", "ı", &"a".repeat(256)] {
            assert!(name(text).is_err(), "{text}");
        }
        for prefix in ["Shop", "a-", ""] {
            assert_eq!(Lake::new("s3://b/p", prefix).unwrap_err().kind(), ErrorKind::Config, "{prefix}");
        }
    }
}
