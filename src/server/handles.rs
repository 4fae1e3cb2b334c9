//! Things that a client holds by a random handle: results, prepared statements, sessions.
//!
//! ```text
//!   insert(owner, value) ─▶ handle (random, 128 bits)     refused at `entries_max`
//!   with(handle, owner)  ─▶ the value; its idle time starts again
//!   take(handle, owner)  ─▶ the value, gone from here
//!                           someone else's handle, an unknown one and an idle one look the same: NOT_FOUND
//! ```

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tonic::Status;
use uuid::Uuid;

use crate::catalog::Principal;

/// Values of one kind by handle.
pub(crate) struct Handles<T> {
    what: &'static str,
    entries_max: usize,
    idle_max: Duration,
    entries: Mutex<HashMap<Uuid, Entry<T>>>,
}

struct Entry<T> {
    owner: String,
    used: Instant,
    value: T,
}

impl<T> Handles<T> {
    /// `what` names one value in error texts.
    pub(crate) fn new(what: &'static str, entries_max: usize, idle_max: Duration) -> Self {
        Self { what, entries_max, idle_max, entries: Mutex::new(HashMap::new()) }
    }

    /// Keep `value` for `owner`, who may hold so many as their limits say.
    pub(crate) fn insert(&self, owner: &Principal, value: T) -> Result<Uuid, Status> {
        if let Some(own_max) = owner.limits.handles_max {
            let is_own = |entry: &&Entry<T>| entry.owner == owner.subject && entry.used.elapsed() < self.idle_max;
            let held = self.entries.lock().values().filter(is_own).count();
            if held as u64 >= own_max {
                return Err(Status::resource_exhausted(format!(
                    "{} has {held} open {}s already (hint: close or fetch some)",
                    owner.subject, self.what
                )));
            }
        }
        let handle = Uuid::new_v4();
        self.insert_at(handle, &owner.subject, value)?;
        Ok(handle)
    }

    /// Keep `value` for `owner` under this handle, which is as good as random.
    pub(crate) fn insert_at(&self, handle: Uuid, owner: &str, value: T) -> Result<(), Status> {
        let mut entries = self.entries.lock();
        if entries.len() >= self.entries_max {
            self.drop_idle(&mut entries);
        }
        if entries.len() >= self.entries_max {
            return Err(Status::resource_exhausted(format!(
                "there are {} open {}s already (hint: close or fetch some)",
                self.entries_max, self.what
            )));
        }
        entries.insert(handle, Entry { owner: owner.to_string(), used: Instant::now(), value });
        Ok(())
    }

    /// Whose it is, and the value as it is now.
    pub(crate) fn owned(&self, handle: Uuid) -> Option<(String, T)>
    where
        T: Clone,
    {
        let entries = self.entries.lock();
        let entry = entries.get(&handle).filter(|entry| entry.used.elapsed() < self.idle_max)?;
        Some((entry.owner.clone(), entry.value.clone()))
    }

    /// Look at the value, or change it.
    pub(crate) fn with<R>(&self, handle: &[u8], owner: &str, look: impl FnOnce(&mut T) -> R) -> Result<R, Status> {
        let mut entries = self.entries.lock();
        let entry = Uuid::from_slice(handle).ok().and_then(|handle| entries.get_mut(&handle));
        match entry {
            Some(entry) if entry.owner == owner && entry.used.elapsed() < self.idle_max => {
                entry.used = Instant::now();
                Ok(look(&mut entry.value))
            }
            _ => Err(self.unknown()),
        }
    }

    /// The value, which is gone from here then.
    pub(crate) fn take(&self, handle: &[u8], owner: &str) -> Result<T, Status> {
        self.with(handle, owner, |_| ())?;
        let entry = Uuid::from_slice(handle).ok().and_then(|handle| self.entries.lock().remove(&handle));
        entry.map(|entry| entry.value).ok_or_else(|| self.unknown())
    }

    /// Let go of what has been idle for too long.
    pub(crate) fn sweep(&self) {
        self.drop_idle(&mut self.entries.lock());
    }

    fn drop_idle(&self, entries: &mut HashMap<Uuid, Entry<T>>) {
        entries.retain(|_, entry| entry.used.elapsed() < self.idle_max);
    }

    fn unknown(&self) -> Status {
        Status::not_found(format!(
            "no {} under this handle; it was used up, closed, or left alone for more than {} s",
            self.what,
            self.idle_max.as_secs()
        ))
    }
}

/// The bytes of a handle, as they go to the client.
pub(crate) fn bytes(handle: Uuid) -> Bytes {
    Bytes::copy_from_slice(handle.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ann() -> Principal {
        Principal { subject: "ann".into(), ..Principal::local() }
    }

    fn handles(entries_max: usize, idle_max: Duration) -> Handles<u8> {
        Handles::new("result", entries_max, idle_max)
    }

    #[test]
    fn a_value_is_taken_once_and_by_its_owner_only() {
        let handles = handles(2, Duration::from_secs(60));
        let handle = bytes(handles.insert(&ann(), 7).unwrap());
        assert_eq!(handles.take(&handle, "bob").unwrap_err().code(), tonic::Code::NotFound);
        assert_eq!(handles.with(&handle, "ann", |value| *value).unwrap(), 7);
        assert_eq!(handles.take(&handle, "ann").unwrap(), 7);
        assert_eq!(handles.take(&handle, "ann").unwrap_err().code(), tonic::Code::NotFound);
        assert_eq!(handles.take(b"short", "ann").unwrap_err().code(), tonic::Code::NotFound);
    }

    #[test]
    fn the_limit_holds_and_idle_values_make_room() {
        let full = handles(1, Duration::from_secs(60));
        full.insert(&ann(), 1).unwrap();
        assert_eq!(full.insert(&ann(), 2).unwrap_err().code(), tonic::Code::ResourceExhausted);

        let idle = handles(1, Duration::ZERO);
        let first = bytes(idle.insert(&ann(), 1).unwrap());
        assert_eq!(idle.take(&first, "ann").unwrap_err().code(), tonic::Code::NotFound);
        idle.insert(&ann(), 2).unwrap();
    }

    #[test]
    fn a_user_holds_as_many_as_their_limits_say() {
        let handles = handles(10, Duration::from_secs(60));
        let limits = crate::parser::RoleLimits { handles_max: Some(1), ..Default::default() };
        let few = Principal { subject: "few".into(), limits, ..Principal::local() };
        let first = bytes(handles.insert(&few, 1).unwrap());
        assert_eq!(handles.insert(&few, 2).unwrap_err().code(), tonic::Code::ResourceExhausted);
        handles.insert(&ann(), 3).unwrap();
        handles.take(&first, "few").unwrap();
        handles.insert(&few, 2).unwrap();
    }
}
