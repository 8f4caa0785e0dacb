//! The configuration file: what is read, what is refused and with which words.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use ringmq::Durability;
use ringmq::config::{Config, FlagValue, LogFormat, Sources, reference};

/// Reads a file and flags; gives the error's text.
fn refused(text: &str, flags: &[(&'static str, &str)]) -> String {
    match sources(flags).read("broker.toml", text) {
        Ok(config) => panic!("accepted: {text:?} {flags:?}: {config:?}"),
        Err(error) => error.to_string(),
    }
}

fn accepted(text: &str, flags: &[(&'static str, &str)]) -> Config {
    sources(flags).read("broker.toml", text).unwrap_or_else(|error| panic!("{text:?} {flags:?}: {error}"))
}

fn sources(flags: &[(&'static str, &str)]) -> Sources {
    let flags = flags.iter().map(|(flag, value)| FlagValue { flag, value: (*value).to_owned() }).collect();
    Sources { file: None, flags }
}

const NO_AUTHENTICATION: &str = "lets in whoever reaches it, for this version has no authentication";
const ADDRESSES: &str = "an IP address and a port, such as \"127.0.0.1:1883\" or \"[::1]:1883\", with tls://, \
                         ws:// or wss:// before it for TLS and WebSocket, or a socket's path, such as \
                         \"unix:/run/ringmq.sock\"";
const LEVELS: &str = "one of \"off\", \"error\", \"warn\", \"info\", \"debug\", \"trace\", or levels by module, \
                      such as \"info,ringmq_shards=debug\"";

#[test]
fn bad_files_are_refused_with_line_column_and_what_to_write() {
    let table: &[(&str, String)] = &[
        ("shards = 0", "1:10: shards = 0 is not accepted: write a whole number from 1 to 128, or \"auto\"".into()),
        ("shards = -1", "1:10: shards = -1 is not accepted: write a whole number from 1 to 128, or \"auto\"".into()),
        ("shards = 2.5", "1:10: shards = 2.5 is not accepted: write a whole number from 1 to 128, or \"auto\"".into()),
        ("shard = 2", "1:1: unknown key shard: did you mean shards?".into()),
        (
            "persistence = true",
            "1:1: unknown key persistence: the top of the file has listener, shards, data_dir, storage, limits, log, \
             sys, runtime, shutdown"
                .into(),
        ),
        ("spin_us = 3", "1:1: unknown key spin_us at the top of the file: it belongs below [runtime]".into()),
        (
            "address = \"127.0.0.1:1\"",
            "1:1: unknown key address at the top of the file: it belongs below [[listener]]".into(),
        ),
        ("[limit]\n", "1:2: unknown key limit: did you mean limits?".into()),
        (
            "[limits]\nrecieve_maximum = 10",
            "2:1: unknown key recieve_maximum in [limits]: did you mean receive_maximum?".into(),
        ),
        ("[sys]\nlevel = \"info\"", "2:1: unknown key level in [sys]: it belongs below [log]".into()),
        ("[sys]\nshards = 2", "2:1: unknown key shards in [sys]: it belongs at the top of the file".into()),
        ("[sys]\ntopics = true", "2:1: unknown key topics in [sys]: it has interval_s".into()),
        (
            "[limits]\nreceive_maximum = 0",
            "2:19: limits.receive_maximum = 0 is not accepted: write a whole number from 1 to 65535".into(),
        ),
        (
            "[limits]\nreceive_maximum = \"many\"",
            "2:19: limits.receive_maximum = \"many\" is not accepted: write a whole number from 1 to 65535".into(),
        ),
        (
            "[limits]\npacket_bytes_max = \"16MiBs\"",
            "2:20: limits.packet_bytes_max = \"16MiBs\" is not accepted: write bytes from 64 to 268435460, such as \
             \"64MiB\""
                .into(),
        ),
        (
            "[limits]\npacket_bytes_max = true",
            "2:20: limits.packet_bytes_max = true is not accepted: write bytes from 64 to 268435460, such as \
             \"64MiB\""
                .into(),
        ),
        (
            "[limits]\noverflow = \"block\"",
            "2:12: limits.overflow = \"block\" is not accepted: write one of \"drop_newest\", \"drop_oldest\", \
             \"disconnect\""
                .into(),
        ),
        (
            "[shutdown]\ngrace_s = \"500ms\"",
            "2:11: shutdown.grace_s = \"500ms\" is not accepted: write seconds from 0 to 3600, such as \"30s\"".into(),
        ),
        ("[log]\nlevel = \"loud\"", format!("2:9: log.level = \"loud\" is not accepted: write {LEVELS}")),
        (
            "[log]\nlevel = \"info,=debug\"",
            format!("2:9: log.level = \"info,=debug\" is not accepted: write {LEVELS}"),
        ),
        (
            "limits = 3",
            "1:10: limits is a table: write [limits] on a line of its own, its keys below it".into(),
        ),
        (
            "[listener]\naddress = \"127.0.0.1:1883\"",
            "1:1: listeners are a list of tables: write [[listener]], with two brackets, once for each".into(),
        ),
        (
            "[[listener]]\nallow_anonymous = true",
            "1:1: a listener needs an address: write address = \"127.0.0.1:1883\"".into(),
        ),
        (
            "[[listener]]\naddress = \"localhost\"",
            "2:11: listener.address = \"localhost\" is not accepted: write an IP address and a port, such as \
             \"127.0.0.1:1883\""
                .into(),
        ),
        (
            "[[listener]]\naddress = \"broker.example:1883\"",
            format!("2:11: listener.address = \"broker.example:1883\" is not accepted: write {ADDRESSES}"),
        ),
        (
            "[[listener]]\naddress = \"ssl://0.0.0.0:8883\"",
            "2:11: listener.address = \"ssl://0.0.0.0:8883\" is not accepted: did you mean \"tls://0.0.0.0:8883\"?"
                .into(),
        ),
        (
            "[[listener]]\naddress = \"/run/ringmq.sock\"",
            "2:11: listener.address = \"/run/ringmq.sock\" is not accepted: did you mean \"unix:/run/ringmq.sock\"?"
                .into(),
        ),
        (
            "[[listener]]\naddress = \"127.0.0.1:1\"\n[[listener]]\naddress = \"ws://127.0.0.1:1\"",
            "4:11: ws://127.0.0.1:1 is listened on twice: leave one out".into(),
        ),
        (
            "[[listener]]\naddress = \"unix:/run/x\"\n[[listener]]\naddress = \"unix:/run/x\"",
            "4:11: unix:/run/x is listened on twice: leave one out".into(),
        ),
        (
            "[[listener]]\naddress = \"unix:/run/x\"\nunix_mode = 0o660",
            "3:13: listener.unix_mode = 0o660 is not accepted: write permissions in octal, as a text, such as \
             \"0660\""
                .into(),
        ),
        (
            "[[listener]]\naddress = \"unix:/run/x\"\nunix_mode = \"1777\"",
            "3:13: listener.unix_mode = \"1777\" is not accepted: write permissions in octal, as a text, such as \
             \"0660\""
                .into(),
        ),
        (
            "[[listener]]\naddress = \"127.0.0.1:1\"\nunix_mode = \"0660\"",
            "3:13: unix_mode is for Unix sockets, and 127.0.0.1:1 is a port: leave it out".into(),
        ),
        (
            "[[listener]]\naddress = \"unix:/run/x\"\nallow_anonymous = false",
            "3:19: nobody could connect to unix:/run/x, for this version has no authentication: leave \
             allow_anonymous out for a Unix socket, or write allow_anonymous = true"
                .into(),
        ),
        (
            "[limits]\nwebsocket_frame_bytes_max = 1",
            "2:29: limits.websocket_frame_bytes_max = 1 is not accepted: write bytes from 128 to 268435460, such as \
             \"64MiB\", or \"auto\""
                .into(),
        ),
        (
            "[[listener]]\naddres = \"127.0.0.1:1883\"\naddress = \"127.0.0.1:1883\"",
            "2:1: unknown key addres in [[listener]]: did you mean address?".into(),
        ),
        (
            "[[listener]]\naddress = \"127.0.0.1:1\"\n[[listener]]\naddress = \"127.0.0.1:1\"",
            "4:11: 127.0.0.1:1 is listened on twice: leave one out".into(),
        ),
        (
            "[[listener]]\naddress = \"0.0.0.0:1883\"",
            format!(
                "2:11: 0.0.0.0:1883 {NO_AUTHENTICATION}: write allow_anonymous = true below the address if that is \
                 meant, or listen on 127.0.0.1"
            ),
        ),
        (
            "[[listener]]\naddress = \"127.0.0.1:1883\"\nallow_anonymous = false",
            "3:19: nobody could connect to 127.0.0.1:1883, for this version has no authentication: leave \
             allow_anonymous out for a loopback address, or write allow_anonymous = true"
                .into(),
        ),
        (
            "[runtime]\nbacklog_high_bytes = \"64KiB\"",
            "2:22: backlog_low_bytes (64KiB) is not below backlog_high_bytes (64KiB): a connection that was held back \
             would never go on; lower the one or raise the other"
                .into(),
        ),
        (
            "[runtime]\nlane_messages_max = 1000",
            "2:21: runtime.lane_messages_max = 1000 is not accepted: write a power of two up to 1048576".into(),
        ),
        (
            "[runtime]\ncpus = \"0-\"",
            "2:8: runtime.cpus = \"0-\" is not accepted: write CPUs such as \"0-3,6\", each once".into(),
        ),
        (
            "[runtime]\nsubmission_entries = 16384",
            "2:22: submission_entries (16384) is above completion_entries (8192): lower the one or raise the other"
                .into(),
        ),
        (
            "shards = 4\n[limits]\nmemory_bytes_max = \"32MiB\"",
            "3:20: memory_bytes_max, divided among 4 shards, is less than a packet of packet_bytes_max (16MiB): raise \
             memory_bytes_max to 64MiB or more, or lower packet_bytes_max"
                .into(),
        ),
        (
            "data_dir = \"d\"\n[storage]\ndurability = \"sync\"",
            "3:14: storage.durability = \"sync\" is not accepted: write one of \"memory\", \"written\", \"synced\"".into(),
        ),
        (
            "data_dir = \"d\"\n[[listener]]\naddress = \"127.0.0.1:1\"\ndurability = true",
            "4:14: listener.durability = true is not accepted: write one of \"memory\", \"written\", \"synced\"".into(),
        ),
        (
            "durability = \"synced\"",
            "1:1: unknown key durability at the top of the file: it belongs below [storage]".into(),
        ),
        ("[storage]\ndata_dir = \"d\"", "2:1: unknown key data_dir in [storage]: it belongs at the top of the file".into()),
        (
            "[storage]\ndurability = \"synced\"",
            "2:14: durability \"synced\" needs a directory to keep the log in: add data_dir = \"DIR\" at the top of \
             the file, or ask for \"memory\""
                .into(),
        ),
        (
            "[[listener]]\naddress = \"127.0.0.1:1\"\ndurability = \"written\"",
            "3:14: durability \"written\" needs a directory to keep the log in: add data_dir = \"DIR\" at the top of \
             the file, or ask for \"memory\""
                .into(),
        ),
        (
            "[storage]\nsegment_bytes = \"1GiB\"",
            "2:17: storage.segment_bytes = \"1GiB\" is not accepted: write bytes from 64KiB to 512MiB, such as \
             \"64MiB\""
                .into(),
        ),
        (
            "shards = 2\n[storage]\nbytes_max = \"128MiB\"",
            "3:13: bytes_max, divided among 2 shards, has no room for 4 segments of 32MiB, which is the least: raise \
             bytes_max to 256MiB or more, or lower segment_bytes and limits.packet_bytes_max"
                .into(),
        ),
    ];
    for (text, expect) in table {
        assert_eq!(refused(text, &[]), format!("broker.toml:{expect}"), "for {text:?}");
    }
}

#[test]
fn a_file_that_is_not_toml_is_refused_at_its_place() {
    let error = refused("shards = 2\nshards = 3\n", &[]);
    assert!(error.starts_with("broker.toml:2:1: not TOML: duplicate key"), "{error}");
    let error = refused("[limits\nshards = 3\n", &[]);
    assert!(error.starts_with("broker.toml:1:8: not TOML: "), "{error}");
}

#[test]
fn all_problems_are_told_at_once_and_in_order() {
    let text = "sharts = 1\n[log]\nlevle = \"info\"\nformat = \"xml\"\n";
    let expect = "\
broker.toml:1:1: unknown key sharts: did you mean shards?
broker.toml:3:1: unknown key levle in [log]: did you mean level?
broker.toml:4:10: log.format = \"xml\" is not accepted: write one of \"text\", \"json\"
--spin-us: 1h is not accepted: write microseconds from 0 to 10000, such as \"50us\"";
    assert_eq!(refused(text, &[("--spin-us", "1h")]), expect);
}

#[test]
fn bad_flags_are_refused_by_name() {
    let table = [
        ("--shards", "129", "129 is not accepted: write a whole number from 1 to 128, or \"auto\"".to_owned()),
        (
            "--listen",
            "1883",
            format!("1883 is not accepted: write {ADDRESSES}"),
        ),
        (
            "--listen",
            "[::]:1883",
            format!(
                "[::]:1883 {NO_AUTHENTICATION}: give --allow-anonymous too if that is meant, or listen on 127.0.0.1"
            ),
        ),
        ("--data-dir", "", " is not accepted: write a path".into()),
        (
            "--durability",
            "disk",
            "disk is not accepted: write one of \"memory\", \"written\", \"synced\"".into(),
        ),
        (
            "--durability",
            "written",
            "durability \"written\" needs a directory to keep the log in: give --data-dir DIR too, or ask for \
             \"memory\""
                .into(),
        ),
    ];
    for (flag, value, expect) in table {
        assert_eq!(refused("", &[(flag, value)]), format!("{flag}: {expect}"));
    }
}

#[test]
fn flags_win_over_the_file_and_the_file_over_defaults() {
    let text =
        "shards = 3\n[log]\nlevel = \"warn\"\nformat = \"json\"\n[[listener]]\naddress = \"127.0.0.1:7\"\n";
    let config = accepted(text, &[("--shards", "auto"), ("--log", "debug")]);
    assert_eq!((config.shards, config.log.level.as_str(), config.log.format), (0, "debug", LogFormat::Json));
    assert_eq!(config.listeners.0[0].address.to_string(), "127.0.0.1:7");
    assert_eq!(config.limits, Config::default().limits);

    let config =
        accepted(text, &[("--listen", "0.0.0.0:8"), ("--listen", "[::1]:9"), ("--allow-anonymous", "true")]);
    let addresses: Vec<_> = config.listeners.0.iter().map(|listener| listener.address.to_string()).collect();
    assert_eq!(addresses, ["0.0.0.0:8", "[::1]:9"]);
}

#[test]
fn durability_follows_the_data_directory_and_listeners_may_differ() {
    let table = [
        (accepted("", &[]), Durability::Memory),
        (accepted("", &[("--durability", "memory")]), Durability::Memory),
        (accepted("data_dir = \"d\"", &[]), Durability::Written),
        (accepted("", &[("--data-dir", "d"), ("--durability", "synced")]), Durability::Synced),
        (accepted("data_dir = \"d\"\n[storage]\ndurability = \"memory\"", &[]), Durability::Memory),
    ];
    for (config, expect) in table {
        assert_eq!(config.durability(), expect, "{config:?}");
        assert_eq!(config.listener_durability(), [expect], "{config:?}");
    }
    let text = "data_dir = \"d\"\n[[listener]]\naddress = \"127.0.0.1:1\"\n[[listener]]\naddress = \"127.0.0.1:2\"\n\
                durability = \"memory\"\n[storage]\ndurability = \"synced\"\n";
    assert_eq!(accepted(text, &[]).listener_durability(), [Durability::Synced, Durability::Memory]);
    // Listeners given as flags replace those of the file, with all that was said of them.
    let flags = [("--listen", "127.0.0.1:3"), ("--listen", "127.0.0.1:4")];
    assert_eq!(accepted(text, &flags).listener_durability(), [Durability::Synced; 2]);
}

#[test]
fn a_segment_has_room_for_the_largest_packet_in_whole_pages() {
    let table = [
        ("32MiB", "16MiB", 32 << 20),
        ("64KiB", "60KiB", 64 << 10),
        ("64KiB", "64KiB", 68 << 10),
        ("65537", "100", 68 << 10),
        ("64KiB", "256MiB", (256 << 20) + 4096),
    ];
    for (segment, packet, expect) in table {
        let text =
            format!("[storage]\nsegment_bytes = \"{segment}\"\n[limits]\npacket_bytes_max = \"{packet}\"");
        assert_eq!(accepted(&text, &[]).segment_bytes(), expect, "{segment} {packet}");
    }
}

#[test]
fn units_are_read() {
    let text =
        "[limits]\nmemory_bytes_max = \"1GiB\"\nconnect_timeout_ms = \"3s\"\nsession_expiry_s_max = \"1h\"\n";
    let limits = accepted(text, &[]).limits;
    let read = (limits.memory_bytes_max, limits.connect_timeout_ms, limits.session_expiry_s_max);
    assert_eq!(read, (1 << 30, 3000, 3600));
}

#[test]
fn limits_of_the_whole_broker_are_divided() {
    let mut config = Config::default();
    config.limits.sessions_max = 10;
    config.limits.memory_bytes_max = 1 << 30;
    let shard = config.shard_limits(4);
    assert_eq!((shard.sessions_max, shard.memory_bytes_max), (3, 1 << 28));
    assert_eq!(shard.queue_messages_max, config.limits.queue_messages_max);
    assert_eq!(config.shard_log_bytes_max(4), u64::MAX);
    config.storage.bytes_max = 1 << 30;
    assert_eq!(config.shard_log_bytes_max(4), 1 << 28);
    assert_eq!(accepted("[storage]\nbytes_max = \"unlimited\"", &[]).storage.bytes_max, 0);
}

#[test]
fn the_printed_configuration_is_read_back() {
    let odd = accepted(
        "shards = 2\ndata_dir = \"/tmp/a \\\"b\\\" \\\\ \\u00e9\"\n[[listener]]\naddress = \"[::]:1\"\n\
         allow_anonymous = true\ndurability = \"memory\"\n[[listener]]\naddress = \"127.0.0.1:2\"\n[limits]\noverflow = \"disconnect\"\n\
         session_expiry_s_max = 5\nconnections_max = 7\n[runtime]\ncpus = \"0-1,5\"\n[log]\nlevel = \"info,a::b=trace\"\n\
         [storage]\ndurability = \"synced\"\nbytes_max = \"2GiB\"\nsegment_bytes = \"1MiB\"\n",
        &[],
    );
    for config in [Config::default(), odd] {
        assert_eq!(accepted(&config.to_toml(), &[]), config);
    }
}

#[test]
fn the_program_is_held_to_the_same_ranges() {
    let mut config = Config::default();
    config.limits.receive_maximum = 0;
    let error = config.check().unwrap_err().to_string();
    let expect =
        "configuration: limits.receive_maximum = 0 is not accepted: write a whole number from 1 to 65535";
    assert_eq!(error, expect);
}

#[test]
fn the_reference_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        written == reference(),
        "docs/configuration.md is out of date: run `cargo run -- config-reference > docs/configuration.md`"
    );
}

#[test]
fn the_example_of_the_reference_is_accepted() {
    let reference = reference();
    let example = reference.split("```").nth(1).expect("the introduction has an example");
    accepted(example.trim_start_matches("toml"), &[]);
}
