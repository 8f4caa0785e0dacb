//! One session of a store on disk.

use std::sync::Arc;

use ringmq_storage::{LogError, SessionRecord};

use super::book::NAME_BYTES_MAX;
use super::{Desk, Shared};
use crate::message::Message;
use crate::store::encoding::{FIELD_BYTES_MAX, check_fields, encode_properties, wall_ms};
use crate::store::{Number, Restored, SessionStore, StoreChange, StoreError};

/// What a segment has room for beside its largest message: heads, numbers and padding.
const SEGMENT_SPARE_BYTES: usize = 1024;

/// How often room is made for publications before they are refused.
const ROOM_TRIES_MAX: usize = 32;

#[derive(Debug)]
pub(super) struct FileSession {
    record: SessionRecord,
    name: Box<str>,
    shared: Arc<Shared>,
}

impl FileSession {
    pub(super) fn open(shared: &Arc<Shared>, name: &str) -> Result<Self, StoreError> {
        let desk = shared.desk();
        if name.len() > NAME_BYTES_MAX {
            let detail =
                format!("the session's name is longer than {NAME_BYTES_MAX} bytes: choose a shorter one");
            return Err(StoreError::Failed { store: desk.name(), detail });
        }
        let mut book = desk.lock();
        let record = book.find_or_make(name);
        let session = book.sessions.get_mut(&record).expect("it was found or made");
        if std::mem::replace(&mut session.is_open, true) {
            return Err(StoreError::InUse { store: desk.name(), session: name.to_owned() });
        }
        // From here on its end is told by its being dropped.
        let this = Self { record, name: Box::from(name), shared: Arc::clone(shared) };
        desk.settle(book)?;
        Ok(this)
    }

    fn desk(&self) -> &Desk {
        self.shared.desk()
    }
}

impl Drop for FileSession {
    fn drop(&mut self) {
        if let Some(session) = self.desk().lock().sessions.get_mut(&self.record) {
            (session.is_open, session.resumes) = (false, true);
        }
    }
}

impl SessionStore for FileSession {
    fn restore(&self) -> Result<Restored, StoreError> {
        let desk = self.desk();
        let restored = desk.lock().restored(self.record, wall_ms());
        restored.ok_or_else(|| StoreError::Damaged {
            store: desk.name(),
            session: self.name.to_string(),
            detail: "a message cannot be read".to_owned(),
        })
    }

    fn put(&self, publications: &[(Number, Message)]) -> Result<(), StoreError> {
        let desk = self.desk();
        let bytes_max = desk.options.segment_bytes - SEGMENT_SPARE_BYTES;
        let mut properties = Vec::with_capacity(publications.len());
        for (_, message) in publications {
            check_fields(message).map_err(|bytes| desk.too_large(bytes, FIELD_BYTES_MAX))?;
            let encoded = encode_properties(message);
            let bytes = message.topic.len() + message.payload.len() + encoded.len();
            if bytes > bytes_max {
                return Err(desk.too_large(bytes, bytes_max));
            }
            properties.push(encoded);
        }
        let mut book = desk.lock();
        for _ in 0..ROOM_TRIES_MAX {
            match book.put(self.record, (publications, &properties), wall_ms()) {
                Ok(()) => return desk.settle(book),
                Err(LogError::Full { .. }) => match desk.make_room(book) {
                    Ok(again) => book = again,
                    Err(full) => return Err(full),
                },
            }
        }
        Err(desk.full(&book))
    }

    fn apply(&self, changes: &[StoreChange]) -> Result<(), StoreError> {
        let desk = self.desk();
        let mut book = desk.lock();
        for change in changes {
            book.carry_out(self.record, change);
        }
        desk.settle(book)
    }

    fn remove(&self) -> Result<(), StoreError> {
        let desk = self.desk();
        let mut book = desk.lock();
        if book.sessions.contains_key(&self.record) {
            book.remove(self.record);
        }
        desk.settle(book)
    }
}
