//! Bytes come back whole and in order, whatever the shards and the sizes.

#![allow(clippy::unwrap_used, reason = "a test fails where it stands")]

mod common;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use common::{config, connect, echo, pattern, read, start_echo};
use ringmq_shards::ShutdownReport;

#[test]
fn a_thousand_small_writes_come_back_in_order() {
    for shards in [1, 2, 4] {
        let runtime = start_echo(config(shards));
        let mut clients: Vec<_> = (0..8).map(|_| connect(&runtime)).collect();
        for client in &mut clients {
            for number in 0..1_000u32 {
                client.write_all(&number.to_be_bytes()).unwrap();
            }
        }
        for client in &mut clients {
            let bytes = read(client, 4_000);
            let numbers = bytes.chunks(4).map(|bytes| u32::from_be_bytes(bytes.try_into().unwrap()));
            assert!(numbers.eq(0..1_000));
        }
        drop(clients);
        assert_eq!(runtime.shutdown(Duration::from_secs(5)).unwrap(), ShutdownReport::default());
    }
}

#[test]
fn bytes_that_come_one_by_one_come_back() {
    let runtime = start_echo(config(1));
    let mut client = connect(&runtime);
    for byte in 0..=255 {
        echo(&mut client, &[byte]);
    }
}

#[test]
fn a_peer_that_closes_its_side_still_gets_its_answer() {
    let runtime = start_echo(config(2));
    for len in [1, 100, 100_000] {
        let mut client = connect(&runtime);
        let bytes = pattern(len);
        client.write_all(&bytes).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut back = Vec::new();
        client.read_to_end(&mut back).unwrap();
        assert_eq!(back, bytes);
    }
}
