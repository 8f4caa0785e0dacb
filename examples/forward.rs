//! Two brokers, and a forwarder that carries temperatures from the one to the other.
//!
//! Run it with `cargo run --example forward`.

use std::error::Error;
use std::time::Duration;

use ringmq::Broker;
use ringmq_client::{
    Filter, ForwardQos, Forwarder, Manager, Message, QoS, SessionBuilder, Source, Transform,
};

const SECONDS: Duration = Duration::from_secs(10);

fn main() -> Result<(), Box<dyn Error>> {
    let start =
        || Broker::builder().listen("127.0.0.1:0".parse()?).shards(1).start().map_err(Box::<dyn Error>::from);
    let (cellar, attic) = (start()?, start()?);
    let address = |broker: &Broker| format!("mqtt://{}", broker.addresses()[0]);

    let manager = Manager::new()?;
    let from = manager.add(SessionBuilder::quick("from-cellar", address(&cellar)))?;
    let to = manager.add(SessionBuilder::quick("to-attic", address(&attic)))?;

    // Whatever is under way is acknowledged in the cellar only when the attic has it.
    let forwarder = Forwarder::builder("cellar-to-attic")
        .source(Source::new(&from, "rooms/+/t"))
        .target(&to)
        .map("rooms/+/t", "house/cellar/{1}/celsius")
        .filter(Filter::payload_bytes(..=1024))
        .transform(Transform::json_get("$.celsius")?)
        .metadata()
        .qos(ForwardQos::Always(QoS::AtLeastOnce))
        .start()?;
    manager.wait_all(SECONDS)?;
    forwarder.wait_subscribed(SECONDS)?;

    let listener = to.listen("house/#")?;
    listener.wait_subscribed(SECONDS)?;
    for payload in [r#"{"celsius":12.5}"#, "not JSON"] {
        from.publish(Message::new("rooms/7/t", payload).qos(QoS::AtLeastOnce))?.wait(SECONDS)?;
    }
    let message = listener.recv(SECONDS)?;
    println!("{} = {}", message.topic, String::from_utf8_lossy(&message.payload));
    for (name, value) in message.properties.iter().flat_map(|properties| &properties.user) {
        println!("  {name}: {value}");
    }
    assert_eq!((message.topic.as_str(), &message.payload[..]), ("house/cellar/7/celsius", &b"12.5"[..]));

    // It waits until what was received has gone its way.
    let stats = forwarder.stop(SECONDS);
    println!("received {}, sent {}, failed {}", stats.received, stats.sent, stats.failed());
    assert_eq!((stats.received, stats.sent, stats.failed(), stats.in_progress()), (2, 1, 1, 0));

    manager.shutdown(SECONDS)?;
    cellar.shutdown(SECONDS)?;
    attic.shutdown(SECONDS)?;
    Ok(())
}

#[test]
fn the_example_runs() {
    main().expect("every step of the example works");
}
