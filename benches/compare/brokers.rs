//! The brokers: how each is found, started on one CPU, waited for, and ended.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// How long a broker may take until it listens.
const START_S_MAX: u64 = 10;
/// How much is repeated of what a broker said that did not start.
const SAID_CHARS_MAX: usize = 200;
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A broker of the command line: NAME=COMMAND:PORT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pub name: String,
    pub command: String,
    pub port: u16,
}

impl FromStr for Peer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text} is not NAME=COMMAND:PORT, as in other='/opt/other --port 1999:1999'");
        let (name, rest) = text.split_once('=').ok_or_else(wrong)?;
        let (command, port) = rest.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().ok().filter(|port| *port > 0).ok_or_else(wrong)?;
        if name.is_empty() || command.trim().is_empty() || name.contains('|') {
            return Err(wrong());
        }
        Ok(Self { name: name.to_owned(), command: command.to_owned(), port })
    }
}

/// What a broker is started by.
#[derive(Clone, Debug)]
enum Kind {
    Ringmq(PathBuf),
    /// This program.
    Floor(PathBuf),
    Mosquitto(PathBuf),
    Rumqttd(PathBuf),
    Peer(Peer),
}

/// A broker that can be started.
#[derive(Clone, Debug)]
pub struct Broker {
    pub name: String,
    /// What it says of its version, or its command.
    pub version: String,
    kind: Kind,
}

/// Which brokers there are, and which there are not.
pub struct Found {
    pub brokers: Vec<Broker>,
    /// In words, with the remedy.
    pub missing: Vec<String>,
}

/// Finds all of them; Ringmq is the first, and the floor the second.
pub fn find(ringmq: &Path, floor: &Path, peers: &[Peer]) -> Found {
    let mut found = Found { brokers: Vec::new(), missing: Vec::new() };
    let mut add = |name: &str, version: String, kind| {
        found.brokers.push(Broker { name: name.to_owned(), version, kind });
    };
    add("ringmq", said_version(ringmq, "--version"), Kind::Ringmq(ringmq.to_owned()));
    add("floor", "passes the same bytes on".to_owned(), Kind::Floor(floor.to_owned()));
    match program("mosquitto", "RINGMQ_MOSQUITTO") {
        // It has no flag that tells just its version.
        Some(path) => add("mosquitto", said_version(&path, "-h"), Kind::Mosquitto(path)),
        None => found.missing.push(missing("mosquitto", "RINGMQ_MOSQUITTO", "apt-get install mosquitto")),
    }
    let mut add = |name: &str, version: String, kind| {
        found.brokers.push(Broker { name: name.to_owned(), version, kind });
    };
    match program("rumqttd", "RINGMQ_RUMQTTD") {
        Some(path) => add("rumqttd", said_version(&path, "--version"), Kind::Rumqttd(path)),
        None => found.missing.push(missing("rumqttd", "RINGMQ_RUMQTTD", "cargo install rumqttd")),
    }
    for peer in peers {
        found.brokers.push(Broker {
            name: peer.name.clone(),
            version: peer.command.clone(),
            kind: Kind::Peer(peer.clone()),
        });
    }
    found
}

fn missing(name: &str, variable: &str, remedy: &str) -> String {
    format!("{name} is left out: it is not in PATH; {remedy}, or name the program in {variable}")
}

