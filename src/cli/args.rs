//! Flags and subcommands. A flag's value is read by its configuration key, so that flags and the file
//! accept the same and complain alike.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use ringmq::config::{FlagValue, Sources};

use super::bench::args::BenchArgs;

const EXIT_CODES: &str = "\
Exit codes:
  0    stopped as asked, or nothing is wrong
  1    the broker could not start or failed, or `doctor` found a problem
  2    the command line or the configuration is wrong
  130  a second SIGINT or SIGTERM cut the graceful stop short";

const STORE_EXIT_CODES: &str = "\
Exit codes:
  0    nothing is wrong
  1    damage was found
  2    the command line is wrong, or the directory cannot be read";

/// A thread-per-core MQTT broker for Linux.
#[derive(Debug, Parser)]
#[command(name = "ringmq", version, about, after_help = EXIT_CODES, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub serve: ServeArgs,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the broker; the default
    #[command(after_help = EXIT_CODES)]
    Serve(ServeArgs),
    /// Check a configuration file and print the configuration in effect
    #[command(after_help = EXIT_CODES)]
    Check(CheckArgs),
    /// Say what the kernel, limits or seccomp forbid, and how to fix it
    #[command(after_help = EXIT_CODES)]
    Doctor(DoctorArgs),
    /// Look into a data directory without changing it
    #[command(after_help = STORE_EXIT_CODES)]
    Store(StoreArgs),
    /// Measure a broker, this one or any other: throughput, latency, connections, losses
    Bench(Box<BenchArgs>),
    /// Print docs/configuration.md
    #[command(hide = true)]
    ConfigReference,
}

#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The configuration file (TOML)
    #[arg(value_name = "FILE")]
    pub config: PathBuf,
}

#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub serve: ServeArgs,
}

#[derive(Debug, Args)]
pub struct StoreArgs {
    #[command(subcommand)]
    pub command: StoreCommand,
}

#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// Read all of it, and say what is damaged
    #[command(after_help = STORE_EXIT_CODES)]
    Verify(StoreReadArgs),
    /// Count what it holds: sessions, messages and bytes, by shard and by kind of record
    #[command(after_help = STORE_EXIT_CODES)]
    Stats(StoreReadArgs),
    /// Print its records in the order in which they were written, one a line: shard, segment:place, number,
    /// kind, and what it says
    #[command(after_help = STORE_EXIT_CODES)]
    Dump(DumpArgs),
}

#[derive(Debug, Args)]
pub struct StoreReadArgs {
    /// The data directory
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct DumpArgs {
    /// The data directory
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Only what is about the sessions of this client id and the messages queued for them
    #[arg(long, value_name = "ID")]
    pub client: Option<String>,
    /// Only messages to this topic, what refers to them, and subscriptions to just it
    #[arg(long, value_name = "TOPIC")]
    pub topic: Option<String>,
    /// Print so many records at most [default: all]
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Print so many bytes of each payload at most
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub payload_bytes: usize,
}

/// What the broker runs with. Each flag wins over the key of the configuration file that its help names.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Read this configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Accept clients here; may be repeated: ADDR:PORT, with tls://, ws:// or wss:// before it for TLS and
    /// WebSocket, or unix:PATH [default: 127.0.0.1:1883] (listener.address)
    #[arg(long, value_name = "ADDRESS")]
    listen: Vec<String>,
    /// The certificate of the tls:// and wss:// listeners given here (listener.certificate)
    #[arg(long, value_name = "FILE")]
    tls_certificate: Option<String>,
    /// Its private key (listener.key)
    #[arg(long, value_name = "FILE")]
    tls_key: Option<String>,
    /// Let in only clients that show a certificate of these authorities (listener.client_ca)
    #[arg(long, value_name = "FILE")]
    tls_client_ca: Option<String>,
    /// Let in clients without authentication beyond loopback too (listener.allow_anonymous)
    #[arg(long)]
    allow_anonymous: bool,
    /// Threads, each pinned to a CPU [default: one on every CPU] (shards)
    #[arg(long, value_name = "N")]
    shards: Option<String>,
    /// Keep sessions, queues and retained messages here, to survive a restart (data_dir)
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// What acknowledgements promise: memory, written or synced [default: written with a data directory]
    /// (storage.durability)
    #[arg(long, value_name = "LEVEL")]
    durability: Option<String>,
    /// Levels: off, error, warn, info, debug, trace, or by module: info,ringmq_shards=debug (log.level)
    #[arg(long, value_name = "LEVELS")]
    log: Option<String>,
    /// text or json (log.format)
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    /// Microseconds that a busy shard looks for work before it sleeps (runtime.spin_us)
    #[arg(long, value_name = "N")]
    spin_us: Option<String>,
    /// Connections open at a time (limits.connections_max)
    #[arg(long, value_name = "N")]
    connections_max: Option<String>,
    /// Bytes of memory for queued, retained and unsent messages (limits.memory_bytes_max)
    #[arg(long, value_name = "SIZE")]
    memory_bytes_max: Option<String>,
    /// Largest packet accepted (limits.packet_bytes_max)
    #[arg(long, value_name = "SIZE")]
    packet_bytes_max: Option<String>,
    /// Messages that wait for one session (limits.queue_messages_max)
    #[arg(long, value_name = "N")]
    queue_messages_max: Option<String>,
    /// Seconds between publications of the $SYS topics; 0 for none (sys.interval_s)
    #[arg(long, value_name = "TIME")]
    sys_interval_s: Option<String>,
    /// Seconds that connections have to take what was written once the broker stops (shutdown.grace_s)
    #[arg(long, value_name = "TIME")]
    grace_s: Option<String>,
}

