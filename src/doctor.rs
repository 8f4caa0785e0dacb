//! What the kernel, limits or seccomp forbid, and how to fix it.

use std::fs::{self, DirBuilder};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt};
use std::os::unix::net::UnixStream;
use std::path::Path;

pub use ringmq_shards::{Check, Verdict};
use ringmq_storage::{Inspection, StoreError};
use rustix::fs::Access;

use crate::broker::{connections_max, runtime_config};
use crate::config::{Config, ListenAddress};
use crate::system::{OpenFiles, cpus};

/// Looks at everything that a broker of this configuration needs from the machine. Binds its addresses for
/// a moment, and makes its data directory.
pub fn examine(config: &Config) -> Vec<Check> {
    let limit = OpenFiles::limit();
    let (files, connections) = open_files(config, limit);
    let mut checks = ringmq_shards::probe(&runtime_config(config, connections));
    checks.push(files);
    checks.extend(config.listeners.0.iter().map(|listener| listen(&listener.address)));
    checks.extend(config.data_dir.as_ref().map(|path| data_directory(config, path)));
    checks
}

fn fine(name: &'static str, found: String) -> Check {
    Check { name, verdict: Verdict::Ok, found, remedy: String::new() }
}

fn failed(name: &'static str, found: String, remedy: String) -> Check {
    Check { name, verdict: Verdict::Fail, found, remedy }
}

/// Whether the directory can be written, and what space it has.
fn data_directory(config: &Config, path: &Path) -> Check {
    let name = "data directory";
    match Inspection::open(path) {
        Ok(store) if store.user().is_some() => {
            let error = StoreError::Locked {
                path: path.to_owned(),
                process: store.user().and_then(|user| user.process),
            };
            return refused(name, &error);
        }
        Ok(_) | Err(StoreError::NoStore { .. } | StoreError::Unreadable { .. }) => {}
        Err(error) => return refused(name, &error),
    }
    let free_bytes = match prepare(path) {
        Ok(free_bytes) => free_bytes,
        Err(error) => {
            let remedy = "name a directory that this user may create or write".to_owned();
            return failed(name, format!("{}: {error}", path.display()), remedy);
        }
    };
    let shards = if config.shards > 0 { config.shards } else { cpus().unwrap_or(1) };
    // Each shard begins a segment.
    let needed = config.segment_bytes() as u64 * shards as u64;
    let mebibytes = |bytes: u64| bytes >> 20;
    let free = format!("{} can be written; {} MiB are free", path.display(), mebibytes(free_bytes));
    if free_bytes < needed {
        let found = format!("{free}, and the logs of {shards} shards begin with {} MiB", mebibytes(needed));
        let remedy =
            "free some, name a directory on another file system, or lower storage.segment_bytes".to_owned();
        return failed(name, found, remedy);
    }
    fine(name, free)
}

/// What a store says that cannot be opened: what is wrong, then what to do about it.
fn refused(name: &'static str, error: &StoreError) -> Check {
    let text = error.to_string();
    let (found, remedy) = text.split_once("; ").unwrap_or((&text, ""));
    failed(name, found.to_owned(), remedy.to_owned())
}

/// Makes the directory if it is missing, checks that files can be made in it, and tells how many bytes more
/// its file system takes.
fn prepare(path: &Path) -> io::Result<u64> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let probe = path.join(".ringmq-can-write");
    fs::write(&probe, b"")?;
    fs::remove_file(&probe)?;
    let space = rustix::fs::statvfs(path)?;
    Ok(space.f_bavail.saturating_mul(space.f_frsize))
}

/// A limit below this is worth a word.
const CONNECTIONS_FEW: u32 = 4096;

/// The limit on open files, and the connections that it has room for.
fn open_files(config: &Config, limit: OpenFiles) -> (Check, u32) {
    let name = "open files";
    // `ringmq serve` raises the limit as far as it goes.
    match connections_max(config, limit.hard) {
        Ok(connections) if config.connections_max == 0 && connections < CONNECTIONS_FEW => {
            let found = format!("room for {connections} connections (limit {})", limit.hard);
            let remedy = "`ulimit -Hn`, `LimitNOFILE=` in a systemd unit, or `--ulimit nofile=` in Docker, set to \
                          the connections wanted and some more";
            let check = Check { name, verdict: Verdict::Warn, found, remedy: remedy.to_owned() };
            (check, connections)
        }
        Ok(connections) => {
            (fine(name, format!("room for {connections} connections (limit {})", limit.hard)), connections)
        }
        Err(error) => {
            let remedy = "raise the limit, or lower limits.connections_max".to_owned();
            (failed(name, error.to_string(), remedy), config.connections_max.max(1))
        }
    }
}

