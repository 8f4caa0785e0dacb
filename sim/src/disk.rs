//! A disk that forgets what was not synced.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Error, ErrorKind, Result};

use crate::rng::Rng;

/// A power loss keeps or loses so many bytes at a time.
pub const BLOCK_BYTES: usize = 512;

/// How a program ends without a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// It is killed: what it wrote is with the operating system.
    Kill,
    /// The machine stops: what was not synced may be there or not, block by block.
    PowerLoss,
}

/// A file of a [`SimDisk`], whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(u64);

#[derive(Debug, Default)]
struct File {
    /// What a program reads.
    now: Vec<u8>,
    /// What a power loss leaves in any case.
    durable: Vec<u8>,
    /// As the file was when the sync began that is under way.
    syncing: Option<Vec<u8>>,
}

/// A change of names that may be undone by a power loss.
#[derive(Debug)]
enum NameChange {
    Created(String, FileId),
    Removed(String),
}

/// Named files, and what of them would survive.
///
/// Bytes count as written when the one who holds them says so with [`SimDisk::write`]; what becomes
/// durable before its sync has ended is left to chance. Names survive in order: of two files created or
/// removed without [`SimDisk::sync_names`], the second is never done without the first, as with any
/// file system that keeps a journal.
#[derive(Debug)]
pub struct SimDisk {
    files: BTreeMap<FileId, File>,
    names: BTreeMap<String, FileId>,
    durable_names: BTreeMap<String, FileId>,
    changes: Vec<NameChange>,
    files_made: u64,
    capacity_bytes: u64,
    rng: Rng,
}

/// What a program does with it.
impl SimDisk {
    /// An empty one with room for all that comes.
    pub fn new(rng: Rng) -> Self {
        Self {
            files: BTreeMap::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            changes: Vec::new(),
            files_made: 0,
            capacity_bytes: u64::MAX,
            rng,
        }
    }

    /// From now on there is room for so many bytes in files that have a name. Those that exist stay, even
    /// if they take more.
    pub fn set_capacity_bytes(&mut self, bytes: u64) {
        self.capacity_bytes = bytes;
    }

    /// Bytes in files that have a name.
    pub fn used_bytes(&self) -> u64 {
        self.names.values().map(|file| self.files[file].now.len() as u64).sum()
    }

    /// The names of all files, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(String::as_str)
    }

    /// Makes a file of zeroes.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`], or [`ErrorKind::StorageFull`].
    pub fn create(&mut self, name: &str, bytes: usize) -> Result<FileId> {
        if self.names.contains_key(name) {
            return Err(Error::from(ErrorKind::AlreadyExists));
        }
        if self.used_bytes() + bytes as u64 > self.capacity_bytes {
            return Err(Error::from(ErrorKind::StorageFull));
        }
        self.files_made += 1;
        let file = FileId(self.files_made);
        self.files.insert(file, File { now: vec![0; bytes], durable: vec![0; bytes], syncing: None });
        self.names.insert(name.to_owned(), file);
        self.changes.push(NameChange::Created(name.to_owned(), file));
        Ok(file)
    }

    /// The file of a name.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`].
    pub fn open(&self, name: &str) -> Result<FileId> {
        self.names.get(name).copied().ok_or_else(|| Error::from(ErrorKind::NotFound))
    }

    /// Removes a name. A file that is held can still be written.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`].
    pub fn remove(&mut self, name: &str) -> Result<()> {
        self.names.remove(name).ok_or_else(|| Error::from(ErrorKind::NotFound))?;
        self.changes.push(NameChange::Removed(name.to_owned()));
        Ok(())
    }

    /// Makes all names durable, and that others are gone.
    pub fn sync_names(&mut self) {
        self.durable_names.clone_from(&self.names);
        self.changes.clear();
    }

    /// The bytes of a file.
    ///
    /// # Panics
    /// When a crash has taken it.
    pub fn read(&self, file: FileId) -> &[u8] {
        &self.files[&file].now
    }

    /// All the bytes of a file, as they are from now on. What is written to a file that a crash took is
    /// lost.
    pub fn write(&mut self, file: FileId, bytes: &[u8]) {
        if let Some(file) = self.files.get_mut(&file) {
            file.now.clear();
            file.now.extend_from_slice(bytes);
        }
    }

    /// A sync of the file, as it was last written, begins. If one was under way, it failed.
    pub fn begin_sync(&mut self, file: FileId) {
        self.fail_sync(file);
        if let Some(file) = self.files.get_mut(&file) {
            file.syncing = Some(file.now.clone());
        }
    }

    /// The sync that is under way succeeds.
    pub fn end_sync(&mut self, file: FileId) {
        let Some(file) = self.files.get_mut(&file) else { return };
        if let Some(synced) = file.syncing.take() {
            file.durable = synced;
        }
    }

    /// The sync that is under way fails, if there is one. Any part of it may be done.
    pub fn fail_sync(&mut self, file: FileId) {
        let Some(file) = self.files.get_mut(&file) else { return };
        if let Some(synced) = file.syncing.take() {
            settle(&mut file.durable, &synced, &mut self.rng);
        }
    }
}

