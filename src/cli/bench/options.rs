//! From flags to what scenarios have in common.

use std::time::Duration;

use ringmq_codec::{QoS, Version};
use ringmq_loadgen::pattern::Pattern;
use ringmq_loadgen::presets::Options;
use ringmq_loadgen::scenario::{Limit, Pace, Settings, Target};

use super::args::{CommonArgs, MessageArgs};

fn qos(value: u8) -> QoS {
    match value {
        0 => QoS::AtMostOnce,
        1 => QoS::AtLeastOnce,
        _ => QoS::ExactlyOnce,
    }
}

/// What flags say, and defaults for the rest.
pub fn options(common: &CommonArgs, messages: Option<&MessageArgs>) -> Result<Options, String> {
    let (broker, run) = (&common.broker, &common.run);
    let mut options = Options {
        target: Target {
            address: broker.address.clone(),
            ca: broker.ca.clone(),
            certificate: broker.cert.clone(),
            key: broker.key.clone(),
            server_name: broker.server_name.clone(),
            user: broker.user.clone(),
            password: broker.password.clone(),
            sources: broker.source.clone(),
        },
        settings: Settings {
            threads: run.threads,
            cpus: run.cpus.clone(),
            interval: run.interval,
            drain: run.drain,
            stall: run.stall,
            connecting_max: broker.connecting,
            connect_timeout: broker.connect_timeout,
            broker_pid: run.broker_pid,
        },
        version: match &*broker.mqtt {
            "3.1" => Version::V31,
            "5" => Version::V5,
            _ => Version::V311,
        },
        client_id: Pattern::parse(&broker.client_id)?,
        keep_alive_s: broker.keep_alive,
        connect_rate: broker.connect_rate,
        ..Options::default()
    };
    if let Some(messages) = messages {
        options.publish_qos = qos(messages.publish_qos.unwrap_or(messages.qos));
        options.subscribe_qos = qos(messages.subscribe_qos.unwrap_or(messages.qos));
        options.retain = messages.retain;
        options.size = messages.size.clone();
        options.prefix.clone_from(&messages.topic_prefix);
        options.pace = messages.rate.map_or(Pace::Window(messages.window), Pace::Rate);
        options.ramp = messages.ramp;
        options.limit = messages.messages.map_or(Limit::Time(messages.duration), Limit::Messages);
        let usual = if messages.messages.is_some() { Duration::ZERO } else { Duration::from_secs(1) };
        options.warm_up = messages.warm_up.unwrap_or(usual);
    }
    Ok(options)
}
