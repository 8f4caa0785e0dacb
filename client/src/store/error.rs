//! Why a store fails.

use std::error::Error as StdError;
use std::sync::Arc;

/// Why a store failed. Each says which store, and what to do.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// It holds as much as it may. Nothing was kept.
    #[error(
        "{store} holds {holds}, as much as it may: wait until messages are acknowledged, or raise its bound"
    )]
    Full {
        /// The store.
        store: String,
        /// How much.
        holds: String,
    },
    /// The message is larger than the store takes. Nothing was kept.
    #[error("{store} keeps messages of at most {bytes_max} bytes, and this one needs {bytes}")]
    TooLarge {
        /// The store.
        store: String,
        /// Bytes of the message with its topic and properties.
        bytes: usize,
        /// Bytes allowed.
        bytes_max: usize,
    },
    /// It is out of reach or out of order for now; what was asked for may or may not be done.
    #[error("{store} cannot be reached: {detail}; see that it runs, and try again")]
    Unavailable {
        /// The store.
        store: String,
        /// What happened.
        detail: String,
    },
    /// It refuses.
    #[error("{store} failed: {detail}")]
    Failed {
        /// The store.
        store: String,
        /// What happened, and what to do.
        detail: String,
    },
    /// It cannot be opened.
    #[error("{store} cannot be opened: {source}")]
    Unusable {
        /// The store.
        store: String,
        /// Why.
        source: Arc<dyn StdError + Send + Sync>,
    },
    /// What is kept cannot be read.
    #[error("what {store} keeps of session {session:?} is damaged ({detail}): remove it there to begin anew")]
    Damaged {
        /// The store.
        store: String,
        /// The session.
        session: String,
        /// What is wrong with it.
        detail: String,
    },
    /// The session is open already.
    #[error(
        "{store} has session {session:?} open already: remove that session first, or choose another name"
    )]
    InUse {
        /// The store.
        store: String,
        /// The session.
        session: String,
    },
}

impl StoreError {
    /// Whether trying again may help without anybody changing anything.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Full { .. } | Self::Unavailable { .. } => true,
            Self::TooLarge { .. }
            | Self::Failed { .. }
            | Self::Unusable { .. }
            | Self::Damaged { .. }
            | Self::InUse { .. } => false,
        }
    }
}