/// The end of a program.
impl SimDisk {
    /// A program that held files of this disk is gone, and wrote what it held before. The next may open
    /// what is left.
    pub fn crash(&mut self, crash: Crash) {
        if crash == Crash::PowerLoss {
            self.lose_power();
        } else {
            for file in self.files.values_mut() {
                // Nobody hears of its end any more, so it may as well not have ended yet.
                if let Some(synced) = file.syncing.take() {
                    settle(&mut file.durable, &synced, &mut self.rng);
                }
            }
        }
        let durable = self.durable_names.values();
        let created = self.changes.iter().filter_map(|change| match change {
            NameChange::Created(_, file) => Some(file),
            NameChange::Removed(_) => None,
        });
        let reachable: BTreeSet<_> = self.names.values().chain(durable).chain(created).copied().collect();
        self.files.retain(|file, _| reachable.contains(file));
    }

    fn lose_power(&mut self) {
        for file in self.files.values_mut() {
            // A sync that is under way and what was written since are both on their way to the disk.
            if let Some(synced) = file.syncing.take() {
                settle(&mut file.durable, &synced, &mut self.rng);
            }
            settle(&mut file.durable, &file.now, &mut self.rng);
            file.now.clone_from(&file.durable);
        }
        let done = self.rng.below(self.changes.len() + 1);
        for change in self.changes.drain(..).take(done) {
            match change {
                NameChange::Created(name, file) => {
                    self.durable_names.insert(name, file);
                }
                NameChange::Removed(name) => {
                    self.durable_names.remove(&name);
                }
            }
        }
        self.names.clone_from(&self.durable_names);
    }
}

/// Which part of what is not durable is there after all.
#[derive(Debug)]
enum Part {
    /// What lies before or from a place on.
    Before(usize),
    From(usize),
    /// Every block by itself.
    Chance(f64),
}

impl Part {
    fn draw(bytes: usize, rng: &mut Rng) -> Self {
        match rng.below(8) {
            0 => Self::Before(0),
            1 => Self::Before(bytes),
            2..4 => Self::Before(rng.below(bytes + 1)),
            4 => Self::From(rng.below(bytes + 1)),
            _ => Self::Chance(*rng.pick(&[0.05, 0.5, 0.95])),
        }
    }

    /// The bytes of a block from `at` on that are there.
    fn of_block(&self, (at, end): (usize, usize), rng: &mut Rng) -> (usize, usize) {
        match *self {
            Self::Before(place) => (at, place.clamp(at, end)),
            Self::From(place) => (place.clamp(at, end), end),
            Self::Chance(chance) if rng.chance(chance) => {
                // Written out while the program was in the middle of it.
                let torn = rng.chance(0.1);
                (at, if torn { at + rng.below(end - at) } else { end })
            }
            Self::Chance(_) => (at, at),
        }
    }
}

/// Some blocks of `bytes` become durable.
fn settle(durable: &mut Vec<u8>, bytes: &[u8], rng: &mut Rng) {
    durable.resize(bytes.len(), 0);
    let mut part = None;
    for (index, block) in bytes.chunks(BLOCK_BYTES).enumerate() {
        let at = index * BLOCK_BYTES;
        let end = at + block.len();
        if durable[at..end] == *block {
            continue;
        }
        // Drawn at the first block that differs, to fall into what differs.
        let part = part.get_or_insert_with(|| Part::draw(changed_bytes(durable, bytes, at), rng).shifted(at));
        let (from, to) = part.of_block((at, end), rng);
        durable[from..to].copy_from_slice(&bytes[from..to]);
    }
}

