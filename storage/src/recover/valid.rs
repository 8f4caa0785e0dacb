//! Which places of a log hold messages.

use crate::LogOffset;
use crate::recover::views::Views;

/// A bit for every place at which a message can begin. The pages of the map that stay zero cost nothing.
#[derive(Debug)]
pub(crate) struct ValidMessages {
    /// For each segment, made with its first message.
    segments: Vec<Box<[u64]>>,
}

impl ValidMessages {
    pub(crate) fn new(views: &Views<'_>) -> Self {
        Self { segments: views.all().iter().map(|_| Box::default()).collect() }
    }

    /// A message of a whole unit lies there.
    #[inline]
    pub(crate) fn add(&mut self, views: &Views<'_>, at: LogOffset) {
        let index = views.index(at.segment()).expect("it was just read there");
        let map = &mut self.segments[index];
        if map.is_empty() {
            *map = vec![0; (views.all()[index].bytes.len() / 8).div_ceil(64)].into_boxed_slice();
        }
        let bit = at.place() / 8;
        map[bit / 64] |= 1 << (bit % 64);
    }

    #[inline]
    pub(crate) fn is_valid(&self, views: &Views<'_>, at: LogOffset) -> bool {
        let Some(index) = views.index(at.segment()) else { return false };
        let bit = at.place() / 8;
        self.segments[index].get(bit / 64).is_some_and(|word| word >> (bit % 64) & 1 == 1)
    }
}
