//! Every key of the configuration.

use std::path::PathBuf;

use ringmq_engine::OverflowPolicy;
use ringmq_storage::{LEVELS, Level, SEGMENT_BYTES_MAX};
use ringmq_turn::SHARDS_MAX;

use super::address::ListenAddress;
use super::{ClientCertificate, Config, Key, Kind, ListenerConfig, LogFormat, Unit, Value, cpus, key};

/// Largest packet that MQTT can express: its longest Remaining Length and the header before it.
const PACKET_BYTES_MAX: u64 = 268_435_455 + 5;
/// More connections than any machine has been seen to hold.
pub(crate) const CONNECTIONS_MAX: u64 = 10_000_000;
const U16_MAX: u64 = u16::MAX as u64;
const U32_MAX: u64 = u32::MAX as u64;
/// 1 PiB: more than any machine has, and far from overflowing.
const BYTES_MAX: u64 = 1 << 50;
const DAY_S: u64 = 24 * 60 * 60;
/// The names of [`LEVELS`].
const DURABILITY: Kind = Kind::Choice(&["memory", "written", "synced"]);

/// A key that is a file of a listener.
macro_rules! file {
    ($name:literal, $flag:expr, $field:ident, $doc:literal) => {
        Key {
            section: "listener",
            name: $name,
            kind: Kind::Path,
            flag: $flag,
            doc: $doc,
            get: |listener| path_value(&listener.$field),
            set: |listener, value| listener.$field = Some(PathBuf::from(value.text())),
        }
    };
}

/// A key that is a number field of the configuration.
macro_rules! number {
    ($section:literal, $name:literal, $kind:expr, $flag:expr, $($field:ident).+, $doc:literal) => {
        Key {
            section: $section,
            name: $name,
            kind: $kind,
            flag: $flag,
            doc: $doc,
            get: |config| Value::Number(config.$($field).+ as u64),
            set: |config, value| config.$($field).+ = value.number() as _,
        }
    };
}

/// The keys of a `[[listener]]`.
pub const LISTENER_KEYS: &[Key<ListenerConfig>] = &[
    Key {
        section: "listener",
        name: "address",
        kind: Kind::Address,
        flag: Some("--listen"),
        doc: "Where clients are accepted: `127.0.0.1:1883` (or `mqtt://127.0.0.1:1883`, or `tcp://`), \
              `tls://0.0.0.0:8883` (or `mqtts://`), `ws://0.0.0.0:8080` for WebSocket, `wss://0.0.0.0:8443` \
              for WebSocket in TLS, or `unix:/run/ringmq.sock` for a Unix socket. Port 0 takes a free port, \
              which the log names. A socket file that a dead process left is replaced.",
        get: |listener| Value::Text(listener.address.to_string()),
        set: |listener, value| {
            let read = ListenAddress::read(&value.text());
            listener.address = read.expect("the key's kind accepts addresses only");
        },
    },
    Key {
        section: "listener",
        name: "allow_anonymous",
        kind: Kind::Bool,
        flag: Some("--allow-anonymous"),
        doc: "Whether clients are let in without authentication. This version knows clients by their \
              certificates only, so an address beyond loopback must set this to `true`, or require \
              certificates (`client_ca`). On loopback and for a Unix socket it need not be set.",
        get: |listener| listener.allow_anonymous.map_or(Value::Unset, Value::Bool),
        set: |listener, value| listener.allow_anonymous = Some(value.bool()),
    },
    file!(
        "certificate",
        Some("--tls-certificate"),
        certificate,
        "File with the certificate of a `tls://` or `wss://` listener, and behind it those between it and its \
         authority (PEM). Such a listener must have it. SIGHUP reads it, and the other files below, again. \
         The flag counts for all `tls://` and `wss://` listeners of the command line."
    ),
    file!(
        "key",
        Some("--tls-key"),
        key,
        "File with the private key of the certificate (PEM, not encrypted)."
    ),
    file!(
        "client_ca",
        Some("--tls-client-ca"),
        client_ca,
        "File with the authorities whose certificates clients show (PEM). Not set asks clients for none."
    ),
    Key {
        section: "listener",
        name: "client_certificate",
        kind: Kind::Choice(&["required", "optional"]),
        flag: None,
        doc: "Whether a client must show a certificate of `client_ca`, or may come without one. A bad one is \
              refused either way. Not set is `required` with a `client_ca`.",
        get: |listener| {
            let name = listener.client_certificate.map(certificate_name);
            name.map_or(Value::Unset, |name| Value::Text(name.to_owned()))
        },
        set: |listener, value| {
            listener.client_certificate = Some(match value.text().as_str() {
                "required" => ClientCertificate::Required,
                "optional" => ClientCertificate::Optional,
                other => unreachable!("the key's kind does not accept {other}"),
            });
        },
    },
    file!(
        "client_crl",
        None,
        client_crl,
        "File with the lists of certificates that their authorities revoked (PEM): a client that shows one of \
         them is refused. With it, each authority of `client_ca` must have a list there."
    ),
    Key {
        section: "listener",
        name: "unix_mode",
        kind: Kind::Mode,
        flag: None,
        doc: "Permissions of a Unix socket: who may write to it may connect. Not set leaves it to the \
              process's umask.",
        get: |listener| listener.unix_mode.map_or(Value::Unset, |mode| Value::Text(format!("{mode:04o}"))),
        set: |listener, value| {
            listener.unix_mode = Some(key::mode(&value.text()).expect("the key's kind accepts modes only"));
        },
    },
    Key {
        section: "listener",
        name: "durability",
        kind: DURABILITY,
        flag: None,
        doc: "What an acknowledgement to a client of this listener promises, where it differs from \
              `storage.durability`.",
        get: |listener| level_value(listener.durability),
        set: |listener, value| listener.durability = Some(level(&value.text())),
    },
];

