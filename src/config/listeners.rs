//! Checks the listeners of a configuration, and reads their certificates.

use std::path::{Path, PathBuf};

use ringmq_shards::{ServerTls, TlsError, TlsFiles};

use super::source::{Origins, listener_path};
use super::{Config, LISTENER_KEYS, ListenerConfig, Place, Problem, Value};

/// Everything that is wrong with the listeners.
pub fn problems(config: &Config, origins: &Origins) -> Vec<Problem> {
    let listeners = &config.listeners.0;
    let mut problems = Vec::new();
    for (at, listener) in listeners.iter().enumerate() {
        let look = Look { at, listener, origins };
        let address = &listener.address;
        if listeners[..at].iter().any(|earlier| earlier.address.collides(address)) {
            problems.push(look.problem("address", format!("{address} is listened on twice: leave one out")));
        }
        problems.extend(look.access());
        problems.extend(look.unix_mode());
        let tls = look.tls_keys();
        // Files are worth a look once it is clear which ones count.
        if tls.is_empty() {
            problems.extend(look.tls_files());
        }
        problems.extend(tls);
    }
    problems
}

impl ListenerConfig {
    /// Its files, of a listener with TLS that was checked.
    pub(crate) fn tls_files(&self) -> Option<TlsFiles> {
        let tls = self.address.wrapping().has_tls();
        let (certificate, key) = (self.certificate.clone(), self.key.clone());
        tls.then_some(certificate.zip(key)).flatten().map(|(certificate, key)| TlsFiles {
            certificate,
            key,
            client_ca: self.client_ca.clone(),
            client_certificate: self.client_certificate.unwrap_or_default(),
            crl: self.client_crl.clone(),
        })
    }
}

/// One listener, and where its keys were set.
struct Look<'a> {
    at: usize,
    listener: &'a ListenerConfig,
    origins: &'a Origins,
}

/// The keys that only a listener with TLS takes.
const TLS_KEYS: [&str; 5] = ["certificate", "key", "client_ca", "client_certificate", "client_crl"];

impl Look<'_> {
    fn place(&self, key: &str) -> Place {
        self.origins.of(&listener_path(self.at, key))
    }

    fn problem(&self, key: &str, text: String) -> Problem {
        Problem { place: self.place(key), text }
    }

    fn is_set(&self, name: &str) -> bool {
        let key = LISTENER_KEYS.iter().find(|key| key.name == name).expect("it is one of the keys");
        (key.get)(self.listener) != Value::Unset
    }

    /// Nobody is let in from other machines without authentication unless that was asked for.
    fn access(&self) -> Option<Problem> {
        let listener = self.listener;
        let address = &listener.address;
        match (listener.is_open(), listener.allow_anonymous) {
            (_, Some(true)) | (false, None) => None,
            (false, Some(false)) if listener.requires_certificates() => None,
            (true, None) => {
                let place = self.place("address");
                let write = match place {
                    Place::Flag(_) => "give --allow-anonymous too",
                    Place::File { .. } => "write allow_anonymous = true below the address",
                    Place::Program => "set allow_anonymous to true for it",
                };
                let text = if address.wrapping().has_tls() {
                    let require = match place {
                        Place::Flag(_) => "give --tls-client-ca FILE to require certificates of them",
                        Place::File { .. } | Place::Program => "require certificates of them (client_ca)",
                    };
                    format!(
                        "{address} lets in whoever reaches it, for its clients need no certificate: {require}, {write} \
                         if that is meant, or listen on 127.0.0.1"
                    )
                } else {
                    format!(
                        "{address} lets in whoever reaches it, for this version has no authentication: {write} if \
                         that is meant, or listen on 127.0.0.1"
                    )
                };
                Some(Problem { place, text })
            }
            (_, Some(false)) if address.wrapping().has_tls() => {
                let text = format!(
                    "nobody could connect to {address}, for its clients need no certificate, and this version has \
                     no other authentication: require certificates of them (client_ca), or write \
                     allow_anonymous = true"
                );
                Some(self.problem("allow_anonymous", text))
            }
            (_, Some(false)) => {
                let local = if address.port().is_some() { "a loopback address" } else { "a Unix socket" };
                let text = format!(
                    "nobody could connect to {address}, for this version has no authentication: leave \
                     allow_anonymous out for {local}, or write allow_anonymous = true"
                );
                Some(self.problem("allow_anonymous", text))
            }
        }
    }

    fn unix_mode(&self) -> Option<Problem> {
        let address = &self.listener.address;
        (self.is_set("unix_mode") && address.port().is_some()).then(|| {
            let text = format!("unix_mode is for Unix sockets, and {address} is a port: leave it out");
            self.problem("unix_mode", text)
        })
    }

    /// What is missing for TLS, and what is of no use without.
    fn tls_keys(&self) -> Vec<Problem> {
        let address = &self.listener.address;
        if !address.wrapping().has_tls() {
            let set = TLS_KEYS.into_iter().filter(|key| self.is_set(key));
            let instead = match address.with_tls() {
                Some(with_tls) => format!("write address = \"{with_tls}\", or leave it out"),
                None => "leave it out".to_owned(),
            };
            let text = |key| format!("{key} is for TLS, which {address} does not have: {instead}");
            return set.map(|key| self.problem(key, text(key))).collect();
        }
        let needed = [("certificate", "--tls-certificate"), ("key", "--tls-key")];
        let missing = needed.into_iter().filter(|(key, _)| !self.is_set(key)).map(|(key, flag)| {
            let place = self.place("address");
            let write = match place {
                Place::Flag(_) => format!("give {flag} FILE too"),
                Place::File { .. } => format!("write {key} = \"FILE\" below the address"),
                Place::Program => format!("set {key} too"),
            };
            let what = if key == "key" { "the private key of its certificate" } else { "a certificate" };
            Problem { place, text: format!("{address} needs {what}: {write}") }
        });
        let useless = ["client_certificate", "client_crl"].into_iter();
        let useless = useless.filter(|key| self.is_set(key) && !self.is_set("client_ca")).map(|key| {
            let text = format!(
                "{key} is of no use without client_ca: write client_ca = \"FILE\" with the authorities whose \
                 certificates clients show, or leave it out"
            );
            self.problem(key, text)
        });
        missing.chain(useless).collect()
    }

    fn tls_files(&self) -> Option<Problem> {
        let files = self.listener.tls_files()?;
        let error = ServerTls::load(&files).err()?;
        Some(self.problem(key_at_fault(&error, &files), error.to_string()))
    }
}

/// The key that names the file at fault.
fn key_at_fault(error: &TlsError, files: &TlsFiles) -> &'static str {
    let is = |path: &Path, named: &Option<PathBuf>| named.as_deref() == Some(path);
    let key_of = |path: &Path| {
        if is(path, &files.client_ca) {
            "client_ca"
        } else if is(path, &files.crl) {
            "client_crl"
        } else if path == files.key && path != files.certificate {
            "key"
        } else {
            "certificate"
        }
    };
    match error {
        TlsError::Read { path, .. }
        | TlsError::Pem { path, .. }
        | TlsError::NoCertificate { path }
        | TlsError::Unusable { path, .. } => key_of(path),
        TlsError::NoKey { .. }
        | TlsError::KeyEncrypted { .. }
        | TlsError::KeyUnusable { .. }
        | TlsError::KeyMismatch { .. } => "key",
        TlsError::NoRevocations { .. } => "client_crl",
        TlsError::NoSystemAuthorities { .. } | TlsError::ServerName(_) | TlsError::Provider(_) => "address",
    }
}
