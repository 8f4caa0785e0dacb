//! A directory with the logs of all shards.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::format::FORMAT_VERSION;
use crate::manifest::{COPIES, Manifest, ReadManifest, TEMPORARY, sync_directory};
use crate::reshard::reshard;
use crate::{ChoreSender, Damage, Directory, LogOptions, Recovered, SegmentLog, StoreError, open_log};

const LOCK: &str = "lock";
const QUARANTINE: &str = "quarantine";

/// Which shard owns a client id or a topic, given the store's seed, the name and the number of shards.
pub type Owner<'a> = &'a dyn Fn(u64, &str, usize) -> usize;

/// How a store is to be.
#[derive(Clone, Copy, Debug)]
pub struct StoreOptions {
    /// How many logs.
    pub shards: usize,
    /// Bytes of a segment, a multiple of 4096.
    pub segment_bytes: usize,
    /// Bytes that each shard's segments may take together.
    pub bytes_max: u64,
    /// The seed that it gets if it is new.
    pub new_seed: u64,
}

/// An open store. It stays locked against other processes as long as this lives.
///
/// Its logs are opened one by one, each from the thread of its shard if one likes.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    manifest: Manifest,
    log_options: LogOptions,
    reports: Vec<String>,
    resharded: Option<Resharded>,
    _lock: Lock,
}

/// Keeps other processes out as long as it lives.
#[derive(Debug)]
struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // To close the file would not do while a child that was just forked has it, too, until it runs its own
        // program.
        let _ = self.0.unlock();
    }
}

/// What was found when the number of shards changed.
#[derive(Debug, Default)]
pub struct Resharded {
    /// The number before.
    pub from: usize,
    /// What could not be read, with the old shard that it was in.
    pub damage: Vec<(usize, Damage)>,
    /// Sentences on what was lost to that.
    pub losses: Vec<String>,
}

impl Store {
    /// Opens the store in a directory, or makes one where there is none. `owner` decides where sessions and
    /// retained messages go if the number of shards has changed.
    ///
    /// # Errors
    /// The directory is no store, is in use, or cannot be used.
    pub fn open(path: &Path, options: StoreOptions, owner: Owner<'_>) -> Result<Self, StoreError> {
        make_directory(path)?;
        refuse_other_files(path)?;
        let lock = lock(path)?;
        let mut reports = Vec::new();
        let log_options = LogOptions { segment_bytes: options.segment_bytes, bytes_max: options.bytes_max };
        let (mut manifest, is_new) = match Manifest::read(path)? {
            ReadManifest::Found(manifest, wrong) => {
                reports.extend(wrong.map(|wrong| format!("one copy of the manifest was mended: {wrong}")));
                (manifest, false)
            }
            ReadManifest::Absent => (new_manifest(path, &options)?, true),
        };
        manifest.epoch += 1;
        manifest.segment_bytes = options.segment_bytes;
        if !is_new {
            remove_leftovers(path, manifest.generation)?;
        }
        // Before anything is written: what a start makes is never taken for another's.
        manifest.write(path)?;
        let mut store =
            Self { path: path.to_path_buf(), manifest, log_options, reports, resharded: None, _lock: lock };
        if manifest.shards != options.shards {
            let (manifest, resharded) = reshard(&store, options.shards, owner, &mut |_| Ok(()))?;
            (store.manifest, store.resharded) = (manifest, Some(resharded));
        }
        Ok(store)
    }

    /// The seed that decides who owns what.
    pub fn seed(&self) -> u64 {
        self.manifest.seed
    }

    /// How often the store was opened, this time included.
    pub fn epoch(&self) -> u32 {
        self.manifest.epoch
    }

