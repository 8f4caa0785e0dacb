//! Request and response: one session asks, another answers.
//!
//! Run it with `cargo run --example request`.

use std::error::Error;
use std::time::Duration;

use ringmq::Broker;
use ringmq_client::{Manager, ReasonCode, SessionBuilder};

const SECONDS: Duration = Duration::from_secs(10);

fn main() -> Result<(), Box<dyn Error>> {
    let broker = Broker::builder().listen("127.0.0.1:0".parse()?).shards(1).start()?;
    let address = format!("mqtt://{}", broker.addresses()[0]);
    let manager = Manager::new()?;
    let server = manager.add(SessionBuilder::quick("server", &*address))?;
    let client = manager.add(SessionBuilder::quick("client", &*address))?;
    manager.wait_all(SECONDS)?;

    // Runs on a thread of the manager's pool, for each request.
    let responder = server.respond("upper", |request| request.payload.to_ascii_uppercase())?;
    responder.wait_subscribed(SECONDS)?;

    let answer = client.request("upper", "hello", SECONDS)?;
    println!("{}", String::from_utf8_lossy(&answer.payload));
    assert_eq!(&answer.payload[..], b"HELLO");

    // The broker says at once when nobody is there to answer.
    let nobody = client.request("lower", "HELLO", SECONDS);
    println!("{nobody:?}");
    assert!(matches!(nobody, Err(ringmq_client::Error::Refused(ReasonCode::NoMatchingSubscribers))));

    println!("answered {}", responder.answered());
    manager.shutdown(SECONDS)?;
    broker.shutdown(SECONDS)?;
    Ok(())
}

#[test]
fn the_example_runs() {
    main().expect("every step of the example works");
}
