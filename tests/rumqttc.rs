//! rumqttc, a client that we did not write, against a broker in this process: both of its protocol
//! versions, every QoS, one shard and several.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::time::Duration;

use ringmq::Broker;

/// A deadline, not a pace: everything comes far sooner.
const DEADLINE: Duration = Duration::from_secs(30);
const MESSAGES: usize = 500;

fn broker(shards: usize) -> Broker {
    Broker::builder().listen("127.0.0.1:0".parse().unwrap()).shards(shards).start().unwrap()
}

/// The same conversation in both of rumqttc's modules, which have the same names but different types.
macro_rules! conversations {
    ($module:ident, $options:path, $client:path, $event:path, $incoming:path, $qos:path) => {
        mod $module {
            use super::*;
            use $client as Client;
            use $event as Event;
            use $incoming as Incoming;
            use $options as MqttOptions;
            use $qos as QoS;

            const QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

            /// Publishes to itself and checks that each message comes once and in order.
            fn there_and_back(broker: &Broker, qos: QoS) {
                let port = broker.addresses()[0].port();
                let mut options =
                    MqttOptions::new(format!("there-and-back-{}", qos as u8), "127.0.0.1", port);
                options.set_keep_alive(Duration::from_secs(60));
                let (client, mut connection) = Client::new(options, MESSAGES + 8);
                let topic = format!("rumqttc/{}", qos as u8);
                client.subscribe(&topic, qos).unwrap();
                let mut received = 0;
                while received < MESSAGES {
                    let event =
                        connection.recv_timeout(DEADLINE).expect("an event in time").expect("no error");
                    match event {
                        Event::Incoming(Incoming::SubAck(_)) => {
                            for number in 0..MESSAGES {
                                client.publish(topic.clone(), qos, false, number.to_string()).unwrap();
                            }
                        }
                        Event::Incoming(Incoming::Publish(message)) => {
                            assert_eq!(message.payload, received.to_string());
                            received += 1;
                        }
                        _ => {}
                    }
                }
                client.disconnect().unwrap();
                while let Ok(Ok(_)) = connection.recv_timeout(DEADLINE) {}
            }

            #[test]
            fn messages_go_there_and_back() {
                for shards in [1, 2, 4] {
                    let broker = broker(shards);
                    for qos in QOS {
                        there_and_back(&broker, qos);
                    }
                    broker.shutdown(DEADLINE).unwrap();
                }
            }
        }
    };
}

conversations!(v4, rumqttc::MqttOptions, rumqttc::Client, rumqttc::Event, rumqttc::Incoming, rumqttc::QoS);
conversations!(
    v5,
    rumqttc::v5::MqttOptions,
    rumqttc::v5::Client,
    rumqttc::v5::Event,
    rumqttc::v5::Incoming,
    rumqttc::v5::mqttbytes::QoS
);
