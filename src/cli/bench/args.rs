//! Flags of `ringmq bench`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use ringmq_loadgen::payload::Size;
use ringmq_loadgen::presets::CLIENT_ID;

const EXIT_CODES: &str = "\
Exit codes:
  0    all went as it should
  1    messages were lost, came twice or out of order; or connections, subscriptions or publications failed
  2    the command line or the scenario is wrong, or asks for more than this machine allows
  3    the run could not begin, or a report could not be written
  130  a second SIGINT or SIGTERM cut the run short; after the first, the report is made of what there is";

const EXAMPLES: &str = "\
Examples:
  ringmq bench pairs                                  50 pairs, QoS 0, as fast as a window allows, for 10 s
  ringmq bench fan-out --subscribers 1000 -q 1        one publisher, 1,000 subscribers, QoS 1
  ringmq bench pairs --rate 20000 --html report.html  20,000 messages a second, latency from the intended time
  ringmq bench connect --clients 10000 --connect-rate 2000
  ringmq bench offline --messages 100000 --command 'systemctl restart my-broker'
  ringmq bench run scenario.toml --json a.json
  ringmq bench compare a.json b.json

";

/// The help's end.
fn after_help() -> String {
    format!("{EXAMPLES}{EXIT_CODES}")
}

/// Measure an MQTT broker.
#[derive(Debug, Args)]
#[command(after_help = after_help())]
pub struct BenchArgs {
    #[command(subcommand)]
    pub command: BenchCommand,
}

#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Pairs of a publisher and a subscriber
    #[command(after_help = EXIT_CODES)]
    Pairs {
        /// How many pairs
        #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
        pairs: u32,
        #[command(flatten)]
        messages: MessageArgs,
        #[command(flatten)]
        common: CommonArgs,
    },
    /// Every message goes to every subscriber
    #[command(after_help = EXIT_CODES)]
    FanOut {
        /// How many publishers, all to one topic
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
        publishers: u32,
        /// How many subscribers
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
        subscribers: u32,
        #[command(flatten)]
        messages: MessageArgs,
        #[command(flatten)]
        common: CommonArgs,
    },
    /// Many publishers, and few subscribers that hear all of them
    #[command(after_help = EXIT_CODES)]
    FanIn {
        /// How many publishers, each with a topic of its own
        #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
        publishers: u32,
        /// How many subscribers
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
        subscribers: u32,
        #[command(flatten)]
        messages: MessageArgs,
        #[command(flatten)]
        common: CommonArgs,
    },
    /// The members of a shared subscription share the messages
    #[command(after_help = EXIT_CODES)]
    Shared {
        /// How many publishers, each with a topic of its own
        #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
        publishers: u32,
        /// How many members
        #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
        members: u32,
        #[command(flatten)]
        messages: MessageArgs,
        #[command(flatten)]
        common: CommonArgs,
    },
    /// Clients connect at a rate, and stay for a time
    #[command(after_help = EXIT_CODES)]
    Connect(CrowdArgs),
    /// A crowd of idle clients: what does one cost the broker?
    #[command(after_help = EXIT_CODES)]
    Idle(CrowdArgs),
    /// Clients connect and disconnect over and over
    #[command(after_help = EXIT_CODES)]
    Churn {
        /// How many at a time
        #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
        clients: u32,
        /// How long
        #[arg(long, short = 'd', value_name = "TIME", default_value = "10s", value_parser = time)]
        duration: Duration,
        #[command(flatten)]
        common: CommonArgs,
    },
    /// Very many filters, and messages each of which matches one of them
    #[command(after_help = EXIT_CODES)]
    Subscribe {
        /// How many subscribers, which share the filters
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
        clients: u32,
        /// How many filters, of six levels below the prefix
        #[arg(long, value_name = "N", default_value_t = 200_000, value_parser = clap::value_parser!(u32).range(1..))]
        filters: u32,
        /// Have a + in each filter
        #[arg(long)]
        wildcards: bool,
        /// How many publishers, each to topics at random
        #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
        publishers: u32,
        #[command(flatten)]
        messages: MessageArgs,
        #[command(flatten)]
        common: CommonArgs,
    },
    /// Retained messages: store them, have them replayed, check them, and have them forgotten
    #[command(after_help = EXIT_CODES)]
    Retained {
        /// How many topics, with one message each
        #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
        topics: u32,
        /// How many publishers, which share the topics; at QoS 1 or more
        #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
        publishers: u32,
        /// How many subscribers, each of which gets all
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
        subscribers: u32,
        #[command(flatten)]
        messages: MessageArgs,
        #[command(flatten)]
        common: CommonArgs,
    },
    /// Messages for clients that are away, a command in between, and what they get of it
    #[command(after_help = EXIT_CODES)]
    Offline {
        /// How many subscribers, each of which gets all
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
        clients: u32,
        /// How many publishers, at QoS 1 or more
        #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
        publishers: u32,
        /// Run this with `sh -c` before the clients come back, to kill and restart the broker say
        #[arg(long, value_name = "COMMAND")]
        command: Option<String>,
        #[command(flatten)]
        messages: MessageArgs,
        #[command(flatten)]
        common: CommonArgs,
    },
    /// PINGREQ to PINGRESP, one at a time on each connection
    #[command(after_help = EXIT_CODES)]
    Ping {
        /// How many connections
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
        clients: u32,
        /// How long
        #[arg(long, short = 'd', value_name = "TIME", default_value = "10s", value_parser = time)]
        duration: Duration,
        /// This time at the start is not measured
        #[arg(long, value_name = "TIME", default_value = "1s", value_parser = time)]
        warm_up: Duration,
        #[command(flatten)]
        common: CommonArgs,
    },
    /// Run a scenario file (TOML); --example prints one
    #[command(after_help = EXIT_CODES)]
    Run {
        /// The scenario file
        #[arg(value_name = "FILE", required_unless_present = "example")]
        file: Option<PathBuf>,
        /// Print a scenario file that names every key, and leave
        #[arg(long)]
        example: bool,
        /// The broker, in place of the file's
        #[arg(long, short = 'a', value_name = "ADDRESS")]
        address: Option<String>,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Compare reports that --json wrote: ratios, with their noise
    #[command(after_help = EXIT_CODES)]
    Compare {
        /// The report that others are compared with
        #[arg(value_name = "A.json")]
        base: PathBuf,
        /// The others
        #[arg(value_name = "B.json", required = true)]
        others: Vec<PathBuf>,
        /// Write the table as JSON to this file too
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub struct CrowdArgs {
    /// How many
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    pub clients: u32,
    /// How long they stay once all are connected
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = time)]
    pub hold: Duration,
    #[command(flatten)]
    pub common: CommonArgs,
}

