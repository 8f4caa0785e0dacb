//! Where log lines go: standard error, at the levels and in the form that were asked for.

use std::io::IsTerminal;

use ringmq::config::{LogConfig, LogFormat};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Starts logging, once in a process.
pub fn start(config: &LogConfig) {
    let levels: Targets = config.level.parse().expect("the configuration was checked");
    let registry = tracing_subscriber::registry().with(levels);
    let lines = fmt::layer().with_writer(std::io::stderr);
    match config.format {
        LogFormat::Text => {
            let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            registry.with(lines.with_ansi(colours)).init();
        }
        LogFormat::Json => registry.with(lines.json()).init(),
    }
}
