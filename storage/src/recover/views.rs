//! The segments of one log, side by side, for reading.

use crate::{LogOffset, MessageView, Record, RecoveredMore, SegmentId, decode};

/// One segment's bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a> {
    pub(crate) id: SegmentId,
    pub(crate) bytes: &'a [u8],
}

/// All segments of a log, lowest first.
#[derive(Debug)]
pub(crate) struct Views<'a> {
    views: Vec<View<'a>>,
}

impl<'a> Views<'a> {
    pub(crate) fn new(views: Vec<View<'a>>) -> Self {
        assert!(views.is_sorted_by(|a, b| a.id < b.id), "segments come lowest first, each once");
        Self { views }
    }

    /// Lowest first.
    pub(crate) fn all(&self) -> &[View<'a>] {
        &self.views
    }

    /// Which of them has this id.
    #[inline]
    pub(crate) fn index(&self, id: SegmentId) -> Option<usize> {
        // Most often there are no holes.
        let guess = id.0.checked_sub(self.views.first()?.id.0)? as usize;
        if self.views.get(guess).is_some_and(|view| view.id == id) {
            return Some(guess);
        }
        self.views.binary_search_by_key(&id, |view| view.id).ok()
    }

    /// The record at a place where one was read before.
    pub(crate) fn record(&self, at: LogOffset) -> Record<'a> {
        let index = self.index(at.segment()).expect("its segment was read before");
        let bytes = &self.views[index].bytes[at.place()..];
        decode(bytes).expect("it was read before").0
    }

    /// The message at a place where one was read before.
    pub(crate) fn message(&self, at: LogOffset) -> MessageView<'a> {
        match self.record(at) {
            Record::Message(view) => view,
            other => unreachable!("no message lies at {at:?} but {other:?}"),
        }
    }

    /// Subscription Identifiers and shared group of the queue entry at a place where one was read before.
    pub(crate) fn queued_more(&self, at: LogOffset) -> RecoveredMore {
        match self.record(at) {
            Record::Queued { queued, .. } => (queued.ids.iter().collect(), queued.group.map(Into::into)),
            other => unreachable!("nothing is queued at {at:?} but there is {other:?}"),
        }
    }
}
