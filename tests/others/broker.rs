//! Brokers as processes, and what they cannot do.

use std::fmt;
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use ringmq::client::Version;
use rustix::process::{Pid, Signal, kill_process};

use crate::DEADLINE;

/// Whose broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Mosquitto,
    Rumqttd,
    Ringmq,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::Mosquitto, Self::Rumqttd, Self::Ringmq];
}

/// What a check needs of a broker beyond the basics of MQTT 3.1.1 and 5.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ability {
    /// MQTT 3.1.
    V31,
    /// QoS 2 messages under way that outlive their connection.
    ResumesExactlyOnce,
    /// The client's Receive Maximum.
    MindsReceiveMaximum,
    /// User names and passwords.
    Passwords,
    /// Says why it refuses a connection.
    SaysWhy,
}

/// What a broker lacks, found by trying. A check that needs it leaves the broker out, and says so.
const LACKS: &[(Kind, Ability, &str)] = &[
    (Kind::Rumqttd, Ability::V31, "rumqttd 0.20.0 knows the protocol levels 4 and 5 only"),
    (Kind::Rumqttd, Ability::SaysWhy, "rumqttd 0.20.0 ends a connection that it refuses without a CONNACK"),
    (
        Kind::Rumqttd,
        Ability::ResumesExactlyOnce,
        "rumqttd 0.20.0 answers no PUBREL whose PUBLISH came on another connection",
    ),
    (
        Kind::Mosquitto,
        Ability::MindsReceiveMaximum,
        "mosquitto 2.0.11 sends more than it may after the first PUBACK",
    ),
    (Kind::Rumqttd, Ability::MindsReceiveMaximum, "rumqttd 0.20.0 does not look at it"),
    (Kind::Ringmq, Ability::Passwords, "this version of our broker knows clients by their certificates only"),
];

/// The brokers that can do this.
pub fn able(needed: Ability) -> impl Iterator<Item = Kind> {
    Kind::ALL.into_iter().filter(move |kind| can(*kind, needed))
}

/// Whether a broker can do this; if not, the test's output says why.
pub fn can(kind: Kind, ability: Ability) -> bool {
    let lack = LACKS.iter().find(|(whose, what, _)| (*whose, *what) == (kind, ability));
    if let Some((_, _, why)) = lack {
        eprintln!("{kind:?} is left out where {ability:?} is needed: {why}");
    }
    lack.is_none()
}

/// A port where nobody listens, and that the kernel gives to no connection while a broker restarts.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 10_000 + (std::process::id() % 90) as u16 * 100;
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed) % 1000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

fn at(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// What to start.
#[derive(Clone, Debug)]
pub struct Setup {
    kind: Kind,
    port: u16,
    port_v5: u16,
    /// More lines of mosquitto's configuration, or of a table of connections of rumqttd's.
    lines: String,
    /// Whether the lines are all of mosquitto's configuration.
    is_whole: bool,
    is_open: bool,
}

impl Setup {
    pub fn new(kind: Kind) -> Self {
        let port = free_port();
        // Rumqttd has a listener for each version.
        let port_v5 = if kind == Kind::Rumqttd { free_port() } else { port };
        Self { kind, port, port_v5, lines: String::new(), is_whole: false, is_open: true }
    }

    /// A mosquitto with this and nothing else in its configuration, whose first listener is at the port in place of
    /// `PORT`; another may be at `PLAIN`.
    pub fn mosquitto(configuration: &str) -> Self {
        let setup = Self::new(Kind::Mosquitto);
        let lines = configuration.replace("PORT", &setup.port.to_string());
        let lines = lines.replace("PLAIN", &free_port().to_string());
        Self { lines, is_whole: true, ..setup }
    }

    /// With more lines.
    pub fn with(mut self, lines: impl AsRef<str>) -> Self {
        self.lines.push_str(lines.as_ref());
        self.lines.push('\n');
        self
    }

    /// Without anonymous clients.
    pub fn closed(mut self) -> Self {
        self.is_open = false;
        self
    }

    pub fn url(&self, version: Version) -> String {
        format!("mqtt://{}", self.address(version))
    }

    pub fn address(&self, version: Version) -> SocketAddr {
        match version {
            Version::V31 | Version::V311 => at(self.port),
            Version::V5 => at(self.port_v5),
        }
    }

    pub fn start(self) -> Broker {
        let mut broker = Broker { folder: Folder::new(), setup: self, child: None };
        broker.start();
        broker
    }

    fn configuration(&self) -> String {
        let Self { port, port_v5, lines, is_open, .. } = self;
        match self.kind {
            // Without bounds, since it drops QoS 2 messages beyond them and tells a client of MQTT 3 nothing. Else it
            // would become the user mosquitto, who may not read the test's files.
            Kind::Mosquitto if self.is_whole => format!("user root\n{lines}"),
            Kind::Mosquitto => format!(
                "user root\nlistener {port} 127.0.0.1\nallow_anonymous {is_open}\nmax_queued_messages 0\n\
                 max_inflight_messages 1000\n{lines}"
            ),
            Kind::Rumqttd => {
                let listener = |table: &str, port: u16| {
                    format!(
                        "[{table}]\nname = '{table}'\nlisten = '127.0.0.1:{port}'\nnext_connection_delay_ms = 1\n\
                         [{table}.connections]\nconnection_timeout_ms = 60000\nmax_payload_size = 20971520\n\
                         max_inflight_count = 500\ndynamic_filters = true\n{lines}\n"
                    )
                };
                format!(
                    "id = 0\n[router]\nid = 0\nmax_connections = 1000\nmax_outgoing_packet_count = 200\n\
                     max_segment_size = 104857600\nmax_segment_count = 10\n{}{}",
                    listener("v4.1", *port),
                    listener("v5.1", *port_v5)
                )
            }
            Kind::Ringmq => format!("shards = 1\n[[listener]]\naddress = '127.0.0.1:{port}'\n{lines}"),
        }
    }

    fn command(&self, configuration: &Path) -> Command {
        let program =
            |variable: &str, default: &str| std::env::var_os(variable).unwrap_or_else(|| default.into());
        let mut command = match self.kind {
            Kind::Mosquitto => Command::new(program("RINGMQ_MOSQUITTO", mosquitto())),
            Kind::Rumqttd => Command::new(program("RINGMQ_RUMQTTD", "rumqttd")),
            Kind::Ringmq => Command::new(env!("CARGO_BIN_EXE_ringmq")),
        };
        match self.kind {
            Kind::Mosquitto => command.arg("-c"),
            Kind::Rumqttd => command.args(["--quiet", "--config"]),
            Kind::Ringmq => command.args(["serve", "--config"]),
        };
        command.arg(configuration);
        command
    }
}

/// Debian has it where only root looks.
fn mosquitto() -> &'static str {
    let debian = "/usr/sbin/mosquitto";
    if Path::new(debian).exists() { debian } else { "mosquitto" }
}

