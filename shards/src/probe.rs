//! What `doctor` asks of the system.

use crate::config::RuntimeConfig;
use crate::ring::Ring;
use crate::sys;

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It will run, but not well.
    Warn,
    /// It will not run.
    Fail,
}

/// One thing looked at.
#[derive(Clone, Debug)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// How it came out.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to do about it; empty when all is well.
    pub remedy: String,
}

/// The oldest kernel with everything that the rings use.
const KERNEL_MIN: (u32, u32) = (6, 1);
/// Locked memory that a shard's executor wants.
const LOCKED_BYTES_PER_SHARD: u64 = 512 * 1024;

/// Checks whether the system can run the shards of a configuration. Makes a ring, and gives it back.
pub fn probe(config: &RuntimeConfig) -> Vec<Check> {
    let release = read("/proc/sys/kernel/osrelease");
    let shards = shard_count(config);
    vec![
        kernel(&release),
        switched_on(&read("/proc/sys/kernel/io_uring_disabled")),
        ring(config),
        locked_memory(sys::limit(libc::RLIMIT_MEMLOCK).ok().flatten(), shards as u64),
        cpus(config, shards),
        backlog(&read("/proc/sys/net/core/somaxconn"), config.accept_backlog),
    ]
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn shard_count(config: &RuntimeConfig) -> usize {
    config.shards.unwrap_or_else(|| sys::affinity().map_or(1, |cpus| cpus.len().max(1)))
}

fn fine(name: &'static str, found: String) -> Check {
    Check { name, verdict: Verdict::Ok, found, remedy: String::new() }
}

fn kernel(release: &str) -> Check {
    let mut numbers = release.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version >= KERNEL_MIN {
        return fine("kernel", format!("Linux {release}"));
    }
    let remedy = format!("run Linux {}.{} or newer", KERNEL_MIN.0, KERNEL_MIN.1);
    Check { name: "kernel", verdict: Verdict::Fail, found: format!("Linux {release}"), remedy }
}

fn switched_on(disabled: &str) -> Check {
    let name = "io_uring";
    let (verdict, found) = match disabled {
        // Older kernels have no such switch.
        "0" | "" => return fine(name, "allowed by the kernel".to_owned()),
        "1" => (Verdict::Warn, "kernel.io_uring_disabled is 1: only privileged processes may use it"),
        _ => (Verdict::Fail, "kernel.io_uring_disabled forbids it"),
    };
    let remedy = "`sysctl kernel.io_uring_disabled=0`".to_owned();
    Check { name, verdict, found: found.to_owned(), remedy }
}

fn ring(config: &RuntimeConfig) -> Check {
    match Ring::new(config) {
        Ok(_) => fine("ring", format!("made one with {} receive buffers", config.receive_buffers)),
        Err(error) => Check {
            name: "ring",
            verdict: Verdict::Fail,
            found: "none can be made".to_owned(),
            remedy: error.to_string(),
        },
    }
}

fn locked_memory(limit: Option<u64>, shards: u64) -> Check {
    let name = "locked memory";
    let wanted = shards * LOCKED_BYTES_PER_SHARD;
    match limit {
        None => fine(name, "unlimited".to_owned()),
        Some(limit) if limit >= wanted => fine(name, format!("{} KiB", limit / 1024)),
        Some(limit) => Check {
            name,
            verdict: Verdict::Warn,
            found: format!("{} KiB, and {shards} shards want {} KiB", limit / 1024, wanted / 1024),
            remedy: "`ulimit -l unlimited`, `LimitMEMLOCK=infinity` in a systemd unit, or `--ulimit memlock=-1` in \
                     Docker"
                .to_owned(),
        },
    }
}

fn cpus(config: &RuntimeConfig, shards: usize) -> Check {
    let name = "CPUs";
    let usable = sys::affinity().unwrap_or_default();
    let missing: Vec<_> = config.cpus.iter().filter(|cpu| !usable.contains(cpu)).collect();
    if !missing.is_empty() {
        return Check {
            name,
            verdict: Verdict::Fail,
            found: format!("this process may not run on CPUs {missing:?} of the configuration"),
            remedy: format!("name CPUs of {usable:?}, or start it with another mask (`taskset`, cpusets)"),
        };
    }
    let available = if config.cpus.is_empty() { usable.len() } else { config.cpus.len() };
    if shards <= available {
        return fine(name, format!("{shards} shards on {available} CPUs"));
    }
    Check {
        name,
        verdict: Verdict::Warn,
        found: format!("{shards} shards share {available} CPUs"),
        remedy: format!("run {available} shards: more of them only take turns"),
    }
}

fn backlog(somaxconn: &str, wanted: i32) -> Check {
    let name = "accept backlog";
    match somaxconn.parse::<i32>() {
        Ok(limit) if limit < wanted => Check {
            name,
            verdict: Verdict::Warn,
            found: format!("net.core.somaxconn is {limit}: more connections at once are refused"),
            remedy: format!("`sysctl net.core.somaxconn={wanted}`"),
        },
        Ok(_) => fine(name, format!("{wanted} connections may wait")),
        Err(_) => fine(name, "net.core.somaxconn cannot be read".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_told_apart_by_number() {
        for (release, verdict) in [
            ("6.18.44-fc", Verdict::Ok),
            ("6.1.0-13-amd64", Verdict::Ok),
            ("10.0", Verdict::Ok),
            ("5.15.0-91-generic", Verdict::Fail),
            ("6.0.19", Verdict::Fail),
            ("", Verdict::Fail),
        ] {
            assert_eq!(kernel(release).verdict, verdict, "{release}");
        }
    }

    #[test]
    fn what_is_wrong_comes_with_a_remedy() {
        let found = [
            kernel("5.4.0"),
            switched_on("1"),
            switched_on("2"),
            locked_memory(Some(64 * 1024), 4),
            backlog("128", 4096),
            cpus(&RuntimeConfig { cpus: vec![1023], ..RuntimeConfig::default() }, 1),
        ];
        for check in found {
            assert!(check.verdict != Verdict::Ok && !check.remedy.is_empty(), "{check:?}");
        }
    }

    #[test]
    fn a_machine_that_runs_the_tests_can_run_shards() {
        let checks = probe(&RuntimeConfig { shards: Some(1), ..RuntimeConfig::default() });
        assert_eq!(checks.len(), 6);
        assert!(checks.iter().all(|check| check.verdict != Verdict::Fail), "{checks:?}");
    }
}
