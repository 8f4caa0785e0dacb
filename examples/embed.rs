//! A broker inside a program: the program publishes and subscribes without a socket, and clients from
//! outside may connect.
//!
//! Run it with `cargo run --example embed`.

use std::error::Error;
use std::time::Duration;

use ringmq::{Broker, Message, QoS};

const SECOND: Duration = Duration::from_secs(1);

fn main() -> Result<(), Box<dyn Error>> {
    // Port 0 takes a free port; `no_listeners()` would keep the broker to the program.
    let broker = Broker::builder().listen("127.0.0.1:0".parse()?).shards(1).start()?;
    println!("listening on {}", broker.addresses()[0]);

    // When this returns, the subscription is known on every shard.
    let temperatures = broker.subscribe("rooms/+/temperature", QoS::AtLeastOnce)?;

    // A ticket may be waited for, awaited, or dropped.
    let ticket = broker.publish(Message::new("rooms/7/temperature", "21.5").qos(QoS::AtLeastOnce))?;
    println!("published: {}", ticket.wait(SECOND)?);

    let message = temperatures.recv_timeout(SECOND)?;
    println!("received: {} = {}", message.topic, String::from_utf8_lossy(&message.payload));
    println!("dropped so far: {}", temperatures.dropped());

    // Clients are told, and what was written to them goes out within the grace.
    drop(temperatures);
    broker.shutdown(5 * SECOND)?;
    println!("stopped");
    Ok(())
}

#[test]
fn the_example_runs() {
    main().expect("every step of the example works");
}