/// What messages are like, and how they are sent.
#[derive(Debug, Args)]
#[command(next_help_heading = "Messages")]
pub struct MessageArgs {
    /// QoS of publications and subscriptions: 0, 1 or 2
    #[arg(long, short, value_name = "QOS", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
    pub qos: u8,
    /// QoS of publications [default: that of --qos]
    #[arg(long, value_name = "QOS", value_parser = clap::value_parser!(u8).range(0..=2))]
    pub publish_qos: Option<u8>,
    /// QoS of subscriptions [default: that of --qos]
    #[arg(long, value_name = "QOS", value_parser = clap::value_parser!(u8).range(0..=2))]
    pub subscribe_qos: Option<u8>,
    /// Payload: bytes (64, 4KiB), a range (16-1024), or a file's content (@payload.json). The first 16 bytes say who
    /// sent it, its place in the sender's order, and when; 8 leave out when, fewer are only counted
    #[arg(long, short, value_name = "SIZE", default_value = "64")]
    pub size: Size,
    /// Have the broker retain the messages
    #[arg(long)]
    pub retain: bool,
    /// What topics begin with; {run} differs from run to run
    #[arg(long, value_name = "PATTERN", default_value = "ringmq-bench/{run}")]
    pub topic_prefix: String,
    /// Messages of each publisher that may be under way, counted until their last subscriber has them, so that no
    /// queue in the broker overflows
    #[arg(long, short, value_name = "N", default_value_t = 100, conflicts_with = "rate")]
    pub window: u32,
    /// Send so many messages a second over all publishers, evenly spread, whatever the broker does; latency counts from
    /// when a message was to be sent
    #[arg(long, short, value_name = "N")]
    pub rate: Option<f64>,
    /// Let the rate rise from nothing for so long
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = time, requires = "rate")]
    pub ramp: Duration,
    /// How long to send, warm-up included
    #[arg(long, short, value_name = "TIME", default_value = "10s", value_parser = time, conflicts_with = "messages")]
    pub duration: Duration,
    /// Send so many messages over all publishers, instead of for a time
    #[arg(long, short = 'n', value_name = "N")]
    pub messages: Option<u64>,
    /// This time at the start is not measured [default: 1s, or none with --messages]
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub warm_up: Option<Duration>,
}