/// A program named by a variable, or else in PATH or where Debian has servers.
fn program(name: &str, variable: &str) -> Option<PathBuf> {
    if let Some(path) = std::env::var_os(variable) {
        return Some(PathBuf::from(path)).filter(|path| path.is_file());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    folders.map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// The first line that a program says when asked.
fn said_version(program: &Path, flag: &str) -> String {
    let said = Command::new(program).arg(flag).stdin(Stdio::null()).output();
    let said = said.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    said.lines().next().unwrap_or("unknown").trim().to_owned()
}

/// A broker that runs, until this is dropped.
pub struct Running {
    child: Child,
    /// Where it listens.
    pub port: u16,
    folder: PathBuf,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Where and how to start.
pub struct Start<'a> {
    /// The CPU that it gets.
    pub cpu: usize,
    /// Whether clients speak MQTT 5, which some have at a port of its own.
    pub is_v5: bool,
    /// A directory for its files.
    pub folder: &'a Path,
}

impl Broker {
    /// Whether it is the floor.
    pub fn is_floor(&self) -> bool {
        matches!(self.kind, Kind::Floor(_))
    }

    /// Starts it and waits until it listens.
    ///
    /// # Errors
    /// What went wrong.
    pub fn start(&self, start: &Start<'_>) -> Result<Running, String> {
        let folder = start.folder.join(&self.name);
        fs::create_dir_all(&folder).map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
        let port = match &self.kind {
            Kind::Ringmq(_) | Kind::Floor(_) | Kind::Mosquitto(_) | Kind::Rumqttd(_) => free_port()?,
            Kind::Peer(peer) => peer.port,
        };
        if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Err(format!("something listens at port {port} already: end it"));
        }
        let log = folder.join("log");
        let mut command = self.command(port, start.is_v5, &folder)?;
        command.stdin(Stdio::null());
        let file =
            fs::File::create(&log).map_err(|error| format!("cannot write {}: {error}", log.display()))?;
        command.stdout(file.try_clone().map_err(|error| error.to_string())?).stderr(file);
        let child =
            spawn_on(start.cpu, &mut command).map_err(|error| format!("cannot start {self:?}: {error}"))?;
        let mut running = Running { child, port, folder };
        let until = Instant::now() + Duration::from_secs(START_S_MAX);
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            let said = || {
                let text = fs::read_to_string(&log).unwrap_or_default();
                let said = text.split_whitespace().collect::<Vec<_>>().join(" ");
                if said.is_empty() {
                    "it said nothing".to_owned()
                } else {
                    said.chars().take(SAID_CHARS_MAX).collect()
                }
            };
            if let Ok(Some(status)) = running.child.try_wait() {
                return Err(format!("it ended at once, with {status}: {}", said()));
            }
            if Instant::now() > until {
                return Err(format!("it does not listen at port {port} after {START_S_MAX} s: {}", said()));
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        Ok(running)
    }

    fn command(&self, port: u16, is_v5: bool, folder: &Path) -> Result<Command, String> {
        let config = |text: String| {
            // rumqttd knows by the ending what it reads.
            let path = folder.join("config.toml");
            fs::write(&path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
            Ok::<_, String>(path)
        };
        Ok(match &self.kind {
            Kind::Ringmq(program) => {
                let mut command = Command::new(program);
                command.args(["serve", "--shards", "1", "--log", "warn", "--listen"]);
                command.arg(format!("127.0.0.1:{port}"));
                command
            }
            Kind::Floor(program) => {
                let mut command = Command::new(program);
                command.args(["--serve-floor", &port.to_string()]);
                command
            }
            Kind::Mosquitto(program) => {
                let mut command = Command::new(program);
                command.arg("-c").arg(config(mosquitto_config(port))?);
                command
            }
            Kind::Rumqttd(program) => {
                let mut command = Command::new(program);
                command.arg("--quiet").arg("-c").arg(config(rumqttd_config(port, is_v5))?);
                command
            }
            Kind::Peer(peer) => {
                let mut command = Command::new("sh");
                // The process is to be the broker, which is ended by its number.
                command.arg("-c").arg(format!("exec {}", peer.command));
                command
            }
        })
    }
}

/// Its defaults, but for queues that hold what is sent, as many in flight as windows have, and a log that costs
/// nothing.
fn mosquitto_config(port: u16) -> String {
    format!(
        "listener {port} 127.0.0.1\nallow_anonymous true\nuser root\nlog_type error\nmax_queued_messages 0\n\
         max_inflight_messages 0\n\
         persistence false\n"
    )
}

/// Its own example, but for larger payloads, as many connections as may come, and one listener.
fn rumqttd_config(port: u16, is_v5: bool) -> String {
    let version = if is_v5 { "v5" } else { "v4" };
    format!(
        "id = 0\n[router]\nid = 0\nmax_connections = 20000\nmax_outgoing_packet_count = 200\n\
         max_segment_size = 104857600\nmax_segment_count = 10\n[{version}.1]\nname = \"one\"\n\
         listen = \"127.0.0.1:{port}\"\nnext_connection_delay_ms = 1\n[{version}.1.connections]\n\
         connection_timeout_ms = 60000\nmax_payload_size = 1048576\nmax_inflight_count = 100\n\
         dynamic_filters = true\n"
    )
}

/// A port that nobody listens at.
fn free_port() -> Result<u16, String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let port = listener.and_then(|listener| listener.local_addr()).map(|addr| addr.port());
    port.map_err(|error| format!("cannot find a free port: {error}"))
}

/// Starts a process that may use one CPU only.
pub fn spawn_on(cpu: usize, command: &mut Command) -> std::io::Result<Child> {
    // Children inherit what their parent's thread may use.
    let mine = sched_getaffinity(None)?;
    let mut one = CpuSet::new();
    one.set(cpu);
    sched_setaffinity(None, &one)?;
    let child = command.spawn();
    sched_setaffinity(None, &mine)?;
    child
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_read() {
        let peer = |name: &str, command: &str, port| {
            Ok(Peer { name: name.to_owned(), command: command.to_owned(), port })
        };
        let cases = [
            ("a=/opt/a:1884", peer("a", "/opt/a", 1884)),
            ("a=b --bind 127.0.0.1:1884 --x=1:1884", peer("a", "b --bind 127.0.0.1:1884 --x=1", 1884)),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse::<Peer>(), expected, "{text}");
        }
        for text in ["", "a", "a=b", "a=:1", "=b:1", "a=b:0", "a=b:65536", "a=b:x", "a|b=c:1"] {
            let fault = text.parse::<Peer>().unwrap_err();
            assert!(fault.contains("is not NAME=COMMAND:PORT"), "{text}: {fault}");
        }
    }

    #[test]
    fn a_process_gets_one_cpu() {
        let mine = sched_getaffinity(None).unwrap();
        let cpu = (0..CpuSet::MAX_CPU).find(|cpu| mine.is_set(*cpu)).unwrap();
        let mut command = Command::new("cat");
        let command = command.arg("/proc/self/status").stdout(Stdio::piped());
        let output = spawn_on(cpu, command).unwrap().wait_with_output().unwrap();
        let status = String::from_utf8(output.stdout).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap();
        assert_eq!(line.trim(), cpu.to_string());
        assert_eq!(sched_getaffinity(None).unwrap(), mine);
    }

    #[test]
    fn a_broker_that_does_not_start_says_why() {
        let base = std::env::temp_dir().join(format!("ringmq-compare-start-{}", std::process::id()));
        let mine = sched_getaffinity(None).unwrap();
        let cpu = (0..CpuSet::MAX_CPU).find(|cpu| mine.is_set(*cpu)).unwrap();
        let port = free_port().unwrap();
        let command = "sh -c 'echo no such license; exit 3'".to_owned();
        let peer = Peer { name: "broken".to_owned(), command, port };
        let broker = Broker { name: peer.name.clone(), version: String::new(), kind: Kind::Peer(peer) };
        let fault = broker.start(&Start { cpu, is_v5: false, folder: &base }).err().unwrap();
        assert!(fault.contains("exit status: 3") && fault.contains("no such license"), "{fault}");
        fs::remove_dir_all(&base).unwrap();
    }
}
