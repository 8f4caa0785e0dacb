//! Short texts that lie where they are used.

/// A text that needs no allocation up to `INLINE` bytes. With 14, 30, 46, ... none of its own bytes is
/// wasted.
#[derive(Clone, Debug)]
pub(crate) enum Label<const INLINE: usize> {
    Inline { length: u8, bytes: [u8; INLINE] },
    Heap(Box<Box<str>>),
}

impl<const INLINE: usize> Label<INLINE> {
    pub(crate) fn new(text: &str) -> Self {
        let mut bytes = [0; INLINE];
        let Some(place) = bytes.get_mut(..text.len()) else {
            return Self::Heap(Box::new(text.into()));
        };
        place.copy_from_slice(text.as_bytes());
        Self::Inline { length: text.len() as u8, bytes }
    }

    #[inline]
    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Inline { length, bytes } => &bytes[..usize::from(*length)],
            Self::Heap(text) => text.as_bytes(),
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Inline { length, bytes } => {
                std::str::from_utf8(&bytes[..usize::from(*length)]).expect("a label was made from a str")
            }
            Self::Heap(text) => text,
        }
    }

    /// Whether the text's first level is this one.
    #[inline]
    pub(super) fn begins_with(&self, level: &[u8]) -> bool {
        let bytes = self.as_bytes();
        bytes.starts_with(level) && matches!(bytes.get(level.len()), None | Some(b'/'))
    }

    /// Bytes on the heap, an allocator's rounding included.
    pub(super) fn memory_bytes(&self) -> usize {
        match self {
            Self::Inline { .. } => 0,
            Self::Heap(text) => size_of::<Box<str>>() + rounded(text.len()),
        }
    }
}

/// What an allocation of `bytes` costs, near enough.
pub(crate) fn rounded(bytes: usize) -> usize {
    bytes.next_multiple_of(16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_every_length_read_back() {
        for length in 0..40 {
            let text = "é".repeat(length);
            let (short, long) = (Label::<14>::new(&text), Label::<30>::new(&text));
            assert_eq!((short.as_str(), short.as_bytes()), (text.as_str(), text.as_bytes()));
            assert_eq!(long.as_str(), text);
            assert_eq!(
                (short.memory_bytes() == 0, long.memory_bytes() == 0),
                (text.len() <= 14, text.len() <= 30)
            );
        }
        assert_eq!((size_of::<Label<14>>(), size_of::<Label<30>>()), (16, 32));
    }

    #[test]
    fn a_label_begins_with_its_first_level_only() {
        let label = Label::<14>::new("ab/c");
        assert!(label.begins_with(b"ab") && !label.begins_with(b"a") && !label.begins_with(b"ab/c/d"));
        assert!(Label::<14>::new("/x").begins_with(b"") && Label::<14>::new("").begins_with(b""));
    }
}
