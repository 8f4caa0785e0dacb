//! A broker that loses messages, repeats them, and changes their order.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use ringmq_codec::{Decoded, PacketType, frame};

use super::{measure, options};
use std::time::Duration;

/// What became of the messages.
#[derive(Debug, Default)]
struct Deeds {
    subscribers: Vec<TcpStream>,
    seen: u64,
    lost: u64,
    repeated: u64,
    swapped: u64,
    /// Held back until the next one went.
    held: Option<Vec<u8>>,
}

impl Deeds {
    fn publish(&mut self, packet: &[u8]) {
        let number = self.seen;
        self.seen += 1;
        if number % 50 == 7 {
            self.lost += 1;
        } else if number % 50 == 20 {
            self.swapped += 1;
            self.held = Some(packet.to_vec());
        } else {
            self.deliver(packet);
            if let Some(held) = self.held.take() {
                self.deliver(&held);
            }
            if number % 50 == 33 {
                self.repeated += 1;
                self.deliver(packet);
            }
        }
    }

    fn deliver(&mut self, packet: &[u8]) {
        for subscriber in &mut self.subscribers {
            subscriber.write_all(packet).unwrap();
        }
    }
}

fn serve(mut stream: TcpStream, deeds: &Mutex<Deeds>) {
    let (mut bytes, mut piece) = (Vec::new(), [0; 65_536]);
    loop {
        let Ok(count @ 1..) = stream.read(&mut piece) else { return };
        bytes.extend_from_slice(&piece[..count]);
        let mut used = 0;
        while let Ok(Decoded::Complete(packet)) = frame(&bytes[used..], u32::MAX) {
            let whole = &bytes[used..used + packet.total];
            match packet.packet_type().unwrap() {
                PacketType::Connect => stream.write_all(&[0x20, 2, 0, 0]).unwrap(),
                PacketType::Subscribe => {
                    deeds.lock().unwrap().subscribers.push(stream.try_clone().unwrap());
                    stream.write_all(&[0x90, 3, packet.body[0], packet.body[1], 0]).unwrap();
                }
                PacketType::Publish => deeds.lock().unwrap().publish(whole),
                _ => {}
            }
            used += packet.total;
        }
        bytes.drain(..used);
    }
}

/// A faulty broker that serves for the rest of the test run.
fn faulty() -> (SocketAddr, Arc<Mutex<Deeds>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let deeds = Arc::new(Mutex::new(Deeds::default()));
    let shared = Arc::clone(&deeds);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let deeds = Arc::clone(&shared);
            thread::spawn(move || serve(stream.unwrap(), &deeds));
        }
    });
    (address, deeds)
}

#[test]
fn every_loss_repetition_and_change_of_order_is_found() {
    let (address, deeds) = faulty();
    let mut options = options(address);
    options.settings.drain = Duration::from_millis(500);
    let report = measure(options.fan_in(1, 1).unwrap());
    let deeds = deeds.lock().unwrap();
    let messages = &report.messages;
    assert_eq!((messages.sent, deeds.seen), (3000, 3000));
    assert!(deeds.lost > 0 && deeds.repeated > 0 && deeds.swapped > 0);
    let found = (messages.lost_qos0, messages.duplicates_qos0, messages.reordered);
    assert_eq!(found, (deeds.lost, deeds.repeated, deeds.swapped));
    assert!(messages.are_wrong() && !report.is_fine());
}
