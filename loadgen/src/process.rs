//! What a process costs, as Linux tells it: CPU time, memory, and how often it was switched.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// A process at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Usage {
    /// On the run's clock.
    pub at_ns: u64,
    /// CPU time of all its threads.
    pub cpu_ns: u64,
    /// Time in which its threads could run, but had no CPU.
    pub waited_ns: u64,
    /// Resident memory.
    pub resident_bytes: u64,
    /// The part of it that no file backs.
    pub anonymous_bytes: u64,
    /// Context switches.
    pub switches: u64,
    /// Each thread's number and CPU time.
    pub threads: Vec<(u32, u64)>,
}

/// What a process used in a time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cost {
    /// How long that was.
    pub seconds: f64,
    /// CPU time of all its threads, in nanoseconds.
    pub cpu_ns: u64,
    /// The share of a CPU that its busiest thread used, 0 to 1.
    pub busiest_thread: f64,
    /// The share of the time in which its threads waited for a CPU, for each that did.
    pub waited: f64,
    /// Context switches.
    pub switches: u64,
    /// Resident memory at the start.
    pub resident_bytes_before: u64,
    /// Resident memory at the end.
    pub resident_bytes: u64,
    /// The part of it at the start that no file backs.
    pub anonymous_bytes_before: u64,
    /// The part of it at the end that no file backs.
    pub anonymous_bytes: u64,
}

impl Cost {
    /// CPUs used, on average.
    pub fn cpus(&self) -> f64 {
        if self.seconds > 0.0 { self.cpu_ns as f64 / 1e9 / self.seconds } else { 0.0 }
    }

    /// From one moment to a later one.
    pub fn between(before: &Usage, after: &Usage) -> Self {
        let wall_ns = after.at_ns.saturating_sub(before.at_ns).max(1) as f64;
        let earlier =
            |tid: u32| before.threads.iter().find(|(known, _)| *known == tid).map_or(0, |(_, ns)| *ns);
        let busiest =
            after.threads.iter().map(|(tid, ns)| ns.saturating_sub(earlier(*tid))).max().unwrap_or(0);
        Self {
            seconds: wall_ns / 1e9,
            cpu_ns: after.cpu_ns.saturating_sub(before.cpu_ns),
            busiest_thread: busiest as f64 / wall_ns,
            waited: after.waited_ns.saturating_sub(before.waited_ns) as f64 / wall_ns,
            switches: after.switches.saturating_sub(before.switches),
            resident_bytes_before: before.resident_bytes,
            resident_bytes: after.resident_bytes,
            anonymous_bytes_before: before.anonymous_bytes,
            anonymous_bytes: after.anonymous_bytes,
        }
    }
}

/// Looks at a process; none when it is gone, or not ours to look at.
pub fn look(pid: u32, at_ns: u64) -> Option<Usage> {
    look_below(&Path::new("/proc").join(pid.to_string()), at_ns)
}

fn look_below(folder: &Path, at_ns: u64) -> Option<Usage> {
    let mut usage = Usage { at_ns, ..Usage::default() };
    let status = fs::read_to_string(folder.join("status")).ok()?;
    usage.resident_bytes = field(&status, "VmRSS:").unwrap_or(0) * 1024;
    usage.anonymous_bytes = field(&status, "RssAnon:").unwrap_or(0) * 1024;
    for task in fs::read_dir(folder.join("task")).ok()?.flatten() {
        // Threads come and go.
        let Ok(schedstat) = fs::read_to_string(task.path().join("schedstat")) else { continue };
        let mut numbers = schedstat.split_whitespace().map(|number| number.parse::<u64>().unwrap_or(0));
        let (cpu_ns, waited_ns) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        usage.cpu_ns += cpu_ns;
        usage.waited_ns += waited_ns;
        let tid = task.file_name().to_string_lossy().parse().unwrap_or(0);
        usage.threads.push((tid, cpu_ns));
        if let Ok(status) = fs::read_to_string(task.path().join("status")) {
            usage.switches += field(&status, "voluntary_ctxt_switches:").unwrap_or(0)
                + field(&status, "nonvoluntary_ctxt_switches:").unwrap_or(0);
        }
    }
    (usage.cpu_ns > 0).then_some(usage)
}

/// The number behind a name at the start of a line.
fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Where a process listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener<'a> {
    /// The port, where it is one.
    pub port: Option<u16>,
    /// The path of a Unix socket.
    pub path: Option<&'a Path>,
}

