//! Why a store cannot be opened.

use std::io;
use std::path::PathBuf;

/// Why a store cannot be opened or made. Each says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The path is something else.
    #[error("{} is not a directory; name one, or a path where one can be made", path.display())]
    NotADirectory {
        /// The path.
        path: PathBuf,
    },
    /// There is no directory and none can be made.
    #[error("{} cannot be made: {source}; make it, or name another directory", path.display())]
    CannotMake {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The directory cannot be written to, or read.
    #[error("{} cannot be used: {source}; let the user that Ringmq runs as read and write it", path.display())]
    NotWritable {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There are other files.
    #[error(
        "{} holds files that are not a Ringmq store (found {found}); choose an empty directory",
        path.display()
    )]
    NotAStore {
        /// The directory.
        path: PathBuf,
        /// One of the files.
        found: String,
    },
    /// There is nothing to look at.
    #[error("{} holds no Ringmq store; name the directory that the broker keeps its data in", path.display())]
    NoStore {
        /// The directory.
        path: PathBuf,
    },
    /// It is in use.
    #[error("another process uses {}{}; stop it, or choose another directory", path.display(), by(*process))]
    Locked {
        /// The directory.
        path: PathBuf,
        /// The process, if it said.
        process: Option<u32>,
    },
    /// A newer version made it.
    #[error(
        "{} was written by a newer version of Ringmq (format {found}, this one knows {known}); use that \
         version",
        path.display()
    )]
    Newer {
        /// The directory.
        path: PathBuf,
        /// The format found.
        found: u32,
        /// The newest format that this version knows.
        known: u32,
    },
    /// What says how it is laid out is gone.
    #[error(
        "both manifests of the store {} are damaged or missing ({detail}); restore the file `store` from a \
         backup, or move the directory away to begin anew",
        path.display()
    )]
    Manifests {
        /// The directory.
        path: PathBuf,
        /// What is wrong with each.
        detail: String,
    },
    /// Something in it cannot be read.
    #[error("{what} cannot be read: {source}; check the disk and the permissions")]
    Unreadable {
        /// What.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// Something in it cannot be written.
    #[error("{what} cannot be written: {source}; check the disk, its space and the permissions")]
    Unwritable {
        /// What.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// No space to begin with.
    #[error("there is no space for {what}; free some, or choose another file system")]
    NoSpace {
        /// What.
        what: String,
    },
    /// A shard of a running store failed.
    #[error("the log of shard {shard} cannot be opened: {source}")]
    Shard {
        /// The shard.
        shard: usize,
        /// Why.
        source: Box<StoreError>,
    },
}

impl StoreError {
    /// No segment to write to can be made.
    pub(crate) fn begin_segment(source: io::Error) -> Self {
        let what = "a new segment of a log".to_owned();
        Self::writing(what, source)
    }

    /// Something could not be written.
    pub(crate) fn writing(what: String, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace { what },
            _ => Self::Unwritable { what, source },
        }
    }
}

fn by(process: Option<u32>) -> String {
    process.map_or_else(String::new, |process| format!(" (process {process})"))
}
