//! The same relay as a plain epoll loop: read, collect, and one write for each connection and turn.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;

struct Conn {
    stream: TcpStream,
    /// Once it introduced itself.
    publishes: Option<(bool, u8)>,
    out: Vec<u8>,
}

#[derive(Default)]
struct Relay {
    conns: HashMap<i32, Conn>,
    channels: HashMap<u8, Vec<i32>>,
    dirty: Vec<i32>,
}

/// Starts the loop on a thread of its own; its address.
pub fn start() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::Builder::new().name("epoll".to_owned()).spawn(move || run(&listener)).unwrap();
    addr
}

fn watch(epoll: i32, fd: i32) {
    let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: fd as u64 };
    // SAFETY: the event is valid for a read.
    let code = unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &raw mut event) };
    assert_eq!(code, 0);
}

fn run(listener: &TcpListener) {
    super::load::share_cpu();
    // SAFETY: takes no pointers.
    let epoll = unsafe { libc::epoll_create1(0) };
    watch(epoll, listener.as_raw_fd());
    let mut events = vec![libc::epoll_event { events: 0, u64: 0 }; 256];
    let mut buffer = vec![0; 16 * 1024];
    let mut relay = Relay::default();
    loop {
        // SAFETY: the list is valid for writes of as many events.
        let count = unsafe { libc::epoll_wait(epoll, events.as_mut_ptr(), events.len() as i32, -1) };
        for event in &events[..count.max(0) as usize] {
            let fd = event.u64 as i32;
            if fd == listener.as_raw_fd() {
                let stream = listener.accept().unwrap().0;
                stream.set_nodelay(true).unwrap();
                stream.set_nonblocking(true).unwrap();
                watch(epoll, stream.as_raw_fd());
                let conn = Conn { publishes: None, out: Vec::new(), stream };
                relay.conns.insert(conn.stream.as_raw_fd(), conn);
            } else {
                relay.readable(fd, &mut buffer);
            }
        }
        relay.write_out();
    }
}

impl Relay {
    fn readable(&mut self, fd: i32, buffer: &mut [u8]) {
        let conn = self.conns.get_mut(&fd).unwrap();
        let count = conn.stream.read(buffer).unwrap_or(0);
        if count == 0 {
            self.conns.remove(&fd);
            self.channels.values_mut().for_each(|list| list.retain(|&other| other != fd));
            return;
        }
        match conn.publishes {
            None => {
                conn.publishes = Some((buffer[0] == b'P', buffer[1]));
                conn.out.push(b'!');
                self.dirty.push(fd);
                if buffer[0] == b'S' {
                    self.channels.entry(buffer[1]).or_default().push(fd);
                }
            }
            Some((false, _)) => {}
            Some((true, channel)) => {
                for subscriber in &self.channels[&channel] {
                    let out = &mut self.conns.get_mut(subscriber).unwrap().out;
                    if out.is_empty() {
                        self.dirty.push(*subscriber);
                    }
                    out.extend_from_slice(&buffer[..count]);
                }
            }
        }
    }

    fn write_out(&mut self) {
        for fd in self.dirty.drain(..) {
            let Some(conn) = self.conns.get_mut(&fd) else { continue };
            let mut done = 0;
            while done < conn.out.len() {
                match conn.stream.write(&conn.out[done..]) {
                    Ok(count) => done += count,
                    // The load's windows keep this rare.
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(_) => break,
                }
            }
            conn.out.clear();
        }
    }
}
