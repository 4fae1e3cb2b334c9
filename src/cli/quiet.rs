//! Sources that have nothing new, for verbs that change a lake without reading its events.
//!
//! ```text
//!  flash sql, flash refresh ─▶ pass ─▶ poll: nothing after `from`       `flash run` reads; these only carry on from
//!                                  └─▶ read (a, b]: refused             what has landed; one that was never read
//!                                                                       takes no part
//! ```
//!
//! A statement typed at a prompt must not depend on whether the stream can be reached from there, and a lake whose
//! source was replaced by `--source` must not be fed from the one that its definition names.

use std::sync::Arc;

use async_trait::async_trait;

use super::lake::Sources;
use crate::catalog::definitions::{Definitions, Kind};
use crate::epoch::{Positions, SourceRange};
use crate::error::{Error, ErrorKind, Result};
use crate::name::TableName;
use crate::source::{Slice, SliceLimits, Source};
use crate::storage::Storage;

/// See the module.
#[derive(Debug)]
struct Quiet(TableName);

/// A quiet source for every source of the lake.
///
/// # Errors
/// As `Definitions::load`.
pub async fn sources(storage: &dyn Storage) -> Result<Sources> {
    let definitions = Definitions::load(storage).await?;
    let names = definitions.objects.into_iter().filter(|(_, object)| object.kind == Kind::Source).map(|(name, _)| name);
    Ok(of(names))
}

/// Quiet sources of these names.
pub fn of(names: impl IntoIterator<Item = TableName>) -> Sources {
    names.into_iter().map(|name| (name.clone(), Arc::new(Quiet(name)) as Arc<dyn Source>)).collect()
}

impl Quiet {
    fn refused(&self, what: &str) -> Error {
        Error::new(ErrorKind::Source, format!("{what} {}, which this command does not read", self.0))
            .with_hint("start flash run (or flash demo) on this lake first; it reads the source")
    }
}

#[async_trait]
impl Source for Quiet {
    fn describe(&self) -> String {
        format!("{}, not read", self.0)
    }

    fn is_read(&self) -> bool {
        false
    }

    async fn start(&self) -> Result<Positions> {
        Err(self.refused("nothing has been read yet of"))
    }

    async fn poll(&self, from: Option<&Positions>, _limits: SliceLimits) -> Result<Slice> {
        let to = from.cloned().ok_or_else(|| self.refused("nothing has been read yet of"))?;
        Ok(Slice { to, caught_up: true, ..Slice::default() })
    }

    async fn read(&self, range: &SourceRange) -> Result<Slice> {
        if range.from != range.to {
            return Err(self.refused("an unfinished epoch holds records of"));
        }
        Ok(Slice { to: range.to.clone(), caught_up: true, ..Slice::default() })
    }

    async fn landed(&self, _to: &Positions) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::epoch::Position;

    #[tokio::test]
    async fn nothing_is_given_and_nothing_is_lost() {
        let quiet = Quiet("raw.events".parse().unwrap());
        let at = |bytes| Positions {
            incarnation: None,
            shards: BTreeMap::from([("f".to_string(), Position::Offset { bytes, modified_ms: 1 })]),
        };
        let limits = SliceLimits { payload_bytes_max: 1, records_max: 1 };
        let slice = quiet.poll(Some(&at(5)), limits).await.unwrap();
        assert_eq!((slice.to, slice.records, slice.caught_up), (at(5), 0, true));
        quiet.read(&SourceRange { from: at(5), to: at(5) }).await.unwrap();
        let lost = quiet.read(&SourceRange { from: at(5), to: at(6) }).await.unwrap_err();
        assert_eq!(lost.kind(), ErrorKind::Source);
        assert!(quiet.poll(None, limits).await.is_err() && quiet.start().await.is_err());
    }
}