/// A folder that is gone when its value is.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("ringmq-others-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A broker that runs, unless it was killed; gone when its value is.
pub struct Broker {
    setup: Setup,
    folder: Folder,
    child: Option<Child>,
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.setup.kind)
    }
}

impl Broker {
    pub fn new(kind: Kind) -> Self {
        Setup::new(kind).start()
    }

    pub fn url(&self, version: Version) -> String {
        self.setup.url(version)
    }

    pub fn port(&self) -> u16 {
        self.setup.port
    }

    pub fn address(&self, version: Version) -> SocketAddr {
        self.setup.address(version)
    }

    /// Starts it, again and empty where it was killed, and waits until it listens.
    pub fn start(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let configuration = self.folder.0.join("broker.toml");
        fs::write(&configuration, self.setup.configuration()).unwrap();
        let log = self.folder.0.join("log");
        let file = fs::File::create(&log).unwrap();
        let mut command = self.setup.command(&configuration);
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        let child = command.spawn().unwrap_or_else(|error| {
            let remedy = match self.setup.kind {
                Kind::Mosquitto => "install it, with 'apt-get install mosquitto' say, or set RINGMQ_MOSQUITTO",
                Kind::Rumqttd => {
                    "install it, with 'cargo install rumqttd --version 0.20.0 --locked', or set RINGMQ_RUMQTTD"
                }
                Kind::Ringmq => "build it, with 'cargo build'",
            };
            panic!("{:?} cannot be started ({error}): {remedy}", self.setup.kind)
        });
        let child = self.child.insert(child);
        let began = Instant::now();
        // Once where it is the same: mosquitto 2.0.11 miscounts connections that it refuses.
        let both = [at(self.setup.port), at(self.setup.port_v5)];
        let listeners = if both[0] == both[1] { &both[..1] } else { &both[..] };
        for &address in listeners {
            while TcpStream::connect(address).is_err() {
                let ended = child.try_wait().unwrap();
                assert!(
                    ended.is_none() && began.elapsed() < DEADLINE,
                    "{:?} does not listen at {address}: {ended:?}\n{}",
                    self.setup.kind,
                    fs::read_to_string(&log).unwrap()
                );
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }

    /// Kills it, with all that it knows.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(self.child.as_ref().expect("it runs"));
        kill_process(pid, signal).unwrap();
    }

    /// Has it do nothing until [`Broker::resume`].
    pub fn stall(&self) {
        self.signal(Signal::STOP);
    }

    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{self:?}: {}", fs::read_to_string(self.folder.0.join("log")).unwrap_or_default());
        }
        self.kill();
    }
}
