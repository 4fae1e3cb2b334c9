//! Catalogs: one in memory, which can be away or interrupted, and ministack's.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use flashcommerce::glue::{Aws, Catalog, Database, Fault, Found, Table};
use futures::future::BoxFuture;
use parking_lot::Mutex;

/// A catalog, and the beginning of the names of databases in it that nobody else has.
pub(super) struct Place {
    pub(super) catalog: Arc<dyn Catalog>,
    pub(super) prefix: String,
}

/// The catalogs that there are.
pub(super) async fn places(test: &str) -> Vec<Place> {
    let memory = Place { catalog: Arc::new(Memory::default()), prefix: "fc_".into() };
    std::iter::once(memory).chain(ministack(test).await).collect()
}

/// `None`, and a word about it, where there is none.
#[allow(clippy::disallowed_methods, reason = "which servers there are is the test environment's business")]
pub(super) async fn ministack(test: &str) -> Option<Place> {
    let Ok(endpoint) = std::env::var("FLASH_S3") else {
        println!("skipped: {test} on ministack needs FLASH_S3");
        return None;
    };
    let prefix = format!("{test}_{}_", uuid::Uuid::new_v4().simple());
    Some(Place { catalog: Arc::new(Aws::open(Some(&endpoint)).await.unwrap()), prefix })
}

type Tables = BTreeMap<String, (Table, u64)>;

/// Glue, as far as it matters.
#[derive(Debug, Default)]
pub(super) struct Memory {
    databases: Mutex<BTreeMap<String, Tables>>,
    pub(super) away: AtomicBool,
    pub(super) calls: AtomicUsize,
}

fn race<T>(what: &str) -> Result<T, Fault> {
    Err(Fault::Race(what.into()))
}

impl Memory {
    async fn called(&self) -> Result<(), Fault> {
        self.calls.fetch_add(1, Ordering::AcqRel);
        // Others get their turn between any two calls.
        tokio::task::yield_now().await;
        match self.away.load(Ordering::Acquire) {
            true => Err(Fault::Passing("connection refused".into())),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl Catalog for Memory {
    async fn tables(&self, database: &str) -> Result<Option<Vec<Found>>, Fault> {
        self.called().await?;
        let found =
            |(table, version): &(Table, u64)| Found { table: table.clone(), version: Some(version.to_string()) };
        Ok(self.databases.lock().get(database).map(|tables| tables.values().map(found).collect()))
    }

    async fn create_database(&self, database: &Database) -> Result<(), Fault> {
        self.called().await?;
        match self.databases.lock().insert(database.name.clone(), Tables::new()) {
            None => Ok(()),
            Some(_) => race("it is there"),
        }
    }

    async fn create_table(&self, table: &Table) -> Result<(), Fault> {
        self.called().await?;
        let mut databases = self.databases.lock();
        let Some(tables) = databases.get_mut(&table.database) else { return race("no database") };
        if tables.contains_key(&table.name) {
            return race("it is there");
        }
        tables.insert(table.name.clone(), (table.clone(), 1));
        Ok(())
    }

    async fn update_table(&self, table: &Table, version: Option<&str>) -> Result<(), Fault> {
        self.called().await?;
        let mut databases = self.databases.lock();
        match databases.get_mut(&table.database).and_then(|tables| tables.get_mut(&table.name)) {
            None => race("it is not there"),
            Some((_, at)) if version.is_some_and(|version| version != at.to_string()) => race("another version"),
            Some((there, at)) => {
                (*there, *at) = (table.clone(), *at + 1);
                Ok(())
            }
        }
    }

    async fn delete_table(&self, database: &str, name: &str) -> Result<(), Fault> {
        self.called().await?;
        match self.databases.lock().get_mut(database).and_then(|tables| tables.remove(name)) {
            Some(_) => Ok(()),
            None => race("it is not there"),
        }
    }
}

/// When something happens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Moment {
    /// Before the tables of the schema gold are read.
    Read,
    /// Before a table is written.
    Write,
}

/// A catalog with which something happens meanwhile, once.
pub(super) struct Interrupted {
    pub(super) catalog: Arc<dyn Catalog>,
    pub(super) at: Moment,
    pub(super) meanwhile: Mutex<Option<BoxFuture<'static, ()>>>,
}

impl fmt::Debug for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Interrupted")
    }
}

impl Interrupted {
    async fn interrupt(&self, moment: Moment) {
        let meanwhile = if self.at == moment { self.meanwhile.lock().take() } else { None };
        if let Some(meanwhile) = meanwhile {
            meanwhile.await;
        }
    }
}

#[async_trait]
impl Catalog for Interrupted {
    async fn tables(&self, database: &str) -> Result<Option<Vec<Found>>, Fault> {
        if database.ends_with("gold") {
            self.interrupt(Moment::Read).await;
        }
        self.catalog.tables(database).await
    }

    async fn create_database(&self, database: &Database) -> Result<(), Fault> {
        self.catalog.create_database(database).await
    }

    async fn create_table(&self, table: &Table) -> Result<(), Fault> {
        self.interrupt(Moment::Write).await;
        self.catalog.create_table(table).await
    }

    async fn update_table(&self, table: &Table, version: Option<&str>) -> Result<(), Fault> {
        self.interrupt(Moment::Write).await;
        self.catalog.update_table(table, version).await
    }

    async fn delete_table(&self, database: &str, name: &str) -> Result<(), Fault> {
        self.interrupt(Moment::Write).await;
        self.catalog.delete_table(database, name).await
    }
}
