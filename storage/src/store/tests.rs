use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::{
    Log, MessageView, QueueNumber, QueuedAs, QueuedMessage, Record, SessionRecord, SubscriptionIds, chores,
};

/// A directory of its own for each test, removed at its end.
pub(crate) struct TestDirectory(pub(crate) PathBuf);

impl TestDirectory {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("ringmq-store-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        // Where a sync takes no time, if there is such a place.
        let memory = Path::new("/dev/shm");
        let base = if memory.is_dir() { memory.to_path_buf() } else { std::env::temp_dir() };
        Self(base.join(name))
    }
}

impl Drop for TestDirectory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn options(shards: usize) -> StoreOptions {
    StoreOptions { shards, segment_bytes: 64 * 1024, bytes_max: u64::MAX, new_seed: 42 }
}

pub(crate) fn owner(seed: u64, name: &str, shards: usize) -> usize {
    name.bytes().fold(seed as usize, |sum, byte| sum + usize::from(byte)) % shards
}

fn open(directory: &TestDirectory) -> Result<Store, StoreError> {
    Store::open(&directory.0, options(1), &owner)
}

fn refusal(directory: &TestDirectory) -> String {
    open(directory).expect_err("it is refused").to_string()
}

#[test]
fn what_a_shard_wrote_is_there_when_the_store_is_opened_again() {
    let directory = TestDirectory::new();
    let session = SessionRecord::new(1, 0, 7);
    let (sender, runner) = chores();
    drop(runner);
    {
        let store = open(&directory).unwrap();
        assert_eq!((store.epoch(), store.shards(), store.seed()), (1, 1, 42));
        let (mut log, recovered) = store.open_shard(0, &sender).unwrap();
        assert!(recovered.sessions.is_empty() && recovered.damage.is_empty());
        log.append(Record::SessionBegins {
            session,
            client_id: "me",
            expiry_s: 9,
            closed_at_ms: 0,
            next: QueueNumber(5),
        });
        let view = MessageView {
            topic: b"a/b",
            properties: b"",
            payload: b"hello",
            shared_payload: None,
            qos: 1,
            expires_at_ms: 0,
        };
        let message = log.keep(&view).unwrap();
        let queued_as = QueuedAs { qos: 1, retain: false };
        let ids = SubscriptionIds::NONE;
        let queued = QueuedMessage { number: QueueNumber(5), message, queued_as, ids, group: None };
        log.append(Record::Queued { session, queued });
        log.end_unit();
        log.turn_over();
    }
    for epoch in 2..5 {
        let store = open(&directory).unwrap();
        assert_eq!((store.epoch(), store.seed(), store.reports().len()), (epoch, 42, 0));
        let (log, recovered) = store.open_shard(0, &sender).unwrap();
        assert!(recovered.damage.is_empty(), "{:?}", recovered.damage);
        let [found] = &recovered.sessions[..] else { panic!("one session: {recovered:?}") };
        assert_eq!((found.record, &*found.client_id, found.next), (session, "me", QueueNumber(6)));
        let at = found.messages[0].message.unwrap();
        assert_eq!(log.message(at).payload, b"hello");
        assert_eq!(log.appended(), 3);
    }
}

#[test]
fn a_directory_that_is_no_store_is_refused_in_a_sentence() {
    let directory = TestDirectory::new();
    fs::create_dir(&directory.0).unwrap();
    fs::write(directory.0.join("photo.jpg"), "x").unwrap();
    assert_eq!(
        refusal(&directory),
        format!(
            "{} holds files that are not a Ringmq store (found photo.jpg); choose an empty directory",
            directory.0.display()
        )
    );
    let file = Store::open(&directory.0.join("photo.jpg"), options(1), &owner).unwrap_err().to_string();
    assert!(
        file.ends_with("photo.jpg is not a directory; name one, or a path where one can be made"),
        "{file}"
    );
    let below =
        Store::open(&directory.0.join("photo.jpg/below"), options(1), &owner).unwrap_err().to_string();
    assert!(below.contains("Not a directory"), "{below}");
}

#[test]
fn only_one_opens_it_at_a_time() {
    let directory = TestDirectory::new();
    let first = open(&directory).unwrap();
    assert_eq!(
        refusal(&directory),
        format!(
            "another process uses {} (process {}); stop it, or choose another directory",
            directory.0.display(),
            std::process::id()
        )
    );
    assert_eq!(locked_by(&directory.0), Some(Some(std::process::id())));
    drop(first);
    assert_eq!(locked_by(&directory.0), None);
    open(&directory).unwrap();
}

#[test]
fn one_bad_manifest_is_mended_and_told_and_two_are_refused() {
    let directory = TestDirectory::new();
    open(&directory).unwrap();
    let mut epoch = 1;
    for name in COPIES {
        let path = directory.0.join(name);
        let mut bytes = fs::read(&path).unwrap();
        bytes[20] ^= 1;
        fs::write(&path, bytes).unwrap();
        let store = open(&directory).unwrap();
        assert_eq!(store.epoch(), epoch + 1);
        epoch += 4;
        assert_eq!(
            store.reports(),
            [format!("one copy of the manifest was mended: `{name}`: it is damaged")]
        );
        drop(store);
        assert!(open(&directory).unwrap().reports().is_empty());
        fs::remove_file(&path).unwrap();
        assert_eq!(open(&directory).unwrap().reports().len(), 1);
        open(&directory).unwrap();
    }
    for name in COPIES {
        fs::write(directory.0.join(name), "junk").unwrap();
    }
    assert!(refusal(&directory).contains("(`store`: it is damaged, `store.copy`: it is damaged)"));
    for name in COPIES {
        fs::remove_file(directory.0.join(name)).unwrap();
    }
    open(&directory).unwrap();
    fs::create_dir(directory.0.join("g1-0")).unwrap();
    for name in COPIES {
        fs::remove_file(directory.0.join(name)).unwrap();
    }
    assert!(refusal(&directory).contains("neither `store` nor `store.copy` is there, but logs are"));
}

#[test]
fn a_newer_format_is_refused_with_the_remedy() {
    let directory = TestDirectory::new();
    open(&directory).unwrap();
    let body = "ringmq store\nformat = 7\n";
    let text = format!("{body}crc = {:08x}\n", crc32fast::hash(body.as_bytes()));
    fs::write(directory.0.join("store"), text).unwrap();
    assert!(
        refusal(&directory)
            .contains("newer version of Ringmq (format 7, this one knows 1); use that version")
    );
}

#[test]
fn a_first_start_that_was_cut_off_is_begun_again() {
    let directory = TestDirectory::new();
    fs::create_dir(&directory.0).unwrap();
    for name in [LOCK, TEMPORARY] {
        fs::write(directory.0.join(name), "half").unwrap();
    }
    fs::create_dir(directory.0.join("lost+found")).unwrap();
    assert_eq!(open(&directory).unwrap().epoch(), 1);
}
