//! What a session shows to brokers over TLS, and asks of them.

use std::path::PathBuf;

use ringmq_shards::ClientTlsFiles;

/// TLS options of a session's `mqtts://` and `wss://` addresses. Sessions with equal options share what is made
/// of them.
///
/// The files are PEM. They are read and checked when the session is added, and again by
/// [`crate::Session::reload_tls`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tls {
    ca: Option<PathBuf>,
    identity: Option<(PathBuf, PathBuf)>,
    server_name: Option<String>,
    watches: bool,
}

impl Tls {
    /// Trusts whom the system trusts.
    pub fn system_roots() -> Self {
        Self::default()
    }

    /// Trusts the authorities in this file, and nobody else.
    pub fn ca_file(path: impl Into<PathBuf>) -> Self {
        Self { ca: Some(path.into()), ..Self::default() }
    }

    /// Shows this certificate, with those between it and its authority, to brokers that ask for one.
    #[must_use]
    pub fn certificate(mut self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.identity = Some((certificate.into(), key.into()));
        self
    }

    /// The name that the broker's certificate must have, where it is not the address's host.
    #[must_use]
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// Looks every five seconds whether the files changed; if so, and they are good, sessions that use them
    /// connect anew. By default only [`crate::Session::reload_tls`] reads them again.
    #[must_use]
    pub fn watch_certificates(mut self) -> Self {
        self.watches = true;
        self
    }

    pub(crate) fn watches(&self) -> bool {
        self.watches
    }

    pub(crate) fn files(&self) -> ClientTlsFiles {
        ClientTlsFiles {
            ca: self.ca.clone(),
            identity: self.identity.clone(),
            server_name: self.server_name.clone(),
        }
    }

    /// The files that may change.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        self.ca.iter().chain(self.identity.iter().flat_map(|(certificate, key)| [certificate, key]))
    }
}
