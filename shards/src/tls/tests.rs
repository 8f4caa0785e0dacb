#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::testing::{Authority, Directory};
use super::*;

/// A directory with good files, and some bad ones.
fn files() -> Directory {
    let directory = Directory::new();
    let authority = Authority::new();
    let ours = authority.issue("localhost");
    let other = authority.issue("elsewhere");
    directory.write("ca.pem", &authority.pem);
    directory.write("good.pem", &ours.certificate);
    directory.write("good.key", &ours.key);
    directory.write("chain.pem", &format!("{}{}", ours.certificate, authority.pem));
    directory.write("wrong-order.pem", &format!("{}{}", authority.pem, ours.certificate));
    directory.write("both.pem", &format!("{}{}", ours.key, ours.certificate));
    directory.write("other.key", &other.key);
    directory.write("expired.pem", &authority.issue_expired("localhost").certificate);
    directory.write("empty.pem", "");
    directory.write("der.pem", "\x30\x03\x02\x01\x01");
    directory.write("cut.pem", &ours.certificate[..ours.certificate.len() - 30]);
    directory.write("nonsense.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    directory.write("nonsense.key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    directory.write(
        "encrypted.key",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    directory.write(
        "encrypted-old.key",
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n\
         -----END RSA PRIVATE KEY-----\n",
    );
    directory.write("revoked.pem", &authority.revoke(7));
    directory
}

fn server(directory: &Path, certificate: &str, key: &str) -> TlsFiles {
    TlsFiles { certificate: directory.join(certificate), key: directory.join(key), ..TlsFiles::default() }
}

#[test]
fn what_is_wrong_is_said() {
    let directory = files();
    for (certificate, key, expect) in [
        ("good.pem", "good.key", ""),
        ("chain.pem", "good.key", ""),
        ("both.pem", "both.pem", ""),
        (
            "missing.pem",
            "good.key",
            "cannot read DIR/missing.pem: No such file or directory (os error 2); check the path",
        ),
        ("good.pem", "missing.key", "cannot read DIR/missing.key"),
        ("", "good.key", "name the file, not its directory"),
        ("empty.pem", "good.key", "DIR/empty.pem holds no certificate"),
        ("der.pem", "good.key", "DIR/der.pem holds no certificate; it must be PEM"),
        ("good.key", "good.key", "DIR/good.key holds no certificate"),
        ("good.pem", "good.pem", "DIR/good.pem holds no private key"),
        ("cut.pem", "good.key", "DIR/cut.pem is damaged"),
        ("nonsense.pem", "good.key", "DIR/nonsense.pem cannot be used"),
        ("good.pem", "nonsense.key", "the private key in DIR/nonsense.key cannot be used"),
        (
            "good.pem",
            "other.key",
            "the private key in DIR/other.key does not belong to the first certificate in DIR/good.pem",
        ),
        ("wrong-order.pem", "good.key", "does not belong to the first certificate"),
        (
            "good.pem",
            "encrypted.key",
            "the private key in DIR/encrypted.key is encrypted; `openssl pkey -in DIR/encrypted.key",
        ),
        ("good.pem", "encrypted-old.key", "is encrypted"),
    ] {
        let outcome = ServerTls::load(&server(directory.path(), certificate, key));
        let said = outcome.err().map(|error| error.to_string()).unwrap_or_default();
        let said = said.replace(directory.path().to_str().unwrap(), "DIR");
        assert!(
            said.contains(expect) && said.is_empty() == expect.is_empty(),
            "{certificate}, {key}: {said:?}"
        );
    }
}

#[test]
fn authorities_of_clients_and_revocations_are_checked() {
    let directory = files();
    let path = |name: &str| Some(directory.path().join(name)).filter(|_| !name.is_empty());
    for (client_ca, crl, expect) in [
        ("ca.pem", "", ""),
        ("ca.pem", "revoked.pem", ""),
        ("empty.pem", "", "empty.pem holds no certificate"),
        ("nonsense.pem", "", "nonsense.pem cannot be used"),
        ("ca.pem", "ca.pem", "ca.pem holds no list of revoked certificates"),
    ] {
        let files = TlsFiles {
            client_ca: path(client_ca),
            crl: path(crl),
            ..server(directory.path(), "good.pem", "good.key")
        };
        let said = ServerTls::load(&files).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(
            said.contains(expect) && said.is_empty() == expect.is_empty(),
            "{client_ca}, {crl}: {said:?}"
        );
    }
}

#[test]
fn what_a_client_names_is_checked() {
    let directory = files();
    let path = |name: &str| directory.path().join(name);
    let files = |ca: &str, identity: Option<(&str, &str)>, name: Option<&str>| ClientTlsFiles {
        ca: Some(path(ca)),
        identity: identity.map(|(certificate, key)| (path(certificate), path(key))),
        server_name: name.map(str::to_owned),
    };
    for (files, expect) in [
        (files("ca.pem", None, None), ""),
        (files("ca.pem", Some(("good.pem", "good.key")), Some("10.0.0.1")), ""),
        (files("missing.pem", None, None), "cannot read"),
        (files("ca.pem", Some(("good.pem", "other.key")), None), "does not belong"),
        (files("ca.pem", None, Some("no name")), "`no name` is no name that a certificate may have"),
    ] {
        let said = ClientTls::load(&files).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(said.contains(expect) && said.is_empty() == expect.is_empty(), "{files:?}: {said:?}");
    }
}

#[test]
fn a_reload_takes_all_or_nothing() {
    let directory = files();
    let authority = Authority::new();
    let tls = ServerTls::load(&server(directory.path(), "good.pem", "good.key")).unwrap();
    let shared = tls.clone();
    let before = shared.config(false);

    let new = authority.issue("localhost");
    directory.write("good.pem", &new.certificate);
    let said = tls.reload().unwrap_err().to_string();
    assert!(said.contains("does not belong"), "{said}");
    assert!(Arc::ptr_eq(&before, &shared.config(false)), "a bad pair replaced a good one");

    directory.write("good.key", &new.key);
    tls.reload().unwrap();
    assert!(!Arc::ptr_eq(&before, &shared.config(false)), "a good pair did not count for clones");

    let files = ClientTlsFiles { ca: Some(directory.path().join("ca.pem")), ..ClientTlsFiles::default() };
    let tls = ClientTls::load(&files).unwrap();
    let before = tls.config(true).0;
    let good = directory.write("ca.pem", "");
    assert!(matches!(tls.reload(), Err(TlsError::NoCertificate { path }) if path == good));
    assert!(Arc::ptr_eq(&before, &tls.config(true).0));
    directory.write("ca.pem", &authority.pem);
    tls.reload().unwrap();
    assert!(!Arc::ptr_eq(&before, &tls.config(true).0));
}

#[test]
fn an_out_of_date_certificate_is_taken() {
    // It is a warning: a broker that has run until now must still start.
    let directory = Directory::new();
    let old = Authority::new().issue_expired("localhost");
    let files = TlsFiles {
        certificate: directory.write("old.pem", &old.certificate),
        key: directory.write("old.key", &old.key),
        ..TlsFiles::default()
    };
    ServerTls::load(&files).unwrap();
}

#[test]
fn keys_of_the_older_forms_are_read() {
    // Made with `openssl ecparam -genkey` and `openssl genrsa -traditional`; the pair need not match a
    // certificate to show that the key was understood.
    let directory = files();
    for name in ["sec1", "pkcs1"] {
        let key = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/tls/samples").join(name);
        let files = TlsFiles { key, ..server(directory.path(), "good.pem", "") };
        assert!(matches!(ServerTls::load(&files), Err(TlsError::KeyMismatch { .. })), "{name}");
    }
}
