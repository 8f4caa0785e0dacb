//! Certificates and keys: loaded from PEM files, checked, and replaced while connections go on.

mod error;
mod pem;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod validity;

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use rustls::client::WebPkiServerVerifier;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::ServerName;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, ConfigBuilder, ServerConfig, WantsVerifier};

pub use self::error::TlsError;

/// The name in TLS's list of application protocols (ALPN) of bytes without WebSocket around them.
const ALPN_PLAIN: &[u8] = b"mqtt";
/// The same for WebSocket, which starts as HTTP.
const ALPN_WEBSOCKET: &[u8] = b"http/1.1";

/// Whether clients of a listener must show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientCertificate {
    /// A client without one is turned away.
    #[default]
    Required,
    /// A client may have none; one that is shown must be good.
    Optional,
}

/// The PEM files of a listener.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// The listener's certificate, and after it those between it and its authority.
    pub certificate: PathBuf,
    /// The certificate's private key, not encrypted: PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
    /// The authorities whose clients are let in; none asks clients for no certificate.
    pub client_ca: Option<PathBuf>,
    /// Whether they must have one. Without [`Self::client_ca`] it means nothing.
    pub client_certificate: ClientCertificate,
    /// Certificates that clients may show no longer, as lists of the authorities. With it, each client's
    /// authority must have a list here. A list that is out of date still counts.
    pub crl: Option<PathBuf>,
}

/// The PEM files of connections to a far end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientTlsFiles {
    /// The authorities that may vouch for the far end; none takes the system's.
    pub ca: Option<PathBuf>,
    /// The certificate, with those between it and its authority, and the private key to show to a far end
    /// that asks for one.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The name that the far end's certificate must have; none takes the host that is connected to.
    pub server_name: Option<String>,
}

/// What a listener shows to its clients, and asks of them. Clones share it: [`ServerTls::reload`] on one
/// counts for all.
#[derive(Clone)]
pub struct ServerTls(Arc<Kept<TlsFiles, ServerConfigs>>);

/// What connections to a far end show, and ask. Clones share it: [`ClientTls::reload`] on one counts for
/// all.
#[derive(Clone)]
pub struct ClientTls(Arc<Kept<ClientTlsFiles, ClientConfigs>>);

/// Files, and what was last made of them. Looked at once for each new connection, by any shard.
struct Kept<F, C> {
    files: F,
    current: RwLock<C>,
}

/// The configurations of a listener, by what is spoken inside TLS.
struct ServerConfigs {
    plain: Arc<ServerConfig>,
    websocket: Arc<ServerConfig>,
}

/// The configurations of a far end, by what is spoken inside TLS.
struct ClientConfigs {
    plain: Arc<ClientConfig>,
    websocket: Arc<ClientConfig>,
    name: Option<ServerName<'static>>,
}

impl ServerTls {
    /// Reads and checks the files.
    pub fn load(files: &TlsFiles) -> Result<Self, TlsError> {
        let current = RwLock::new(server_configs(files)?);
        Ok(Self(Arc::new(Kept { files: files.clone(), current })))
    }

    /// Reads the files again. Connections that open from then on get what they hold now; if anything is
    /// wrong with them, all stays as it was.
    pub fn reload(&self) -> Result<(), TlsError> {
        self.0.replace(server_configs(&self.0.files)?);
        Ok(())
    }

    /// The files that it comes from.
    pub fn files(&self) -> &TlsFiles {
        &self.0.files
    }

    /// What a new connection gets.
    pub(crate) fn config(&self, websocket: bool) -> Arc<ServerConfig> {
        self.0.with(|current| Arc::clone(if websocket { &current.websocket } else { &current.plain }))
    }
}

impl ClientTls {
    /// Reads and checks the files.
    pub fn load(files: &ClientTlsFiles) -> Result<Self, TlsError> {
        let current = RwLock::new(client_configs(files)?);
        Ok(Self(Arc::new(Kept { files: files.clone(), current })))
    }

    /// Reads the files again. Connections that open from then on use what they hold now; if anything is
    /// wrong with them, all stays as it was.
    pub fn reload(&self) -> Result<(), TlsError> {
        self.0.replace(client_configs(&self.0.files)?);
        Ok(())
    }

    /// The files that it comes from.
    pub fn files(&self) -> &ClientTlsFiles {
        &self.0.files
    }

