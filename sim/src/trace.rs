//! What happened, as a hash that two runs of one seed share.

/// Collects what happens in a world.
#[derive(Debug)]
pub(crate) struct Trace {
    hash: u64,
    printed: bool,
}

/// One thing that happened: its name, where, which, and the bytes that it was about.
#[derive(Debug)]
pub(crate) struct Note<'a> {
    pub(crate) at_ms: u64,
    pub(crate) what: &'static str,
    pub(crate) place: usize,
    pub(crate) which: u64,
    pub(crate) bytes: &'a [u8],
}

impl Trace {
    pub(crate) fn new() -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, printed: std::env::var_os("RINGMQ_TRACE").is_some() }
    }

    pub(crate) fn note(&mut self, note: &Note<'_>) {
        self.mix(note.what.as_bytes());
        for number in [note.at_ms, note.place as u64, note.which, note.bytes.len() as u64] {
            self.mix(&number.to_le_bytes());
        }
        self.mix(note.bytes);
        if self.printed {
            let Note { at_ms, what, place, which, bytes } = note;
            eprintln!("{at_ms} ms  {what:<16} {place:>3} {which:>5}  {}", bytes.escape_ascii());
        }
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    /// FNV-1a.
    fn mix(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
