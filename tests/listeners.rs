//! Listeners with TLS in the configuration: which keys go together, and what is wrong with files.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod pki;

use std::time::Duration;

use ringmq::Broker;
use ringmq::config::{ClientCertificate, Config, FlagValue, ListenerConfig, Sources};

use pki::Pki;

fn sources(flags: &[(&'static str, &str)]) -> Sources {
    let flags = flags.iter().map(|(flag, value)| FlagValue { flag, value: (*value).to_owned() }).collect();
    Sources { file: None, flags }
}

/// The error's text, with `$` in place of the folder of the files, as it is in what is read.
fn refused(pki: &Pki, text: &str, flags: &[(&'static str, &str)]) -> String {
    let flags: Vec<_> = flags.iter().map(|(flag, value)| (*flag, pki.paths(value))).collect();
    let flags: Vec<_> = flags.iter().map(|(flag, value)| (*flag, value.as_str())).collect();
    match sources(&flags).read("broker.toml", &pki.paths(text)) {
        Ok(config) => panic!("accepted: {text:?} {flags:?}: {config:?}"),
        Err(error) => error.to_string().replace(&pki.folder(), "$"),
    }
}

fn accepted(pki: &Pki, text: &str, flags: &[(&'static str, &str)]) -> Config {
    let flags: Vec<_> = flags.iter().map(|(flag, value)| (*flag, pki.paths(value))).collect();
    let flags: Vec<_> = flags.iter().map(|(flag, value)| (*flag, value.as_str())).collect();
    let read = sources(&flags).read("broker.toml", &pki.paths(text));
    read.unwrap_or_else(|error| panic!("{text:?} {flags:?}: {error}"))
}

/// A listener with these lines below its address.
fn listener(address: &str, lines: &str) -> String {
    format!("[[listener]]\naddress = \"{address}\"\n{lines}")
}

const PAIR: &str = "certificate = \"$/server.pem\"\nkey = \"$/server.key\"\n";

#[test]
fn keys_that_do_not_go_together_are_refused_with_what_to_write() {
    let pki = Pki::new();
    let open = "tls://0.0.0.0:8883";
    let table = [
        (
            listener("tls://127.0.0.1:8883", ""),
            "2:11: tls://127.0.0.1:8883 needs a certificate: write certificate = \"FILE\" below the address\n\
             broker.toml:2:11: tls://127.0.0.1:8883 needs the private key of its certificate: write key = \"FILE\" \
             below the address",
        ),
        (
            listener("wss://127.0.0.1:8443", "certificate = \"$/server.pem\""),
            "2:11: wss://127.0.0.1:8443 needs the private key of its certificate: write key = \"FILE\" below the \
             address",
        ),
        (
            listener("127.0.0.1:8883", "certificate = \"$/server.pem\""),
            "3:15: certificate is for TLS, which 127.0.0.1:8883 does not have: write address = \
             \"tls://127.0.0.1:8883\", or leave it out",
        ),
        (
            listener("ws://127.0.0.1:8080", "key = \"$/server.key\""),
            "3:7: key is for TLS, which ws://127.0.0.1:8080 does not have: write address = \
             \"wss://127.0.0.1:8080\", or leave it out",
        ),
        (
            listener("unix:/run/x", "client_ca = \"$/ca.pem\""),
            "3:13: client_ca is for TLS, which unix:/run/x does not have: leave it out",
        ),
        (
            listener("tls://127.0.0.1:1", &format!("{PAIR}client_certificate = \"optional\"")),
            "5:22: client_certificate is of no use without client_ca: write client_ca = \"FILE\" with the \
             authorities whose certificates clients show, or leave it out",
        ),
        (
            listener("tls://127.0.0.1:1", &format!("{PAIR}client_crl = \"$/crl.pem\"")),
            "5:14: client_crl is of no use without client_ca: write client_ca = \"FILE\" with the authorities \
             whose certificates clients show, or leave it out",
        ),
        (
            listener(open, PAIR),
            "2:11: tls://0.0.0.0:8883 lets in whoever reaches it, for its clients need no certificate: require \
             certificates of them (client_ca), write allow_anonymous = true below the address if that is meant, or \
             listen on 127.0.0.1",
        ),
        (
            listener(
                open,
                &format!(
                    "{PAIR}client_ca = \"$/ca.pem\"\nclient_certificate = \"optional\"\nallow_anonymous = false"
                ),
            ),
            "7:19: nobody could connect to tls://0.0.0.0:8883, for its clients need no certificate, and this version \
             has no other authentication: require certificates of them (client_ca), or write allow_anonymous = true",
        ),
    ];
    for (text, expect) in table {
        assert_eq!(refused(&pki, &text, &[]), format!("broker.toml:{expect}"), "for {text:?}");
    }
}

#[test]
fn files_of_no_use_are_refused_at_the_key_that_names_them() {
    let pki = Pki::new();
    let tls = |lines: &str| listener("tls://127.0.0.1:8883", lines);
    let table = [
        (
            tls("certificate = \"$/none.pem\"\nkey = \"$/server.key\""),
            "3:15: cannot read $/none.pem: No such file",
        ),
        (
            tls("certificate = \"$/server.pem\"\nkey = \"$/none.key\""),
            "4:7: cannot read $/none.key: No such file",
        ),
        (
            tls("certificate = \"$/server.pem\"\nkey = \"$/other.key\""),
            "4:7: the private key in $/other.key does not",
        ),
        (
            tls("certificate = \"$/server.key\"\nkey = \"$/server.key\""),
            "3:15: $/server.key holds no certificate",
        ),
        (
            tls("certificate = \"$/server.pem\"\nkey = \"$/server.pem\""),
            "4:7: $/server.pem holds no private key",
        ),
        (tls("certificate = \"$/text\"\nkey = \"$/server.key\""), "3:15: $/text holds no certificate"),
        (tls(&format!("{PAIR}client_ca = \"$/none.pem\"")), "5:13: cannot read $/none.pem: No such file"),
        (tls(&format!("{PAIR}client_ca = \"$/text\"")), "5:13: $/text holds no certificate"),
        (
            tls(&format!("{PAIR}client_ca = \"$/ca.pem\"\nclient_crl = \"$/text\"")),
            "6:14: $/text holds no list of revoked certificates",
        ),
    ];
    for (text, expect) in table {
        let error = refused(&pki, &text, &[]);
        assert!(error.starts_with(&format!("broker.toml:{expect}")), "for {text:?}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn flags_make_listeners_with_tls() {
    let pki = Pki::new();
    let pair = [("--tls-certificate", "$/server.pem"), ("--tls-key", "$/server.key")];
    let plain = ("--listen", "127.0.0.1:1");
    let with = |more: &[(&'static str, &'static str)]| [&pair, more].concat();
    let config =
        accepted(&pki, "", &with(&[plain, ("--listen", "tls://[::1]:2"), ("--listen", "wss://127.0.0.1:3")]));
    let certificates: Vec<_> =
        config.listeners.0.iter().map(|listener| listener.certificate.is_some()).collect();
    assert_eq!(certificates, [false, true, true]);
    // Client certificates are enough to be let in from other machines.
    accepted(&pki, "", &with(&[("--listen", "tls://0.0.0.0:2"), ("--tls-client-ca", "$/ca.pem")]));

    let table = [
        (
            vec![("--listen", "tls://127.0.0.1:1")],
            "--listen: tls://127.0.0.1:1 needs a certificate: give --tls-certificate FILE too\n\
             --listen: tls://127.0.0.1:1 needs the private key of its certificate: give --tls-key FILE too",
        ),
        (
            vec![plain, pair[1]],
            "--tls-key: no listener of the command line has TLS: give --listen tls://127.0.0.1:8883 too, or leave it \
             out",
        ),
        (
            with(&[("--listen", "wss://0.0.0.0:1")]),
            "--listen: wss://0.0.0.0:1 lets in whoever reaches it, for its clients need no certificate: give \
             --tls-client-ca FILE to require certificates of them, give --allow-anonymous too if that is meant, or \
             listen on 127.0.0.1",
        ),
        (
            vec![("--listen", "tls://127.0.0.1:1"), pair[0], ("--tls-key", "$/other.key")],
            "--tls-key: the private key in $/other.key does not belong to the first certificate in $/server.pem; name \
             the files of one pair, and have the certificate itself come before those of its authorities",
        ),
    ];
    for (flags, expect) in table {
        assert_eq!(refused(&pki, "", &flags), expect, "{flags:?}");
    }
}

#[test]
fn what_is_accepted_is_printed_and_read_back() {
    let pki = Pki::new();
    let text = [
        listener("mqtts://0.0.0.0:8883", &format!("{PAIR}client_ca = \"$/ca.pem\"\n")),
        listener(
            "wss://127.0.0.1:8443",
            &format!(
                "{PAIR}client_ca = \"$/ca.pem\"\nclient_certificate = \"optional\"\nclient_crl = \"$/crl.pem\"\n"
            ),
        ),
        listener("unix:///run/ringmq.sock", "unix_mode = \"660\"\n"),
        listener("ws://[::1]:8080", ""),
        "[limits]\nhandshake_timeout_ms = \"3s\"\nwebsocket_frame_bytes_max = \"1MiB\"\n".to_owned(),
    ]
    .concat();
    let config = accepted(&pki, &text, &[]);
    let printed = config.to_toml();
    assert!(
        printed.contains("address = \"unix:/run/ringmq.sock\"") && printed.contains("unix_mode = \"0660\"")
    );
    assert_eq!(accepted(&pki, &printed, &[]), config);
    assert_eq!(config.handshake_timeout_ms, 3000);
    assert_eq!(config.frame_bytes_max(), 1 << 20);
    assert_eq!(Config::default().frame_bytes_max(), 16 << 20);
    let requires: Vec<_> =
        config.listeners.0.iter().map(|listener| listener.requires_certificates()).collect();
    assert_eq!(requires, [true, false, false, false]);
    assert_eq!(config.listeners.0[1].client_certificate, Some(ClientCertificate::Optional));
}

#[test]
fn a_program_listens_in_every_way_and_reads_certificates_again() {
    let pki = Pki::new();
    let socket = pki.path("socket");
    let at = |address: &str| ListenerConfig::at(address.parse().unwrap());
    let with_tls = |address: &str| ListenerConfig {
        certificate: Some(pki.path("server.pem")),
        key: Some(pki.path("server.key")),
        ..at(address)
    };
    let broker = Broker::builder()
        .shards(1)
        .listen("127.0.0.1:0".parse().unwrap())
        .listen_on(with_tls("tls://127.0.0.1:0"))
        .listen_on(at("ws://127.0.0.1:0"))
        .listen_on(with_tls("wss://127.0.0.1:0"))
        .listen_on(at(&format!("unix:{}", socket.display())))
        .start()
        .unwrap();
    let ports = broker.addresses();
    let expect = [
        format!("{}", ports[0]),
        format!("tls://{}", ports[1]),
        format!("ws://{}", ports[2]),
        format!("wss://{}", ports[3]),
        format!("unix:{}", socket.display()),
    ];
    assert!(broker.listening().map(ToString::to_string).eq(expect.clone()));
    assert!(socket.exists());

    let outcomes = |broker: &Broker| -> Vec<(String, bool)> {
        let reloaded = broker.reload_certificates().into_iter();
        reloaded.map(|reloaded| (reloaded.address.to_string(), reloaded.outcome.is_ok())).collect()
    };
    let all = |fine| vec![(expect[1].clone(), fine), (expect[3].clone(), fine)];
    assert_eq!(outcomes(&broker), all(true));
    pki.write("server.key", "no key\n");
    assert_eq!(outcomes(&broker), all(false));
    broker.shutdown(Duration::from_secs(30)).unwrap();
    assert!(!socket.exists());

    let error = Broker::builder().listen_on(with_tls("tls://127.0.0.1:0")).start().err().unwrap();
    assert!(error.is_configuration() && error.to_string().contains("server.key"), "{error}");
    let error = Broker::builder().listen_on(at("tls://127.0.0.1:0")).start().err().unwrap().to_string();
    assert!(
        error.starts_with("configuration: tls://127.0.0.1:0 needs a certificate: set certificate too"),
        "{error}"
    );
}
