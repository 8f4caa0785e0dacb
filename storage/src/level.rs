//! What an acknowledgement promises.

/// How safe a message is when its publisher is told that it was taken. Each level includes those before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Every session that must have it has it, in memory.
    Memory,
    /// It survives the process being killed.
    #[default]
    Written,
    /// It survives power loss: the file system was made to write it out.
    Synced,
}

/// Every level, lowest first.
pub const LEVELS: [Level; 3] = [Level::Memory, Level::Written, Level::Synced];

impl Level {
    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Written => "written",
            Self::Synced => "synced",
        }
    }
}