/// The keys outside listeners, in the order of the reference.
pub const KEYS: &[Key<Config>] = &[
    number!(
        "",
        "shards",
        Kind::Number { unit: Unit::Count, min: 1, max: SHARDS_MAX as u64, word: Some(("auto", 0)) },
        Some("--shards"),
        shards,
        "Shards to run, each a thread pinned to a CPU of its own. `\"auto\"` runs one on every CPU that the \
         process may use."
    ),
    Key {
        section: "",
        name: "data_dir",
        kind: Kind::Path,
        flag: Some("--data-dir"),
        doc: "Directory that sessions, their queues and retained messages are kept in, so that they survive \
              a restart or a crash. It is made if it is missing, and one broker uses it at a time. Not set \
              keeps them in memory, for as long as the process lives. See \
              [durability.md](durability.md).",
        get: |config| path_value(&config.data_dir),
        set: |config, value| config.data_dir = Some(PathBuf::from(value.text())),
    },
    Key {
        section: "storage",
        name: "durability",
        kind: DURABILITY,
        flag: Some("--durability"),
        doc: "What an acknowledgement of a QoS 1 or 2 message promises: every session that must have the \
              message has it in memory (`memory`), or so that it survives the process being killed \
              (`written`), or so that it survives power loss (`synced`). Not set is `written` with a \
              `data_dir` and `memory` without; the other two need one.",
        get: |config| level_value(config.storage.durability),
        set: |config, value| config.storage.durability = Some(level(&value.text())),
    },
    number!(
        "storage",
        "segment_bytes",
        Kind::number(Unit::Bytes, 1 << 16, SEGMENT_BYTES_MAX as u64),
        None,
        storage.segment_bytes,
        "Bytes of one file of a shard's log. Space is taken from the disk, and given back to it, in pieces of \
         this size; each shard has at least two. What the largest packet (`limits.packet_bytes_max`) needs is \
         taken if that is more."
    ),
    number!(
        "storage",
        "bytes_max",
        Kind::Number { unit: Unit::Bytes, min: 0, max: BYTES_MAX, word: Some(("unlimited", 0)) },
        None,
        storage.bytes_max,
        "Bytes of all files of the log, for the whole broker. Beyond them the log is full, as if the disk \
         were: QoS 1 and 2 messages are refused (MQTT 5: reason 0x97, Quota exceeded) until there is room. 0 \
         leaves it to the file system."
    ),
    number!(
        "limits",
        "connections_max",
        Kind::Number { unit: Unit::Count, min: 1, max: CONNECTIONS_MAX, word: Some(("auto", 0)) },
        Some("--connections-max"),
        connections_max,
        "Connections open at a time, for the whole broker; one more is told so (MQTT 5: reason 0x97, \
         Quota exceeded) and closed. `\"auto\"` takes what the limit on open files allows."
    ),
    number!(
        "limits",
        "memory_bytes_max",
        Kind::number(Unit::Bytes, 1 << 20, BYTES_MAX),
        Some("--memory-bytes-max"),
        limits.memory_bytes_max,
        "Bytes of memory that queued, retained and unsent messages take, for the whole broker. Those that lie \
         in the log of a `data_dir` take none."
    ),
    number!(
        "limits",
        "sessions_max",
        Kind::count(1, U32_MAX),
        None,
        limits.sessions_max,
        "Sessions kept, connected or not, for the whole broker."
    ),
    number!(
        "limits",
        "retained_messages_max",
        Kind::count(0, U32_MAX),
        None,
        limits.retained_messages_max,
        "Retained messages kept, for the whole broker."
    ),
    number!(
        "limits",
        "retained_bytes_max",
        Kind::number(Unit::Bytes, 0, BYTES_MAX),
        None,
        limits.retained_bytes_max,
        "Bytes of retained messages kept, for the whole broker."
    ),
    number!(
        "limits",
        "packet_bytes_max",
        Kind::number(Unit::Bytes, 64, PACKET_BYTES_MAX),
        Some("--packet-bytes-max"),
        limits.packet_bytes_max,
        "Largest packet accepted; announced to MQTT 5 clients as Maximum Packet Size."
    ),
    number!(
        "limits",
        "receive_maximum",
        Kind::count(1, U16_MAX),
        None,
        limits.receive_maximum,
        "QoS 1 and 2 messages that a client may have unacknowledged; announced as Receive Maximum."
    ),
    number!(
        "limits",
        "topic_alias_maximum",
        Kind::count(0, U16_MAX),
        None,
        limits.topic_alias_maximum,
        "Highest topic alias that a client may use; announced as Topic Alias Maximum. 0 forbids them."
    ),
    number!(
        "limits",
        "topic_alias_out_max",
        Kind::count(0, U16_MAX),
        None,
        limits.topic_alias_out_max,
        "Topic aliases used towards a client that allows them; 0 uses none."
    ),
    number!(
        "limits",
        "inflight_messages_max",
        Kind::count(1, U16_MAX),
        None,
        limits.inflight_messages_max,
        "Unacknowledged QoS 1 and 2 messages sent to a client, further bounded by its Receive Maximum."
    ),
    number!(
        "limits",
        "queue_messages_max",
        Kind::count(1, U32_MAX),
        Some("--queue-messages-max"),
        limits.queue_messages_max,
        "QoS 1 and 2 messages that wait for one session, whether it is away or slow."
    ),
    number!(
        "limits",
        "queue_bytes_max",
        Kind::number(Unit::Bytes, 1024, BYTES_MAX),
        None,
        limits.queue_bytes_max,
        "Bytes of the messages that wait for one session."
    ),
    Key {
        section: "limits",
        name: "overflow",
        kind: Kind::Choice(&["drop_newest", "drop_oldest", "disconnect"]),
        flag: None,
        doc: "What becomes of a QoS 1 or 2 message beyond the two limits above: the new message is dropped, \
              the oldest makes room for it, or it is dropped and the client disconnected (reason 0x97). \
              Every drop is counted.",
        get: |config| Value::Text(overflow_name(config.limits.overflow).to_owned()),
        set: |config, value| {
            config.limits.overflow = match value.text().as_str() {
                "drop_newest" => OverflowPolicy::DropNewest,
                "drop_oldest" => OverflowPolicy::DropOldest,
                "disconnect" => OverflowPolicy::Disconnect,
                other => unreachable!("the key's kind does not accept {other}"),
            };
        },
    },
    number!(
        "limits",
        "outbox_bytes_max",
        Kind::number(Unit::Bytes, 1024, 1 << 40),
        None,
        limits.outbox_bytes_max,
        "Bytes not yet taken by a connection's peer beyond which QoS 0 messages to it are dropped and \
         counted."
    ),
    number!(
        "limits",
        "session_expiry_s_max",
        Kind::Number { unit: Unit::Seconds, min: 0, max: U32_MAX, word: Some(("unlimited", U32_MAX)) },
        None,
        limits.session_expiry_s_max,
        "Longest Session Expiry Interval granted, and the life of MQTT 3.x sessions that are not clean."
    ),
    number!(
        "limits",
        "keep_alive_s_max",
        Kind::number(Unit::Seconds, 0, U16_MAX),
        None,
        limits.keep_alive_s_max,
        "Longest Keep Alive granted to MQTT 5 clients; 0 sets no bound."
    ),
    number!(
        "limits",
        "connect_timeout_ms",
        Kind::number(Unit::Milliseconds, 10, 600_000),
        None,
        limits.connect_timeout_ms,
        "Time from a connection's opening to its complete CONNECT."
    ),
    number!(
        "limits",
        "handshake_timeout_ms",
        Kind::number(Unit::Milliseconds, 10, 600_000),
        None,
        handshake_timeout_ms,
        "Time from a connection's acceptance to the end of its TLS and WebSocket handshakes. The time of \
         `connect_timeout_ms` begins then."
    ),
    number!(
        "limits",
        "websocket_frame_bytes_max",
        Kind::Number { unit: Unit::Bytes, min: 128, max: PACKET_BYTES_MAX, word: Some(("auto", 0)) },
        None,
        websocket_frame_bytes_max,
        "Largest WebSocket frame accepted, and largest message of several frames. Packets may be larger or \
         smaller: frames cut them as they like. `\"auto\"` takes `packet_bytes_max`, or 64 KiB if that is \
         more."
    ),
    number!(
        "limits",
        "subscriptions_max",
        Kind::count(1, U32_MAX),
        None,
        limits.subscriptions_max,
        "Subscriptions of one session."
    ),
    number!(
        "limits",
        "topic_levels_max",
        Kind::count(1, U16_MAX),
        None,
        limits.topic_levels_max,
        "Levels of a topic name or filter."
    ),
    Key {
        section: "limits",
        name: "refused_filters",
        kind: Kind::Filters,
        flag: None,
        doc: "Topic filters that nobody may subscribe to, separated by commas and compared as they are \
              written: `a/#` does not refuse `a/b`. SUBACK answers 0x80 for them.",
        get: |config| {
            let filters = config.refused_filters.join(",");
            if filters.is_empty() { Value::Unset } else { Value::Text(filters) }
        },
        set: |config, value| {
            config.refused_filters = value.text().split(',').map(str::to_owned).collect();
        },
    },
    Key {
        section: "log",
        name: "level",
        kind: Kind::Levels,
        flag: Some("--log"),
        doc: "What is logged, to standard error: a level (`off`, `error`, `warn`, `info`, `debug`, \
              `trace`), or levels by module, such as `info,ringmq_shards=debug`. Nothing is logged per \
              message at any level but `trace`.",
        get: |config| Value::Text(config.log.level.clone()),
        set: |config, value| config.log.level = value.text(),
    },
    Key {
        section: "log",
        name: "format",
        kind: Kind::Choice(&["text", "json"]),
        flag: Some("--log-format"),
        doc: "Lines for people, or one JSON object a line.",
        get: |config| Value::Text(format_name(config.log.format).to_owned()),
        set: |config, value| {
            config.log.format = match value.text().as_str() {
                "text" => LogFormat::Text,
                "json" => LogFormat::Json,
                other => unreachable!("the key's kind does not accept {other}"),
            };
        },
    },
    number!(
        "sys",
        "interval_s",
        Kind::number(Unit::Seconds, 0, DAY_S),
        Some("--sys-interval-s"),
        sys.interval_s,
        "Time between two publications of the `$SYS` topics; 0 publishes none."
    ),
    Key {
        section: "runtime",
        name: "cpus",
        kind: Kind::Cpus,
        flag: None,
        doc: "CPUs to pin shards to, in order. Not set takes those that the process may use. More shards than \
              CPUs share them in turn.",
        get: |config| {
            let cpus = &config.runtime.cpus;
            if cpus.is_empty() { Value::Unset } else { Value::Text(cpus::show(cpus)) }
        },
        set: |config, value| {
            config.runtime.cpus = cpus::parse(&value.text()).expect("the key's kind accepts lists only");
        },
    },
    number!(
        "runtime",
        "spin_us",
        Kind::number(Unit::Microseconds, 0, 10_000),
        Some("--spin-us"),
        runtime.spin_us,
        "How long a shard that was just busy looks for work before it sleeps. Up to 50 cuts the round trip of \
         a lone message to less than half and costs CPU; 0 never spins."
    ),
    number!(
        "runtime",
        "lane_messages_max",
        Kind::PowerOfTwo { max: 1 << 20 },
        None,
        runtime.lane_messages_max,
        "Messages that one shard may have under way to another; a full lane slows the publishers that fill it."
    ),
    number!(
        "runtime",
        "commands_max",
        Kind::count(1, 1 << 20),
        None,
        runtime.commands_max,
        "Commands of the embedding program that may wait for one shard."
    ),
    number!(
        "runtime",
        "backlog_high_bytes",
        Kind::number(Unit::Bytes, 4096, 1 << 30),
        None,
        runtime.backlog_high_bytes,
        "Bytes not yet taken by a connection's peer above which its session holds back what can wait. Must be \
         above `backlog_low_bytes`."
    ),
    number!(
        "runtime",
        "backlog_low_bytes",
        Kind::number(Unit::Bytes, 1024, 1 << 30),
        None,
        runtime.backlog_low_bytes,
        "Bytes below which it goes on."
    ),
    number!(
        "runtime",
        "linger_ms",
        Kind::number(Unit::Milliseconds, 0, 600_000),
        None,
        runtime.linger_ms,
        "How long a connection that the broker closes has for its peer to take the rest and close its side; \
         then it is cut."
    ),
    number!(
        "runtime",
        "user_timeout_ms",
        Kind::number(Unit::Milliseconds, 0, 3_600_000),
        None,
        runtime.user_timeout_ms,
        "After how long without an acknowledgement of sent bytes the kernel gives a connection up \
         (`TCP_USER_TIMEOUT`); 0 leaves it to the kernel's retries."
    ),
    number!(
        "runtime",
        "accepts_per_turn_max",
        Kind::count(1, 65_536),
        None,
        runtime.accepts_per_turn_max,
        "Connections that a shard opens in one turn, so that a storm of them does not starve the others."
    ),
    number!(
        "runtime",
        "accept_backlog",
        Kind::count(1, 1 << 20),
        None,
        runtime.accept_backlog,
        "Connections that wait for their accept, per listener and shard; `net.core.somaxconn` caps it."
    ),
    number!(
        "runtime",
        "submission_entries",
        Kind::PowerOfTwo { max: 32_768 },
        None,
        runtime.submission_entries,
        "Submission entries of a shard's ring. Not above `completion_entries`."
    ),
    number!(
        "runtime",
        "completion_entries",
        Kind::PowerOfTwo { max: 65_536 },
        None,
        runtime.completion_entries,
        "Completion entries of a shard's ring."
    ),
    number!(
        "runtime",
        "receive_buffers",
        Kind::PowerOfTwo { max: 32_768 },
        None,
        runtime.receive_buffers,
        "Buffers of 16 KiB that a shard receives into."
    ),
    number!(
        "shutdown",
        "grace_s",
        Kind::number(Unit::Seconds, 0, 3600),
        Some("--grace-s"),
        shutdown.grace_s,
        "Time that connections have, once the broker stops, to take what was written to them."
    ),
];