/// The process of this host that listens there.
pub fn find_listener(listener: Listener<'_>) -> Option<u32> {
    let mut inodes = Vec::new();
    if let Some(port) = listener.port {
        for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
            if let Ok(table) = fs::read_to_string(table) {
                inodes.extend(listening(&table, port));
            }
        }
    }
    if let Some(path) = listener.path
        && let Ok(table) = fs::read_to_string("/proc/net/unix")
    {
        inodes.extend(listening_unix(&table, &path.display().to_string()));
    }
    if inodes.is_empty() { None } else { owner(&inodes) }
}

/// The inodes of sockets that listen on a port, in a table of the kernel's.
fn listening(table: &str, port: u16) -> Vec<u64> {
    const LISTENS: &str = "0A";
    let of_line = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (_, local_port) = fields.get(1)?.rsplit_once(':')?;
        let is_it = fields.get(3) == Some(&LISTENS) && u16::from_str_radix(local_port, 16) == Ok(port);
        is_it.then(|| fields.get(9)?.parse().ok()).flatten()
    };
    table.lines().skip(1).filter_map(of_line).collect()
}

fn listening_unix(table: &str, path: &str) -> Vec<u64> {
    let of_line = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        (fields.get(7) == Some(&path)).then(|| fields.get(6)?.parse().ok()).flatten()
    };
    table.lines().skip(1).filter_map(of_line).collect()
}

/// The process that has one of these sockets open.
fn owner(inodes: &[u64]) -> Option<u32> {
    let links: Vec<String> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let Ok(pid) = process.file_name().to_string_lossy().parse::<u32>() else { continue };
        let Ok(files) = fs::read_dir(process.path().join("fd")) else { continue };
        let mut targets = files.flatten().filter_map(|file| fs::read_link(file.path()).ok());
        if targets.any(|target| links.iter().any(|link| target.as_os_str() == link.as_str())) {
            return Some(pid);
        }
    }
    None
}

/// Whether an address is of this host.
pub fn is_local(host: &str) -> bool {
    if host == "localhost" {
        return true;
    }
    let Ok(address) = host.trim_matches(['[', ']']).parse::<IpAddr>() else { return false };
    // What this host can bind to is its own.
    address.is_loopback() || std::net::UdpSocket::bind((address, 0)).is_ok()
}

/// A process's name.
pub fn name(pid: u32) -> Option<String> {
    Some(fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_found_by_its_port() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let found = find_listener(Listener { port: Some(port), path: None });
        assert_eq!(found, Some(std::process::id()));
        drop(listener);
        assert_eq!(find_listener(Listener { port: Some(port), path: None }), None);
    }

    #[test]
    fn a_process_is_found_by_its_unix_socket() {
        let path = std::env::temp_dir().join(format!("ringmq-load-{}.sock", std::process::id()));
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert_eq!(find_listener(Listener { port: None, path: Some(&path) }), Some(std::process::id()));
        drop(listener);
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn the_kernels_tables_are_read() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            0: 0100007F:075B 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 x\n\
            1: 0100007F:075B 0100007F:AAAA 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 x\n\
            2: 0100007F:075C 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4713 1 x\n";
        assert_eq!(listening(table, 1883), [4711]);
        let table = "Num RefCount Protocol Flags Type St Inode Path\n\
            0: 00000002 00000000 00010000 0001 01 99 /run/a.sock\n0: 00000002 00000000 00010000 0001 01 98\n";
        assert_eq!(listening_unix(table, "/run/a.sock"), [99]);
    }

    #[test]
    fn work_costs_cpu_time() {
        let pid = std::process::id();
        let before = look(pid, 0).unwrap();
        let mut random = crate::random::Random::new(1);
        let mut sum = 0_u64;
        // The kernel may count in ticks.
        let cost = loop {
            for _ in 0..1_000_000 {
                sum = sum.wrapping_add(random.next());
            }
            let cost = Cost::between(&before, &look(pid, 1_000_000_000).unwrap());
            if cost.cpu_ns > 0 {
                break cost;
            }
        };
        assert!(cost.resident_bytes > 0 && cost.seconds == 1.0, "{cost:?} {sum}");
        assert!(look(u32::MAX, 0).is_none());
    }

    #[test]
    fn hosts_of_ours_are_known() {
        assert!(is_local("localhost") && is_local("127.0.0.1") && is_local("::1"));
        assert!(!is_local("192.0.2.1") && !is_local("broker.example"));
    }
}
