//! The store in memory.

use std::sync::Arc;

use ringmq_client::store::{Memory, MemoryBounds, Number, Store, StoreChange, StoreError};

use crate::common::{check, entries};

#[test]
fn a_store_in_memory_does_what_stores_do() {
    let memory = Memory::default();
    check(&|| Arc::new(memory.clone()));
}

#[test]
fn what_is_beyond_its_bounds_is_refused_until_there_is_room() {
    // Four messages of "t/x" and four bytes are 28 bytes.
    for (messages_max, bytes_max) in [(4, usize::MAX), (usize::MAX, 28), (4, 28)] {
        let memory = Memory::new(MemoryBounds { messages_max, bytes_max });
        let (one, two) = (memory.open("one").unwrap(), memory.open("two").unwrap());
        one.put(&entries(0, &["aaaa", "bbbb", "cccc"])).unwrap();
        let error = two.put(&entries(0, &["dddd", "eeee"])).unwrap_err();
        assert!(matches!(error, StoreError::Full { .. }) && error.is_temporary(), "{error}");
        assert_eq!(
            error.to_string(),
            "the store in memory holds 3 messages of 21 bytes, as much as it may: wait until messages are acknowledged, \
             or raise its bound"
        );
        two.put(&entries(0, &["dddd"])).unwrap();
        assert!(one.put(&entries(3, &["ffff"])).is_err());
        one.apply(&[StoreChange::Released(Number(0))]).unwrap();
        one.put(&entries(3, &["ffff"])).unwrap();
        assert!(two.put(&entries(1, &["gggg"])).is_err());
        one.remove().unwrap();
        two.put(&entries(1, &["gggg", "hhhh", "iiii"])).unwrap();
        assert!(two.put(&entries(4, &["j"])).is_err());
    }
}