impl ServeArgs {
    /// What the configuration is to be read from.
    pub fn sources(&self) -> Sources {
        let single = [
            ("--tls-certificate", &self.tls_certificate),
            ("--tls-key", &self.tls_key),
            ("--tls-client-ca", &self.tls_client_ca),
            ("--shards", &self.shards),
            ("--data-dir", &self.data_dir),
            ("--durability", &self.durability),
            ("--log", &self.log),
            ("--log-format", &self.log_format),
            ("--spin-us", &self.spin_us),
            ("--connections-max", &self.connections_max),
            ("--memory-bytes-max", &self.memory_bytes_max),
            ("--packet-bytes-max", &self.packet_bytes_max),
            ("--queue-messages-max", &self.queue_messages_max),
            ("--sys-interval-s", &self.sys_interval_s),
            ("--grace-s", &self.grace_s),
        ];
        let mut flags: Vec<FlagValue> =
            self.listen.iter().map(|value| FlagValue { flag: "--listen", value: value.clone() }).collect();
        if self.allow_anonymous {
            flags.push(FlagValue { flag: "--allow-anonymous", value: "true".to_owned() });
        }
        flags.extend(
            single.into_iter().filter_map(|(flag, value)| Some(FlagValue { flag, value: value.clone()? })),
        );
        Sources { file: self.config.clone(), flags }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::CommandFactory;
    use ringmq::config::{KEYS, LISTENER_KEYS};

    use super::*;

    #[test]
    fn every_flag_is_a_key_and_every_keys_flag_exists() {
        let command = Cli::command();
        let not_keys = ["--config", "--help", "--version"];
        let flags: BTreeSet<String> = command
            .get_arguments()
            .filter_map(|arg| Some(format!("--{}", arg.get_long()?)))
            .filter(|flag| !not_keys.contains(&flag.as_str()))
            .collect();
        let keys = KEYS.iter().filter_map(|key| key.flag);
        let keys = keys.chain(LISTENER_KEYS.iter().filter_map(|key| key.flag)).map(str::to_owned).collect();
        assert_eq!(flags, keys);
    }

    #[test]
    fn every_flag_names_its_key_and_reaches_it() {
        for key in KEYS.iter().filter(|key| key.flag.is_some()) {
            let flag = key.flag.expect("filtered");
            let cli = Cli::parse_from(["ringmq", flag, "no such value\0"]);
            let error = cli.serve.sources().read("", "").expect_err("no key takes such a value");
            assert!(error.to_string().starts_with(&format!("{flag}: ")), "{error}");
            let help = Cli::command().get_arguments().find_map(|arg| {
                (Some(flag) == arg.get_long().map(|long| format!("--{long}")).as_deref())
                    .then(|| arg.get_help().map(ToString::to_string).unwrap_or_default())
            });
            assert!(help.is_some_and(|help| help.contains(&key.path())), "the help of {flag} lacks its key");
        }
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