#[derive(Debug, Args)]
pub struct CommonArgs {
    #[command(flatten)]
    pub broker: BrokerArgs,
    #[command(flatten)]
    pub run: RunArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Where the broker is, and who its clients are.
#[derive(Debug, Args)]
#[command(next_help_heading = "Broker and clients")]
pub struct BrokerArgs {
    /// The broker: mqtt://host:1883, mqtts://host:8883, ws://host:80/mqtt, wss://host:443/mqtt, unix:/path
    #[arg(long, short, value_name = "ADDRESS", default_value = "mqtt://127.0.0.1:1883")]
    pub address: String,
    /// Trust the authorities in this file (PEM) in place of the system's
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Show this certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "key")]
    pub cert: Option<PathBuf>,
    /// Its key (PEM)
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub key: Option<PathBuf>,
    /// The name that the broker's certificate must have, where it is not the address's
    #[arg(long, value_name = "NAME")]
    pub server_name: Option<String>,
    /// User name; a pattern as for --client-id
    #[arg(long, short, value_name = "NAME")]
    pub user: Option<String>,
    /// Password
    #[arg(long, short = 'P', value_name = "PASSWORD")]
    pub password: Option<String>,
    /// Version of MQTT: 3.1, 3.1.1 or 5
    #[arg(long, value_name = "VERSION", default_value = "3.1.1", value_parser = ["3.1", "3.1.1", "5"])]
    pub mqtt: String,
    /// Client ids: {i} is the client's number, {group} its group, {run} differs from run to run
    #[arg(long, value_name = "PATTERN", default_value = CLIENT_ID)]
    pub client_id: String,
    /// Keep alive in seconds; 0 for none
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub keep_alive: u16,
    /// Connect from these local addresses in turn, for more connections than one address has ports
    #[arg(long, value_name = "IP,...", value_delimiter = ',')]
    pub source: Vec<IpAddr>,
    /// Connections a second, evenly spread [default: as fast as they come]
    #[arg(long, value_name = "N")]
    pub connect_rate: Option<f64>,
    /// Connections that are opened at a time, without --connect-rate
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub connecting: usize,
    /// How long a connection may take
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = time)]
    pub connect_timeout: Duration,
}

/// How the generator runs.
#[derive(Debug, Args)]
#[command(next_help_heading = "Generator")]
pub struct RunArgs {
    /// I/O threads
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub threads: usize,
    /// Pin the threads to these CPUs, in order [default: the kernel chooses]
    #[arg(long, value_name = "N,...", value_delimiter = ',')]
    pub cpus: Vec<usize>,
    /// How often figures are taken
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = time)]
    pub interval: Duration,
    /// How long to wait for messages that are missing, after the last one came
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = time)]
    pub drain: Duration,
    /// After which time without progress a window stops waiting for what is under way
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = time)]
    pub stall: Duration,
    /// The broker's process, for its CPU time and memory [default: found by its port, where it is on this host]
    #[arg(long, value_name = "PID")]
    pub broker_pid: Option<u32>,
}

/// What is written.
#[derive(Debug, Args)]
#[command(next_help_heading = "Reports")]
pub struct OutputArgs {
    /// Write everything as JSON, for `bench compare` too
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write a page with plots that needs nothing else
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Write the course as CSV, a line for each interval
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Write the times of each interval as an HDR histogram log
    #[arg(long, value_name = "FILE")]
    pub hdr: Option<PathBuf>,
    /// Show no progress
    #[arg(long)]
    pub quiet: bool,
}

/// Reads a time: 10s, 500ms, 2m, 1h, or seconds.
pub fn time(text: &str) -> Result<Duration, String> {
    ringmq_loadgen::file::time(text)
}