fn listen(address: &ListenAddress) -> Check {
    match address {
        ListenAddress::Port(_, port) => listen_at(*port),
        ListenAddress::Unix(path) => listen_in(path),
    }
}

/// Whether a socket can be made at a path: as a broker does, in the place of one that nobody listens on.
fn listen_in(path: &Path) -> Check {
    let name = "listen";
    let shown = path.display();
    let other = "choose another path";
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            failed(name, format!("{shown} is there, and no socket"), format!("move it away, or {other}"))
        }
        Ok(_) if UnixStream::connect(path).is_ok() => {
            let remedy = format!("`ss -lxp` names who has it: stop that, or {other}");
            failed(name, format!("{shown}: a process listens there already"), remedy)
        }
        Ok(_) | Err(_) => match rustix::fs::access(folder, Access::WRITE_OK | Access::EXEC_OK) {
            Ok(()) => fine(name, format!("{shown} is free")),
            Err(error) => {
                let remedy =
                    format!("have {} made, and writable for this user, or {other}", folder.display());
                failed(name, format!("{shown}: {error}"), remedy)
            }
        },
    }
}

fn listen_at(address: SocketAddr) -> Check {
    let name = "listen";
    match TcpListener::bind(address) {
        Ok(_) => fine(name, format!("{address} is free")),
        Err(error) => {
            let port = address.port();
            let remedy = match error.kind() {
                io::ErrorKind::AddrInUse => {
                    format!("`ss -ltnp sport = :{port}` names who has it: stop that, or choose another port")
                }
                io::ErrorKind::PermissionDenied => format!(
                    "ports below 1024 are privileged: choose another, or `sysctl net.ipv4.ip_unprivileged_port_start={port}`"
                ),
                io::ErrorKind::AddrNotAvailable => {
                    "no interface has this address: `ip address` lists those there are".to_owned()
                }
                _ => "choose another address".to_owned(),
            };
            failed(name, format!("{address}: {error}"), remedy)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn an_address_in_use_is_found() {
        let holder = TcpListener::bind("127.0.0.1:0").unwrap();
        let check = listen(&holder.local_addr().unwrap().into());
        assert_eq!(check.verdict, Verdict::Fail);
        assert!(check.remedy.contains("ss -ltnp"), "{}", check.remedy);
        assert_eq!(listen(&"127.0.0.1:0".parse().unwrap()).verdict, Verdict::Ok);
    }

    #[test]
    fn a_socket_is_made_where_none_is_in_use() {
        let folder = std::env::temp_dir().join(format!("ringmq-doctor-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let at = |name: &str| listen(&ListenAddress::Unix(folder.join(name)));
        let holder = UnixListener::bind(folder.join("held")).unwrap();
        fs::write(folder.join("file"), "").unwrap();
        drop(UnixListener::bind(folder.join("left")).unwrap());
        let table = [
            ("held", Verdict::Fail, "ss -lxp"),
            ("file", Verdict::Fail, "move it away"),
            ("no/folder", Verdict::Fail, "writable"),
            ("left", Verdict::Ok, ""),
            ("new", Verdict::Ok, ""),
        ];
        for (socket, verdict, remedy) in table {
            let check = at(socket);
            assert!(check.verdict == verdict && check.remedy.contains(remedy), "{socket}: {check:?}");
        }
        drop(holder);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn too_few_open_files_are_found() {
        let config = Config { shards: 1, connections_max: 10_000, ..Config::default() };
        let (check, _) = open_files(&config, OpenFiles { soft: 1024, hard: 4096 });
        assert_eq!(check.verdict, Verdict::Fail);
        assert!(check.found.contains("10288"), "{}", check.found);
        let (check, connections) = open_files(&Config::default(), OpenFiles { soft: 1024, hard: 4096 });
        assert_eq!((check.verdict, connections), (Verdict::Warn, 3840));
    }
}