fn overflow_name(policy: OverflowPolicy) -> &'static str {
    match policy {
        OverflowPolicy::DropNewest => "drop_newest",
        OverflowPolicy::DropOldest => "drop_oldest",
        OverflowPolicy::Disconnect => "disconnect",
    }
}

fn path_value(path: &Option<PathBuf>) -> Value {
    path.as_ref().map_or(Value::Unset, |path| Value::Text(path.to_string_lossy().into_owned()))
}

fn certificate_name(certificate: ClientCertificate) -> &'static str {
    match certificate {
        ClientCertificate::Required => "required",
        ClientCertificate::Optional => "optional",
    }
}

fn level_value(level: Option<Level>) -> Value {
    level.map_or(Value::Unset, |level| Value::Text(level.name().to_owned()))
}

fn level(name: &str) -> Level {
    let level = LEVELS.into_iter().find(|level| level.name() == name);
    level.expect("the key's kind accepts the levels' names only")
}

fn format_name(format: LogFormat) -> &'static str {
    match format {
        LogFormat::Text => "text",
        LogFormat::Json => "json",
    }
}

#[cfg(test)]
mod tests {
    use ringmq_engine::Limits;

    use super::*;

    #[test]
    fn every_limit_of_the_engine_is_a_key_of_the_same_name() {
        let debug = format!("{:#?}", Limits::default());
        let fields = debug.lines().filter_map(|line| line.trim().split_once(": ")).map(|(name, _)| name);
        let ours =
            ["connections_max", "refused_filters", "handshake_timeout_ms", "websocket_frame_bytes_max"];
        let mut fields: Vec<&str> = fields.chain(ours).collect();
        let mut keys: Vec<&str> =
            KEYS.iter().filter(|key| key.section == "limits").map(|key| key.name).collect();
        fields.sort_unstable();
        keys.sort_unstable();
        assert_eq!(fields, keys);
    }

    #[test]
    fn every_level_may_be_written() {
        assert!(matches!(DURABILITY, Kind::Choice(names) if names == LEVELS.map(Level::name)));
    }

    #[test]
    fn every_default_is_accepted_by_its_key() {
        for key in KEYS {
            let value = (key.get)(&Config::default());
            assert!(key.kind.holds(&value), "{}: {value:?}", key.path());
        }
    }
}
