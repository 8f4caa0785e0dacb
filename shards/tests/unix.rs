//! Unix sockets to listen on.

#![allow(clippy::unwrap_used, reason = "a test fails where it stands")]

mod common;

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener as StdListener, UnixStream};
use std::path::PathBuf;
use std::time::Duration;

use common::{Echo, PATIENCE, config, pattern, start_echo};
use ringmq_shards::{
    ListenAddress, ListenerConfig, RuntimeConfig, ShutdownReport, StartError, UnixListener, start,
};

/// A path of its own for each test, with nothing there.
fn path(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("ringmq-unix-{}-{name}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    path
}

fn on(path: &std::path::Path, shards: usize) -> RuntimeConfig {
    RuntimeConfig { listeners: vec![ListenerConfig::unix(path)], ..config(shards) }
}

fn client(path: &std::path::Path) -> UnixStream {
    let client = UnixStream::connect(path).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.set_write_timeout(Some(PATIENCE)).unwrap();
    client
}

fn echo(client: &mut UnixStream, bytes: &[u8]) {
    let mut writer = client.try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || writer.write_all(bytes).unwrap());
        let mut back = vec![0; bytes.len()];
        client.read_exact(&mut back).unwrap();
        assert!(back == bytes, "bytes were lost or mixed up");
    });
}

fn refusal(config: RuntimeConfig) -> String {
    let error = start(config, |_| Echo, |_, ()| {}).map(drop).unwrap_err();
    assert!(matches!(error, StartError::Listen { .. }), "{error}");
    error.to_string()
}

#[test]
fn all_shards_serve_one_socket_and_its_file_goes_with_them() {
    let path = path("serve");
    for shards in [1, 3] {
        let runtime = start_echo(on(&path, shards));
        assert!(runtime.addresses().is_empty());
        let unix = UnixListener { path: path.clone(), mode: None };
        assert_eq!(runtime.listening(), [ListenAddress::Unix(unix)]);
        let mut clients: Vec<_> = (0..20).map(|_| client(&path)).collect();
        for client in &mut clients {
            echo(client, b"hello");
        }
        echo(&mut clients[0], &pattern(5 << 20));
        drop(clients);
        assert_eq!(runtime.shutdown(Duration::from_secs(5)).unwrap(), ShutdownReport::default());
        assert!(!path.exists(), "the file is removed");
    }
}

#[test]
fn the_file_has_the_permissions_asked_for() {
    let path = path("mode");
    for mode in [0o600, 0o666] {
        let mut config = on(&path, 1);
        config.listeners[0].address =
            ListenAddress::Unix(UnixListener { path: path.clone(), mode: Some(mode) });
        let runtime = start_echo(config);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode);
        runtime.shutdown(Duration::ZERO).unwrap();
    }
}

#[test]
fn the_socket_of_a_dead_process_is_replaced() {
    let path = path("stale");
    drop(StdListener::bind(&path).unwrap());
    let runtime = start_echo(on(&path, 2));
    echo(&mut client(&path), b"hello");
    runtime.shutdown(Duration::ZERO).unwrap();
    assert!(!path.exists());
}

#[test]
fn what_is_in_the_way_is_left_alone() {
    let path = path("taken");
    let runtime = start_echo(on(&path, 1));
    let text = refusal(on(&path, 1));
    assert!(text.contains("a process listens there already") && text.contains("ss -lxp"), "{text}");
    assert!(text.contains(path.to_str().unwrap()), "{text}");
    // The first one noticed nothing.
    echo(&mut client(&path), b"hello");
    // Twice in one configuration is no better.
    let mut twice = on(&self::path("twice"), 1);
    twice.listeners.push(twice.listeners[0].clone());
    assert!(refusal(twice).contains("a process listens there already"));
    drop(runtime);
    std::fs::write(&path, b"precious").unwrap();
    let text = refusal(on(&path, 1));
    assert!(text.contains("not a socket"), "{text}");
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    std::fs::remove_file(&path).unwrap();
    assert!(refusal(on(&path.join("no/such/folder"), 1)).contains("make the folder"));
    assert!(refusal(on(&PathBuf::from("x".repeat(200)), 1)).contains("107 bytes"));
}

#[test]
fn a_file_that_took_the_place_of_ours_stays() {
    let path = path("moved");
    let runtime = start_echo(on(&path, 1));
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, b"another's").unwrap();
    runtime.shutdown(Duration::ZERO).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"another's");
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn a_start_that_fails_leaves_no_file() {
    let path = path("failed");
    let mut config = on(&path, 2);
    config.listeners.push(ListenerConfig::unix("/proc/no/such/folder"));
    refusal(config);
    assert!(!path.exists());
    let failed = start(on(&path, 2), |_| -> Echo { panic!("no core today") }, |_, ()| {});
    assert!(matches!(failed.map(drop), Err(StartError::Failed(_))));
    assert!(!path.exists());
}
