//! Certificates for tests: two authorities, and what they issued.
#![allow(dead_code, reason = "each test takes what it needs")]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer, KeyIdMethod,
    KeyPair, KeyUsagePurpose, SerialNumber, date_time_ymd,
};

/// A folder of PEM files, gone when its value is:
///
/// - `ca.pem`: an authority; `server.pem` and `server.key`: a server that it knows as localhost and 127.0.0.1;
///   `client.pem` and `client.key`: a client that it knows; `crl.pem`: what it revoked, which is nothing.
/// - `foreign-ca.pem`, `foreign.pem`, `foreign.key`: another authority, and a client of its.
/// - `other.key`: a key of no certificate; `text`: no PEM.
pub struct Pki {
    folder: PathBuf,
    ours: Authority,
}

struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// A certificate and its key.
    fn issue(&self, names: &[&str]) -> (String, String) {
        self.issue_until(names, 2100)
    }

    fn issue_until(&self, names: &[&str], year: i32) -> (String, String) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names.clone()).unwrap();
        params.not_after = date_time_ymd(year, 1, 1);
        // Else it would have the authority's own name, and OpenSSL take it for its own issuer.
        params.distinguished_name.push(DnType::CommonName, names[0].as_str());
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    fn revokes_nothing(&self) -> String {
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(2100, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: Vec::new(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

impl Pki {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("ringmq-pki-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let (ours, theirs) = (Authority::new(), Authority::new());
        let pki = Self { folder: std::env::temp_dir().join(name), ours };
        std::fs::create_dir(&pki.folder).unwrap();
        pki.write("ca.pem", &pki.ours.pem);
        pki.write_pair("server", pki.ours.issue(&["localhost", "127.0.0.1"]));
        pki.write_pair("client", pki.ours.issue(&["client"]));
        pki.write("crl.pem", &pki.ours.revokes_nothing());
        pki.write("foreign-ca.pem", &theirs.pem);
        pki.write_pair("foreign", theirs.issue(&["foreign"]));
        pki.write("other.key", &KeyPair::generate().unwrap().serialize_pem());
        pki.write("text", "no certificate\n");
        pki
    }

    fn write_pair(&self, name: &str, (certificate, key): (String, String)) {
        self.write(&format!("{name}.pem"), &certificate);
        self.write(&format!("{name}.key"), &key);
    }

    /// Puts a file there, or another in its place.
    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.join(name), text).unwrap();
    }

    /// Gives the server another certificate of the same authority's kind, from an authority of its own.
    pub fn renew_server(&self) {
        let authority = Authority::new();
        self.write("ca.pem", &authority.pem);
        self.write_pair("server", authority.issue(&["localhost", "127.0.0.1"]));
    }

    /// Gives the server a certificate of the same authority that was good until 2021.
    pub fn expire_server(&self) {
        self.write_pair("server", self.ours.issue_until(&["localhost", "127.0.0.1"], 2021));
    }

    /// Puts another certificate that the authority issued for a client in the place of this one.
    pub fn reissue_as_client(&self, name: &str) {
        self.write_pair(name, self.ours.issue(&["client"]));
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub fn folder(&self) -> String {
        Path::new(&self.folder).display().to_string()
    }

    /// A text with the folder in place of `$`.
    pub fn paths(&self, text: &str) -> String {
        text.replace('$', &self.folder())
    }
}

impl Drop for Pki {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
