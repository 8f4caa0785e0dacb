//! The two small files that say how a store is laid out.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::StoreError;
use crate::format::FORMAT_VERSION;

/// The first copy is written first: if both are whole and differ, it is the newer one.
pub(crate) const COPIES: [&str; 2] = ["store", "store.copy"];
/// Where a copy is written before it takes the other's place.
pub(crate) const TEMPORARY: &str = "store.new";
const TITLE: &str = "ringmq store";

/// What is to be known of a store before any of it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The version of the format of all its files.
    pub format: u32,
    /// Which of the directories of logs counts.
    pub generation: u64,
    /// How many logs there are.
    pub shards: usize,
    /// How often the store was opened.
    pub epoch: u32,
    /// Decides, by way of a hash, which shard owns what.
    pub seed: u64,
    /// The size that segments had when it was last written; each file has its own.
    pub segment_bytes: usize,
}

/// What the copies say.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ReadManifest {
    /// Neither copy is there.
    Absent,
    /// The newer of those that are whole, and what was wrong with the other.
    Found(Manifest, Option<String>),
}

impl Manifest {
    fn text(&self) -> String {
        let Self { format, generation, shards, epoch, seed, segment_bytes } = self;
        let body = format!(
            "{TITLE}\nformat = {format}\ngeneration = {generation}\nshards = {shards}\nepoch = {epoch}\n\
             seed = {seed:016x}\nsegment_bytes = {segment_bytes}\n"
        );
        let crc = crc32fast::hash(body.as_bytes());
        format!("{body}crc = {crc:08x}\n")
    }

    /// Reads one copy.
    fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        const DAMAGED: &str = "it is damaged";
        let text = std::str::from_utf8(bytes).map_err(|_| DAMAGED)?;
        let (body, crc) = text.rsplit_once("crc = ").ok_or(DAMAGED)?;
        if format!("{:08x}\n", crc32fast::hash(body.as_bytes())) != crc {
            return Err(DAMAGED);
        }
        let field = |name: &str| {
            let value = |line: &'_ str| -> Option<String> {
                line.strip_prefix(name)?.strip_prefix(" = ").map(str::to_owned)
            };
            body.lines().find_map(value).ok_or("it lacks a field")
        };
        let number = |name: &str| field(name)?.parse::<u64>().map_err(|_| "it has a field that is no number");
        let format = number("format")?.try_into().map_err(|_| DAMAGED)?;
        if format > FORMAT_VERSION {
            // Other fields may have another meaning then.
            return Ok(Self { format, generation: 0, shards: 0, epoch: 0, seed: 0, segment_bytes: 0 });
        }
        Ok(Self {
            format,
            generation: number("generation")?,
            shards: number("shards")? as usize,
            epoch: number("epoch")?.try_into().map_err(|_| DAMAGED)?,
            seed: u64::from_str_radix(&field("seed")?, 16).map_err(|_| DAMAGED)?,
            segment_bytes: number("segment_bytes")? as usize,
        })
    }

    /// Reads both copies.
    pub(crate) fn read(directory: &Path) -> Result<ReadManifest, StoreError> {
        let mut wrong = Vec::new();
        let mut missing = 0;
        let mut whole: Vec<Self> = Vec::new();
        for name in COPIES {
            let read = fs::read(directory.join(name));
            let parsed = match &read {
                Ok(bytes) => Self::parse(bytes),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    missing += 1;
                    Err("it is missing")
                }
                Err(_) => Err("it cannot be read"),
            };
            match parsed {
                Ok(manifest) => whole.push(manifest),
                Err(why) => wrong.push(format!("`{name}`: {why}")),
            }
        }
        if missing == COPIES.len() {
            return Ok(ReadManifest::Absent);
        }
        let path = || directory.to_path_buf();
        let Some(newest) = whole.into_iter().rev().max_by_key(|one| (one.format, one.epoch, one.generation))
        else {
            return Err(StoreError::Manifests { path: path(), detail: wrong.join(", ") });
        };
        if newest.format > FORMAT_VERSION {
            let (found, known) = (newest.format, FORMAT_VERSION);
            return Err(StoreError::Newer { path: path(), found, known });
        }
        Ok(ReadManifest::Found(newest, wrong.pop()))
    }

    /// Writes both copies durably, so that one of them is whole at any time.
    pub(crate) fn write(&self, directory: &Path) -> Result<(), StoreError> {
        for name in COPIES {
            self.write_copy(directory, name)?;
        }
        Ok(())
    }

    /// Writes one copy durably, as a whole or not at all.
    pub(crate) fn write_copy(&self, directory: &Path, name: &str) -> Result<(), StoreError> {
        let (temporary, path) = (directory.join(TEMPORARY), directory.join(name));
        let write = || {
            // The seed is secret.
            let mut options = OpenOptions::new();
            let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
            file.write_all(self.text().as_bytes())?;
            file.sync_all()?;
            fs::rename(&temporary, &path)?;
            sync_directory(directory)
        };
        write().map_err(|source| StoreError::writing(format!("the manifest {}", path.display()), source))
    }
}

/// Makes names in a directory durable.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: Manifest =
        Manifest { format: 1, generation: 3, shards: 4, epoch: 70, seed: 0xABCD, segment_bytes: 1 << 25 };

    #[test]
    fn a_manifest_is_read_back_and_no_changed_byte_goes_unnoticed() {
        let text = MANIFEST.text();
        assert_eq!(Manifest::parse(text.as_bytes()), Ok(MANIFEST), "{text}");
        for at in 0..text.len() {
            for bit in 0..8 {
                let mut bytes = text.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                assert!(Manifest::parse(&bytes).is_err(), "bit {bit} of byte {at}");
            }
            assert!(Manifest::parse(&text.as_bytes()[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn a_newer_format_is_known_by_its_number_alone() {
        let body = "ringmq store\nformat = 9\nshards = many\n";
        let text = format!("{body}crc = {:08x}\n", crc32fast::hash(body.as_bytes()));
        assert_eq!(Manifest::parse(text.as_bytes()).map(|manifest| manifest.format), Ok(9));
    }
}
