//! What this machine lets one process have.

use std::fs;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::sched_getaffinity;

/// Descriptors that the generator needs besides connections.
const FILES_RESERVED: u64 = 64;
/// The same for each I/O thread.
const FILES_PER_THREAD: u64 = 32;

/// The limit on open files, raised as far as it goes.
pub(crate) fn raise_open_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    // Where it cannot be raised, what there is counts.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// CPUs that this process may use.
pub(crate) fn cpus() -> usize {
    sched_getaffinity(None).map_or(1, |cpus| cpus.count() as usize)
}

/// Why so many connections cannot be had.
pub(crate) fn open_files_fault(connections: u64, threads: usize, limit: u64) -> Option<String> {
    let reserved = FILES_RESERVED + FILES_PER_THREAD * threads as u64;
    let room = limit.saturating_sub(reserved);
    (connections > room).then(|| {
        format!(
            "the limit on open files is the bound: {connections} connections need {} descriptors, but this process may \
             have {limit}. Ask for {room} or fewer, or raise the hard limit (`ulimit -Hn` as root, LimitNOFILE= in a \
             systemd unit, fs.nr_open), or run several generators",
            connections + reserved
        )
    })
}

/// Why so many connections cannot be had from these source addresses.
pub(crate) fn ports_fault(connections: u64, sources: usize) -> Option<String> {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    ports_fault_in(connections, sources, &range)
}

fn ports_fault_in(connections: u64, sources: usize, range: &str) -> Option<String> {
    let mut ends = range.split_whitespace().map(|end| end.parse::<u64>().unwrap_or(0));
    let (first, last) = (ends.next()?, ends.next()?);
    let ports = (last + 1).saturating_sub(first);
    let sources = sources.max(1) as u64;
    (connections > ports * sources).then(|| {
        format!(
            "source ports are the bound: {connections} connections to one address need as many, but net.ipv4.\
             ip_local_port_range has {ports} for each of {sources} source addresses. Give {} source addresses \
             (--source 127.0.0.2,127.0.0.3,... reach a broker on loopback), or widen the range",
            connections.div_ceil(ports)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_is_the_bound_says_so() {
        assert_eq!(open_files_fault(19_000, 1, 20_000), None);
        assert_eq!(open_files_fault(19_904, 1, 20_000), None);
        let fault = open_files_fault(19_905, 1, 20_000).unwrap();
        assert!(fault.contains("may have 20000") && fault.contains("19904 or fewer"), "{fault}");
        assert_eq!(ports_fault_in(28_232, 0, "32768\t60999\n"), None);
        let fault = ports_fault_in(60_000, 1, "32768\t60999\n").unwrap();
        assert!(fault.contains("Give 3 source addresses"), "{fault}");
        assert_eq!(ports_fault_in(60_000, 3, "32768\t60999\n"), None);
    }
}
