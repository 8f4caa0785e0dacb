//! Many sessions in one process, and what each of them takes of its memory.
//!
//! Run it with `cargo run --release --example many_sessions -- 10000 mqtt://127.0.0.1:1883`; it needs that many
//! open files (`ulimit -n`). Without an address it starts a broker in a process of its own.

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ringmq::client::{Manager, Message, SessionBuilder};
use ringmq::{Broker, QoS};

const SESSIONS: usize = 10_000;
const MINUTE: Duration = Duration::from_secs(60);

/// Bytes of memory that this process has of its own.
fn resident_bytes() -> Result<usize, Box<dyn Error>> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let mut pages = statm.split_whitespace().skip(1).map(str::parse::<usize>);
    let resident = pages.next().ok_or("statm has no second number")??;
    let shared = pages.next().ok_or("statm has no third number")??;
    Ok((resident - shared) * 4096)
}

fn run(address: &str, sessions: usize) -> Result<(), Box<dyn Error>> {
    let manager = Manager::new()?;
    // What is there before the first session, the first connection included.
    manager.add(SessionBuilder::quick("many-first", address))?.wait(MINUTE)?;
    let before = resident_bytes()?;
    let began = Instant::now();
    for n in 0..sessions {
        manager.add(SessionBuilder::quick(format!("many-{n}"), address))?;
    }
    manager.wait_all(MINUTE)?;
    let each = (resident_bytes()? - before) / sessions.max(1);
    println!("{sessions} sessions are connected after {:?}: {each} bytes each", began.elapsed());

    // They are all there: each gets the message, and each publishes one.
    let listener = manager.listen("many/all")?;
    listener.wait_subscribed(MINUTE)?;
    let message = Message::new("many/all", "hello").qos(QoS::AtLeastOnce);
    manager.publish_to("many-first", message)?.wait(MINUTE)?;
    for _ in 0..=sessions {
        listener.recv(MINUTE)?;
    }
    println!("each of them received a message");
    for (_, delivery) in manager.publish_all(Message::new("many/own", "hello").qos(QoS::AtLeastOnce)) {
        delivery?.wait(MINUTE)?;
    }
    println!("each of them published one");
    manager.shutdown(MINUTE)?;
    Ok(())
}

/// Runs a broker until its standard input is closed.
fn serve() -> Result<(), Box<dyn Error>> {
    let broker = Broker::builder().listen("127.0.0.1:0".parse()?).shards(1).start()?;
    println!("mqtt://{}", broker.addresses()[0]);
    std::io::stdout().flush()?;
    std::io::stdin().lines().for_each(drop);
    broker.shutdown(MINUTE)?;
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let first = arguments.next();
    if first.as_deref() == Some("--serve") {
        return serve();
    }
    let sessions = first.map_or(Ok(SESSIONS), |count| count.parse())?;
    if let Some(address) = arguments.next() {
        return run(&address, sessions);
    }
    let own = std::env::current_exe()?;
    let mut broker = Command::new(own).arg("--serve").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut address = String::new();
    BufReader::new(broker.stdout.take().ok_or("the broker has no output")?).read_line(&mut address)?;
    let outcome = run(address.trim(), sessions);
    drop(broker.stdin.take());
    broker.wait()?;
    outcome
}

#[test]
fn the_example_runs() {
    let broker = Broker::builder().listen("127.0.0.1:0".parse().expect("an address")).shards(1).start();
    let broker = broker.expect("a broker");
    run(&format!("mqtt://{}", broker.addresses()[0]), 100).expect("every step of the example works");
}
