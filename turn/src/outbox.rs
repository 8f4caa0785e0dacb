//! What waits to be written to one connection.

use bytes::Bytes;

/// A large payload that is sent from where it lies instead of being copied.
#[derive(Clone, Debug)]
pub struct SharedPiece {
    /// Where it stands: after this many of the outbox's copied bytes.
    pub after: usize,
    /// Its bytes.
    pub bytes: Bytes,
}

/// Bytes for one connection, in order: copied ones, with shared pieces in between.
#[derive(Debug, Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    shared: Vec<SharedPiece>,
    shared_bytes: usize,
    in_flight_bytes: usize,
    pub(crate) listed: bool,
}

impl Outbox {
    /// Appends a copy.
    #[inline]
    pub fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The copied bytes, to encode into at their end. Only appending is allowed.
    #[inline]
    pub fn tail(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Appends by reference; worth it from a few KiB up.
    pub fn put_shared(&mut self, bytes: Bytes) {
        self.shared_bytes += bytes.len();
        self.shared.push(SharedPiece { after: self.bytes.len(), bytes });
    }

    /// Bytes that the peer has not taken yet: waiting here and being sent.
    #[inline]
    pub fn backlog_bytes(&self) -> usize {
        self.bytes.len() + self.shared_bytes + self.in_flight_bytes
    }

    /// Bytes that wait here, not yet with the driver.
    pub fn waiting_bytes(&self) -> usize {
        self.bytes.len() + self.shared_bytes
    }

    /// For drivers: the copied bytes and shared pieces that wait, taken out; the given buffers, which
    /// must be empty, take their place. What was taken counts as in flight until
    /// [`Outbox::sent`] says otherwise.
    pub fn take(&mut self, bytes: Vec<u8>, shared: Vec<SharedPiece>) -> (Vec<u8>, Vec<SharedPiece>) {
        debug_assert!(bytes.is_empty() && shared.is_empty(), "an outbox is refilled with empty buffers");
        self.in_flight_bytes += self.waiting_bytes();
        self.shared_bytes = 0;
        (std::mem::replace(&mut self.bytes, bytes), std::mem::replace(&mut self.shared, shared))
    }

    /// For drivers: the peer took `count` of the bytes in flight.
    ///
    /// # Panics
    /// When more bytes are reported than are in flight.
    pub fn sent(&mut self, count: usize) {
        assert!(count <= self.in_flight_bytes, "only bytes in flight can have been sent");
        self.in_flight_bytes -= count;
    }

    /// For drivers: forgets everything, for the next user of the slot.
    pub fn clear(&mut self) {
        let listed = self.listed;
        *self = Self { listed, ..Self::default() };
    }

    /// Whether it owns a buffer already.
    pub(crate) fn has_buffer(&self) -> bool {
        self.bytes.capacity() > 0
    }

    pub(crate) fn give_buffer(&mut self, buffer: Vec<u8>) {
        self.bytes = buffer;
    }
}