    /// What a new connection gets, and the name that its far end must have if it is not the host's.
    pub(crate) fn config(&self, websocket: bool) -> (Arc<ClientConfig>, Option<ServerName<'static>>) {
        self.0.with(|current| {
            let config = if websocket { &current.websocket } else { &current.plain };
            (Arc::clone(config), current.name.clone())
        })
    }
}

impl<F, C> Kept<F, C> {
    fn replace(&self, new: C) {
        // The old one is dropped after the lock.
        let _old = std::mem::replace(&mut *self.current.write().unwrap_or_else(PoisonError::into_inner), new);
    }

    fn with<R>(&self, look: impl FnOnce(&C) -> R) -> R {
        look(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ServerTls").field(&self.0.files).finish()
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ClientTls").field(&self.0.files).finish()
    }
}

/// Equal when a reload of one is a reload of the other.
impl PartialEq for ServerTls {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for ServerTls {}

/// Equal when a reload of one is a reload of the other.
impl PartialEq for ClientTls {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for ClientTls {}

fn server_configs(files: &TlsFiles) -> Result<ServerConfigs, TlsError> {
    let identity = pem::identity(&files.certificate, &files.key, provider())?;
    let builder = versions(ServerConfig::builder_with_provider(Arc::clone(provider())));
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let roots = Arc::new(pem::authorities(path)?);
            let mut verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider()))
                .only_check_end_entity_revocation();
            if let Some(crl) = &files.crl {
                verifier = verifier.with_crls(pem::revocations(crl)?);
            }
            if files.client_certificate == ClientCertificate::Optional {
                verifier = verifier.allow_unauthenticated();
            }
            let verifier = verifier.build().map_err(|error| TlsError::Unusable {
                path: files.crl.clone().unwrap_or_else(|| path.clone()),
                cause: error.to_string(),
            })?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut plain = builder.with_cert_resolver(Arc::new(resolver(identity)));
    // Tickets carry all that a session needs, sealed with a key of this process: nothing is kept for
    // clients that may never come back. Whoever must show a certificate must show it each time.
    plain.session_storage = Arc::new(NoServerSessionStorage {});
    if files.client_ca.is_none() {
        plain.ticketer = ring::Ticketer::new().map_err(|error| TlsError::Provider(error.to_string()))?;
        plain.send_tls13_tickets = 1;
    } else {
        plain.send_tls13_tickets = 0;
    }
    plain.alpn_protocols = vec![ALPN_PLAIN.to_vec()];
    let mut websocket = plain.clone();
    websocket.alpn_protocols = vec![ALPN_WEBSOCKET.to_vec()];
    Ok(ServerConfigs { plain: Arc::new(plain), websocket: Arc::new(websocket) })
}

fn client_configs(files: &ClientTlsFiles) -> Result<ClientConfigs, TlsError> {
    let roots = match &files.ca {
        Some(path) => pem::authorities(path)?,
        None => pem::system_authorities()?,
    };
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider()));
    let verifier = verifier.build().map_err(|error| TlsError::Provider(error.to_string()))?;
    let builder = versions(ClientConfig::builder_with_provider(Arc::clone(provider())));
    let builder = builder.with_webpki_verifier(verifier);
    let plain = match &files.identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let identity = pem::identity(certificate, key, provider())?;
            builder.with_client_cert_resolver(Arc::new(resolver(identity)))
        }
    };
    let mut websocket = plain.clone();
    websocket.alpn_protocols = vec![ALPN_WEBSOCKET.to_vec()];
    let name = files.server_name.as_deref().map(server_name).transpose()?;
    Ok(ClientConfigs { plain: Arc::new(plain), websocket: Arc::new(websocket), name })
}

/// A host as a name that certificates have: a DNS name or an address.
pub(crate) fn server_name(host: &str) -> Result<ServerName<'static>, TlsError> {
    ServerName::try_from(host.to_owned()).map_err(|_| TlsError::ServerName(host.to_owned()))
}

fn versions<S: rustls::ConfigSide>(
    builder: ConfigBuilder<S, rustls::WantsVersions>,
) -> ConfigBuilder<S, WantsVerifier> {
    builder.with_safe_default_protocol_versions().expect("the provider has ciphers for TLS 1.2 and 1.3")
}

fn resolver(identity: CertifiedKey) -> SingleCertAndKey {
    SingleCertAndKey::from(identity)
}

/// The cryptography of all connections.
fn provider() -> &'static Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(ring::default_provider()))
}