    /// How many logs there are.
    pub fn shards(&self) -> usize {
        self.manifest.shards
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Sentences on what was mended.
    pub fn reports(&self) -> &[String] {
        &self.reports
    }

    /// What was found when the number of shards changed at this start; what the logs report is about the
    /// new ones.
    pub fn resharded(&self) -> Option<&Resharded> {
        self.resharded.as_ref()
    }

    pub(crate) fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    pub(crate) fn log_options(&self) -> LogOptions {
        self.log_options
    }

    /// Opens a shard's log, or begins it. To be called once for each shard.
    ///
    /// # Errors
    /// It cannot be read, or there is no space.
    ///
    /// # Panics
    /// When there are not so many shards.
    pub fn open_shard(
        &self,
        shard: usize,
        chores: &ChoreSender,
    ) -> Result<(SegmentLog<Directory>, Recovered), StoreError> {
        assert!(shard < self.shards(), "shard {shard} of {}", self.shards());
        let open = || {
            let directory = self.log_directory(self.manifest.generation, shard, chores)?;
            open_log(directory, self.log_options)
        };
        open().map_err(|source| StoreError::Shard { shard, source: Box::new(source) })
    }

    /// The directory of a log, made if it is missing.
    pub(crate) fn log_directory(
        &self,
        generation: u64,
        shard: usize,
        chores: &ChoreSender,
    ) -> Result<Directory, StoreError> {
        let path = log_path(&self.path, generation, shard);
        let made = make_one(&path).and_then(|()| sync_directory(&self.path));
        made.map_err(|source| StoreError::writing(path.display().to_string(), source))?;
        Ok(Directory::new(path, self.path.join(QUARANTINE), chores.clone()))
    }
}

/// Where a log lies.
pub(crate) fn log_path(store: &Path, generation: u64, shard: usize) -> PathBuf {
    store.join(format!("g{generation}-{shard}"))
}

/// The generation and the shard in the name of a log's directory.
pub(crate) fn log_name(name: &str) -> Option<(u64, usize)> {
    let (generation, shard) = name.strip_prefix('g')?.split_once('-')?;
    let parsed = (generation.parse().ok()?, shard.parse().ok()?);
    (name == format!("g{}-{}", parsed.0, parsed.1)).then_some(parsed)
}

fn new_manifest(path: &Path, options: &StoreOptions) -> Result<Manifest, StoreError> {
    // Logs without a manifest: nobody knows the seed, without which the logs are of no use.
    if names(path)?.iter().any(|name| log_name(name).is_some()) {
        let detail = "neither `store` nor `store.copy` is there, but logs are".to_owned();
        return Err(StoreError::Manifests { path: path.to_path_buf(), detail });
    }
    Ok(Manifest {
        format: FORMAT_VERSION,
        generation: 1,
        shards: options.shards,
        epoch: 0,
        seed: options.new_seed,
        segment_bytes: options.segment_bytes,
    })
}

fn make_directory(path: &Path) -> Result<(), StoreError> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => return Ok(()),
        Ok(_) => return Err(StoreError::NotADirectory { path: path.to_path_buf() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(unusable(path, source)),
    }
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    let made = made.and_then(|()| match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => sync_directory(parent),
        None => sync_directory(Path::new(".")),
    });
    made.map_err(|source| StoreError::CannotMake { path: path.to_path_buf(), source })
}

fn make_one(path: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

pub(crate) fn names(path: &Path) -> Result<Vec<String>, StoreError> {
    let list = || -> io::Result<Vec<String>> {
        let name = |entry: io::Result<fs::DirEntry>| Ok(entry?.file_name().to_string_lossy().into_owned());
        fs::read_dir(path)?.map(name).collect()
    };
    let mut names = list().map_err(|source| unusable(path, source))?;
    names.sort_unstable();
    Ok(names)
}

/// A directory without a manifest has to be empty, what a first start leaves that is cut off aside.
fn refuse_other_files(path: &Path) -> Result<(), StoreError> {
    let names = names(path)?;
    if names.iter().any(|name| COPIES.contains(&name.as_str())) {
        return Ok(());
    }
    // The root of a file system has `lost+found`.
    let is_ours =
        |name: &str| [LOCK, TEMPORARY, QUARANTINE, "lost+found"].contains(&name) || log_name(name).is_some();
    match names.into_iter().find(|name| !is_ours(name)) {
        Some(found) => Err(StoreError::NotAStore { path: path.to_path_buf(), found }),
        None => Ok(()),
    }
}

fn lock(path: &Path) -> Result<Lock, StoreError> {
    let open =
        || OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path.join(LOCK));
    let mut file = open().map_err(|source| unusable(path, source))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(StoreError::Locked { path: path.to_path_buf(), process: process_in(&mut file) });
        }
        Err(TryLockError::Error(source)) => return Err(unusable(path, source)),
    }
    // For the message that another process gives; the lock holds without.
    let _ = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
    Ok(Lock(file))
}

/// Whether some process has the store open, and which if it said.
pub(crate) fn locked_by(path: &Path) -> Option<Option<u32>> {
    let mut file = File::open(path.join(LOCK)).ok()?;
    let is_locked = matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
    is_locked.then(|| process_in(&mut file))
}

fn process_in(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// Logs of other generations: a change of the number of shards that was cut off, before or after it counted.
pub(crate) fn remove_leftovers(path: &Path, generation: u64) -> Result<(), StoreError> {
    let is_left = |name: &String| log_name(name).is_some_and(|(of, _)| of != generation);
    for name in names(path)?.into_iter().filter(is_left) {
        let path = path.join(name);
        let what = || path.display().to_string();
        fs::remove_dir_all(&path).map_err(|source| StoreError::Unwritable { what: what(), source })?;
    }
    Ok(())
}

fn unusable(path: &Path, source: io::Error) -> StoreError {
    StoreError::NotWritable { path: path.to_path_buf(), source }
}

#[cfg(test)]
mod flips;
#[cfg(test)]
pub(crate) mod tests;
