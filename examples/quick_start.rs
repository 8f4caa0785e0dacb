//! The classic first steps with MQTT: connect and stay connected, subscribe at QoS 1, publish ten messages a
//! second apart, leave cleanly on Ctrl-C.
//!
//! Run it with `cargo run --example quick_start -- mqtt://127.0.0.1:1883`; a number behind it is the interval
//! in milliseconds. Without an address it starts a broker of its own.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ringmq::client::{EventKind, Manager, Message, SessionBuilder};
use ringmq::{Broker, QoS};

const TOPIC: &str = "greetings";
const MESSAGES: u32 = 10;

fn run(address: &str, interval: Duration) -> Result<u32, Box<dyn Error>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted))?;
    }

    let manager = Manager::new()?;
    manager.on_event(|event| match event.kind {
        EventKind::Connected { address, .. } => println!("connected to {address}"),
        EventKind::Disconnected { why: Some(why) } => println!("no connection: {why}"),
        EventKind::Reconnecting { attempt, delay } => println!("try {attempt} follows in {delay:?}"),
        _ => {}
    });

    // It connects in the background, and again whenever the connection is lost.
    let session = manager.add(SessionBuilder::quick("quick-start", address))?;
    let listener = session.listen(TOPIC)?;
    session.wait(Duration::from_secs(30))?;

    let mut received = 0;
    for number in 1..=MESSAGES {
        if interrupted.load(Ordering::Relaxed) {
            break;
        }
        let message = Message::new(TOPIC, format!("hello, number {number}")).qos(QoS::AtLeastOnce);
        let delivery = session.publish(message)?;
        println!("published {number}: {}", delivery.wait(Duration::from_secs(10))?);
        while let Ok(message) = listener.recv(interval) {
            println!("received from {}: {}", message.topic, String::from_utf8_lossy(&message.payload));
            received += 1;
        }
    }

    // The broker is told, so that it publishes no will.
    manager.shutdown(Duration::from_secs(5))?;
    println!("goodbye");
    Ok(received)
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next();
    let interval = arguments.next().map_or(Ok(1_000), |ms| ms.parse())?;
    let interval = Duration::from_millis(interval);
    let Some(address) = address else {
        let broker = Broker::builder().listen("127.0.0.1:0".parse()?).shards(1).start()?;
        run(&format!("mqtt://{}", broker.addresses()[0]), interval)?;
        broker.shutdown(Duration::from_secs(5))?;
        return Ok(());
    };
    run(&address, interval)?;
    Ok(())
}

#[test]
fn the_example_runs() {
    let broker = Broker::builder().listen("127.0.0.1:0".parse().expect("an address")).shards(1).start();
    let broker = broker.expect("a broker");
    let address = format!("mqtt://{}", broker.addresses()[0]);
    let received = run(&address, Duration::from_millis(200)).expect("every step of the example works");
    assert_eq!(received, MESSAGES);
}