/// How many bytes from `at` on there are to the last that differs.
fn changed_bytes(durable: &[u8], bytes: &[u8], at: usize) -> usize {
    let last = durable[at..].iter().zip(&bytes[at..]).rposition(|(old, new)| old != new);
    last.map_or(0, |last| last + 1)
}

impl Part {
    fn shifted(self, by: usize) -> Self {
        match self {
            Self::Before(place) => Self::Before(place + by),
            Self::From(place) => Self::From(place + by),
            Self::Chance(chance) => Self::Chance(chance),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(seed: u64) -> SimDisk {
        SimDisk::new(Rng::new(seed))
    }

    #[test]
    fn a_kill_loses_nothing() {
        let mut disk = disk(1);
        let file = disk.create("a", 2000).unwrap();
        disk.write(file, &[7; 2000]);
        disk.begin_sync(file);
        disk.create("b", 10).unwrap();
        disk.crash(Crash::Kill);
        assert_eq!(disk.read(disk.open("a").unwrap()), [7; 2000]);
        assert!(disk.names().eq(["a", "b"]));
    }

    #[test]
    fn a_power_loss_keeps_what_was_synced_and_any_part_of_the_rest() {
        let (mut parts, mut holes) = ([false; 3], false);
        for seed in 0..200 {
            let mut disk = disk(seed);
            let file = disk.create("a", 8 * BLOCK_BYTES).unwrap();
            disk.sync_names();
            let mut bytes = vec![0; 8 * BLOCK_BYTES];
            bytes[..700].fill(1);
            disk.write(file, &bytes);
            disk.begin_sync(file);
            disk.end_sync(file);
            bytes[700..3000].fill(2);
            disk.write(file, &bytes);
            disk.crash(Crash::PowerLoss);
            let left = disk.read(disk.open("a").unwrap()).to_vec();
            assert_eq!(left[..700], bytes[..700]);
            assert!(left[3000..].iter().all(|&byte| byte == 0));
            let kept = left[700..3000].iter().filter(|&&byte| byte == 2).count();
            parts[usize::from(kept > 0) + usize::from(kept == 2300)] = true;
            holes |= left[700..3000].windows(2).any(|pair| pair == [0, 2]);
            disk.crash(Crash::PowerLoss);
            assert_eq!(disk.read(disk.open("a").unwrap()), left, "what is left lasts");
        }
        assert!(parts == [true; 3] && holes, "{parts:?} {holes}");
    }

    #[test]
    fn a_sync_that_did_not_end_promises_nothing() {
        let lost = (0..50).filter(|&seed| {
            let mut disk = disk(seed);
            let file = disk.create("a", 100).unwrap();
            disk.sync_names();
            disk.write(file, &[1; 100]);
            disk.begin_sync(file);
            if seed % 2 == 0 {
                disk.fail_sync(file);
                disk.end_sync(file);
            }
            disk.crash(Crash::PowerLoss);
            disk.read(disk.open("a").unwrap()) != [1; 100]
        });
        assert!((5..45).contains(&lost.count()));
    }

    #[test]
    fn names_come_and_go_in_order() {
        let mut seen = BTreeSet::new();
        for seed in 0..100 {
            let mut disk = disk(seed);
            disk.create("a", 1).unwrap();
            disk.sync_names();
            disk.create("b", 1).unwrap();
            disk.remove("a").unwrap();
            disk.create("a", 2).unwrap();
            disk.crash(Crash::PowerLoss);
            let names: Vec<_> = disk.names().map(str::to_owned).collect();
            let bytes = disk.open("a").map(|file| disk.read(file).len()).unwrap_or(0);
            seen.insert((names.concat(), bytes));
        }
        let expected =
            [("a", 1), ("ab", 1), ("ab", 2), ("b", 0)].map(|(names, bytes)| (names.to_owned(), bytes));
        assert_eq!(seen, BTreeSet::from(expected));
    }

    #[test]
    fn a_full_disk_takes_no_more_files() {
        let mut disk = disk(1);
        disk.set_capacity_bytes(100);
        disk.create("a", 60).unwrap();
        assert_eq!(disk.create("b", 41).unwrap_err().kind(), ErrorKind::StorageFull);
        assert_eq!(disk.create("a", 1).unwrap_err().kind(), ErrorKind::AlreadyExists);
        disk.create("b", 40).unwrap();
        disk.remove("a").unwrap();
        assert_eq!((disk.used_bytes(), disk.open("a").unwrap_err().kind()), (40, ErrorKind::NotFound));
    }
}
