//! The program's commands, run as a user runs them.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod pki;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use pki::Pki;

const RINGMQ: &str = env!("CARGO_BIN_EXE_ringmq");

fn ringmq(args: &[&str]) -> Output {
    Command::new(RINGMQ).args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A file of this test run, gone when its value is.
struct TempFile(PathBuf);

impl TempFile {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ringmq-{}-{name}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).unwrap();
    }
}

/// A broker on a free port; killed when its value is dropped.
struct Serving {
    child: Child,
    stderr: BufReader<std::process::ChildStderr>,
    address: SocketAddr,
}

impl Serving {
    /// Waits until it is ready.
    fn start(args: &[&str]) -> Self {
        let mut child = Command::new(RINGMQ)
            .args(["--listen", "127.0.0.1:0", "--log-format", "json"])
            .args(args)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let ready = wait_for(&mut stderr, "ready");
        let addresses = ready["fields"]["addresses"].as_str().unwrap();
        let first = addresses.trim_matches(['[', ']']).split(", ").next().unwrap();
        let address = first.parse().unwrap();
        Self { child, stderr, address }
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It may have ended already, as it should.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads log lines until one has this message.
fn wait_for(stderr: &mut impl BufRead, message: &str) -> serde_json::Value {
    let mut seen = String::new();
    loop {
        let start = seen.len();
        assert_ne!(stderr.read_line(&mut seen).unwrap(), 0, "no line {message:?} in:\n{seen}");
        let line: serde_json::Value = serde_json::from_str(&seen[start..]).expect("one JSON object a line");
        if line["fields"]["message"].as_str().is_some_and(|said| said.starts_with(message)) {
            return line;
        }
    }
}

/// A connected MQTT 5 client.
fn client(address: SocketAddr) -> TcpStream {
    connect(TcpStream::connect(address).unwrap())
}

fn connect<S: Read + Write>(mut stream: S) -> S {
    // Clean Start, Keep Alive 60, no properties, client id "c".
    stream.write_all(b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x01c").unwrap();
    let mut connack = [0; 5];
    stream.read_exact(&mut connack).unwrap();
    assert_eq!((connack[0], connack[3]), (0x20, 0));
    stream
}

#[test]
fn version_and_help_say_what_they_should() {
    let version = ringmq(&["--version"]);
    assert_eq!(text(&version.stdout), concat!("ringmq ", env!("CARGO_PKG_VERSION"), "\n"));
    for args in [
        &["--help"][..],
        &["serve", "--help"],
        &["check", "--help"],
        &["doctor", "--help"],
        &["store", "--help"],
        &["bench", "--help"],
        &["bench", "pairs", "--help"],
    ] {
        let help = ringmq(args);
        assert_eq!(help.status.code(), Some(0));
        assert!(text(&help.stdout).contains("Exit codes:"), "{args:?}");
    }
}

#[test]
fn check_prints_the_configuration_in_effect_or_what_is_wrong() {
    let good = TempFile::new("good.toml", "shards = 2\n[limits]\nmemory_bytes_max = \"1GiB\"\n");
    let output = ringmq(&["check", good.path()]);
    assert_eq!(output.status.code(), Some(0));
    let printed = text(&output.stdout);
    for line in
        ["shards = 2", "address = \"127.0.0.1:1883\"", "memory_bytes_max = \"1GiB\"", "level = \"info\""]
    {
        assert!(printed.lines().any(|printed| printed == line), "{line} in\n{printed}");
    }

    let bad = TempFile::new("bad.toml", "shards = 2\n\n[limit]\nmemory_bytes_max = 1\n");
    let output = ringmq(&["check", bad.path()]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(2), String::new()));
    let expect = format!("{}:3:2: unknown key limit: did you mean limits?\n", bad.path());
    assert_eq!(text(&output.stderr), expect);

    let output = ringmq(&["check", "/nonexistent.toml"]);
    assert_eq!(output.status.code(), Some(2));
    let expect = "cannot read the configuration /nonexistent.toml: No such file or directory (os error 2)\n";
    assert_eq!(text(&output.stderr), expect);
}

#[test]
fn bad_usage_is_2_and_what_the_system_refuses_is_1() {
    for args in [
        &["--no-such-flag"][..],
        &["--shards", "none"],
        &["--listen", "0.0.0.0:0"],
        &["--config", "/nonexistent.toml"],
        &["serve", "--log", "loud"],
        &["--durability", "synced"],
        &["store", "verify"],
        &["store", "verify", "/nonexistent"],
    ] {
        let output = ringmq(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", text(&output.stderr));
        assert!(!output.stderr.is_empty(), "{args:?}");
    }
    for args in [
        &["--listen", "192.0.2.1:1883", "--allow-anonymous"][..],
        &["--listen", "127.0.0.1:0", "--data-dir", "/proc/ringmq"],
        &["--listen", "127.0.0.1:0", "--connections-max", "10000000"],
    ] {
        let output = ringmq(args);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {}", text(&output.stderr));
    }
}

#[test]
fn doctor_finds_an_address_in_use() {
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap().to_string();
    let output = ringmq(&["doctor", "--json", "--listen", &address]);
    assert_eq!(output.status.code(), Some(1));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["healthy"], false);
    let checks = report["checks"].as_array().unwrap();
    let listen = checks.iter().find(|check| check["name"] == "listen").unwrap();
    assert_eq!(listen["verdict"], "fail");

    // A free port stays free for as long as nobody else asks for one, so let it be any.
    let output = ringmq(&["doctor", "--listen", "127.0.0.1:0"]);
    let table = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{table}");
    assert!(table.contains("127.0.0.1:0 is free"), "{table}");
}

#[test]
fn a_signal_stops_the_broker_and_its_clients_are_told() {
    for signal in ["TERM", "INT"] {
        let mut serving = Serving::start(&["--shards", "2"]);
        let mut client = client(serving.address);
        serving.signal(signal);
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).unwrap();
        // DISCONNECT, Server shutting down; a reason string may follow.
        let goodbye = rest.windows(3).any(|bytes| bytes[0] == 0xe0 && bytes[2] == 0x8b);
        assert!(goodbye, "{rest:02x?}");
        drop(client);
        wait_for(&mut serving.stderr, "stopped");
        assert_eq!(serving.child.wait().unwrap().code(), Some(0));
    }
}

#[test]
fn a_second_signal_leaves_at_once() {
    let config =
        TempFile::new("linger.toml", "[runtime]\nlinger_ms = \"10m\"\n[shutdown]\ngrace_s = \"1h\"\n");
    let mut serving = Serving::start(&["--shards", "1", "--config", config.path()]);
    // A client that does not leave keeps the graceful stop waiting.
    let _client = client(serving.address);
    serving.signal("TERM");
    wait_for(&mut serving.stderr, "stopping");
    serving.signal("INT");
    assert_eq!(serving.child.wait().unwrap().code(), Some(130));
}

#[test]
fn sighup_reads_certificates_again_and_keeps_the_old_when_the_new_are_bad() {
    let pki = Pki::new();
    let (certificate, key) = (pki.paths("$/server.pem"), pki.paths("$/server.key"));
    let tls = ["--listen", "tls://127.0.0.1:0", "--tls-certificate", &certificate, "--tls-key", &key];
    let mut serving = Serving::start(&[&tls[..], &["--shards", "1"]].concat());
    pki.renew_server();
    serving.signal("HUP");
    let line = wait_for(&mut serving.stderr, "certificates");
    assert!(line["fields"]["message"].as_str().unwrap().starts_with("certificates read again"), "{line}");
    assert!(line["fields"]["address"].as_str().unwrap().starts_with("tls://127.0.0.1:"), "{line}");

    pki.write("server.key", "no key\n");
    serving.signal("HUP");
    let line = wait_for(&mut serving.stderr, "certificates");
    assert_eq!(line["fields"]["message"], "certificates kept as they were");
    assert!(line["fields"]["error"].as_str().unwrap().contains(&key), "{line}");
    assert_eq!(line["level"], "ERROR");

    drop(client(serving.address));
    serving.signal("TERM");
    wait_for(&mut serving.stderr, "stopped");
    assert_eq!(serving.child.wait().unwrap().code(), Some(0));
}

#[test]
fn sighup_without_certificates_changes_nothing() {
    let mut serving = Serving::start(&["--shards", "1"]);
    serving.signal("HUP");
    wait_for(&mut serving.stderr, "SIGHUP: no listener has certificates");
    drop(client(serving.address));
}

/// [MQTT-4.2-1]: over whatever brings bytes in order and without loss.
#[test]
fn a_unix_socket_is_served_with_the_permissions_asked_for_and_removed() {
    let dir = TempDir::new("socket");
    std::fs::create_dir_all(&dir.0).unwrap();
    let path = dir.0.join("s");
    let text = format!(
        "[[listener]]\naddress = \"unix:{}\"\nunix_mode = \"0600\"\n[[listener]]\naddress = \"127.0.0.1:0\"\n",
        path.display()
    );
    let config = TempFile::new("socket.toml", &text);
    let mut child = Command::new(RINGMQ)
        .args(["--config", config.path(), "--shards", "2", "--log-format", "json"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let ready = wait_for(&mut stderr, "ready");
    let addresses = ready["fields"]["addresses"].as_str().unwrap();
    assert!(addresses.starts_with(&format!("[unix:{}, 127.0.0.1:", path.display())), "{addresses}");
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    drop(connect(UnixStream::connect(&path).unwrap()));
    let (_, tcp) = addresses.trim_end_matches(']').split_once(", ").unwrap();
    drop(client(tcp.parse().unwrap()));
    let output = ringmq(&["doctor", "--json", "--listen", &format!("unix:{}", path.display())]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let checks = report["checks"].as_array().unwrap();
    let listen = checks.iter().find(|check| check["name"] == "listen").unwrap();
    assert_eq!(listen["verdict"], "fail", "{listen}");
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-s", "TERM", &pid]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(!path.exists());
}

#[test]
fn check_reads_certificates() {
    let pki = Pki::new();
    let listener = "[[listener]]\naddress = \"tls://127.0.0.1:8883\"\ncertificate = \"$/server.pem\"\nkey = ";
    let good = TempFile::new("tls-good.toml", &pki.paths(&format!("{listener}\"$/server.key\"\n")));
    let output = ringmq(&["check", good.path()]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let bad = TempFile::new("tls-bad.toml", &pki.paths(&format!("{listener}\"$/other.key\"\n")));
    let output = ringmq(&["check", bad.path()]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    let expect =
        format!("{}:4:7: the private key in {} does not belong", bad.path(), pki.paths("$/other.key"));
    assert!(said.starts_with(&expect), "{said}");
}

#[test]
fn levels_by_module_are_kept() {
    let mut serving = Serving::start(&["--log", "info,ringmq_shards=off"]);
    serving.signal("TERM");
    let mut log = String::new();
    serving.stderr.read_to_string(&mut log).unwrap();
    assert!(!log.contains("\"target\":\"ringmq_shards"), "{log}");
    assert!(log.contains("\"target\":\"ringmq::"), "{log}");
}

/// A directory of this test run, gone when its value is.
struct TempDir(PathBuf);

impl TempDir {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("ringmq-cli-{}-{name}", std::process::id())))
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_data_dir_is_made_and_used_by_one_broker_at_a_time() {
    let dir = TempDir::new("used");
    let path = dir.path();
    let mut serving = Serving::start(&["--shards", "1", "--data-dir", path]);
    let output = ringmq(&["--listen", "127.0.0.1:0", "--data-dir", path]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains(path) && said.contains("another process uses"), "{said}");
    let output = ringmq(&["doctor", "--listen", "127.0.0.1:0", "--data-dir", path]);
    let table = text(&output.stdout);
    assert!(table.contains("FAIL  data directory") && table.contains("another process uses"), "{table}");
    // It is free as soon as the process is gone, however it went.
    serving.child.kill().unwrap();
    serving.child.wait().unwrap();
    drop(Serving::start(&["--shards", "1", "--data-dir", path]));
}

/// CRC-32, as a manifest ends with it.
fn crc32(bytes: &[u8]) -> u32 {
    let shift = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), shift))
}

#[test]
fn a_store_of_a_newer_version_is_refused_and_left_as_it_is() {
    let dir = TempDir::new("newer");
    std::fs::create_dir_all(&dir.0).unwrap();
    let body = "ringmq store\nformat = 99\n";
    let manifest = format!("{body}crc = {:08x}\n", crc32(body.as_bytes()));
    for name in ["store", "store.copy"] {
        std::fs::write(dir.0.join(name), &manifest).unwrap();
    }
    let serve = ringmq(&["--listen", "127.0.0.1:0", "--data-dir", dir.path()]);
    let verify = ringmq(&["store", "verify", dir.path()]);
    for (output, code) in [(&serve, 1), (&verify, 2)] {
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains("newer version") && said.contains("format 99"), "{said}");
    }
    assert_eq!(std::fs::read_to_string(dir.0.join("store")).unwrap(), manifest);
}

#[test]
fn a_directory_that_cannot_be_used_is_refused_with_a_sentence() {
    let file = TempFile::new("not-a-directory", "");
    let foreign = TempDir::new("foreign");
    std::fs::create_dir_all(&foreign.0).unwrap();
    std::fs::write(foreign.0.join("holiday.jpg"), "").unwrap();
    let table = [
        // Not writable, whoever asks.
        ("/proc/ringmq", "/proc/ringmq"),
        (file.path(), "directory"),
        (foreign.path(), "holiday.jpg"),
    ];
    for (path, expect) in table {
        let output = ringmq(&["--listen", "127.0.0.1:0", "--data-dir", path]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{path}: {said}");
        assert!(said.contains(path) && said.contains(expect), "{path}: {said}");
        assert_eq!(said.lines().filter(|line| line.contains("ERROR")).count(), 1, "{said}");
    }
    assert_eq!(std::fs::read_dir(&foreign.0).unwrap().count(), 1, "nothing was put there");
}
