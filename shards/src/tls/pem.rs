//! PEM files as what they hold.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, RootCertStore};

use super::error::TlsError;
use super::validity::warn_of_dates;

/// The largest file that is read.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// A certificate with its chain and its key, found to belong together.
pub(super) fn identity(
    certificate: &Path,
    key: &Path,
    provider: &Arc<CryptoProvider>,
) -> Result<CertifiedKey, TlsError> {
    let chain = certificates(certificate)?;
    for each in &chain {
        warn_of_dates(certificate, each);
    }
    let signer = provider
        .key_provider
        .load_private_key(private_key(key)?)
        .map_err(|error| TlsError::KeyUnusable { path: key.to_owned(), cause: error.to_string() })?;
    let pair = CertifiedKey::new(chain, signer);
    match pair.keys_match() {
        // Unknown: a key that does not tell its public half; the first handshake will.
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(pair),
        Err(Error::InconsistentKeys(_)) => {
            Err(TlsError::KeyMismatch { certificate: certificate.to_owned(), key: key.to_owned() })
        }
        Err(error) => Err(TlsError::Unusable { path: certificate.to_owned(), cause: error.to_string() }),
    }
}

/// The authorities of a file.
pub(super) fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        warn_of_dates(path, &certificate);
        roots
            .add(certificate)
            .map_err(|error| TlsError::Unusable { path: path.to_owned(), cause: error.to_string() })?;
    }
    Ok(roots)
}

/// The authorities that the system trusts.
pub(super) fn system_authorities() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (good, bad) = roots.add_parsable_certificates(found.certs);
    if good == 0 {
        let cause = match found.errors.first() {
            Some(error) => error.to_string(),
            None => format!("{bad} that cannot be read"),
        };
        return Err(TlsError::NoSystemAuthorities { cause });
    }
    Ok(roots)
}

/// The lists of revoked certificates of a file.
pub(super) fn revocations(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    let lists = sections::<CertificateRevocationListDer<'static>>(path, &read(path)?)?;
    if lists.is_empty() {
        return Err(TlsError::NoRevocations { path: path.to_owned() });
    }
    Ok(lists)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found = sections::<CertificateDer<'static>>(path, &read(path)?)?;
    if found.is_empty() {
        return Err(TlsError::NoCertificate { path: path.to_owned() });
    }
    Ok(found)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let text = read(path)?;
    // The two ways in which PEM says so: PKCS#8, and the older one of OpenSSL.
    for mark in [&b"BEGIN ENCRYPTED PRIVATE KEY"[..], b"Proc-Type: 4,ENCRYPTED"] {
        if text.windows(mark.len()).any(|window| window == mark) {
            return Err(TlsError::KeyEncrypted { path: path.to_owned() });
        }
    }
    match PrivateKeyDer::from_pem_slice(&text) {
        Ok(key) => Ok(key),
        Err(PemError::NoItemsFound) => Err(TlsError::NoKey { path: path.to_owned() }),
        Err(error) => Err(TlsError::Pem { path: path.to_owned(), cause: error.to_string() }),
    }
}

fn sections<T: PemObject>(path: &Path, text: &[u8]) -> Result<Vec<T>, TlsError> {
    let found: Result<Vec<T>, PemError> = T::pem_slice_iter(text).collect();
    found.map_err(|error| TlsError::Pem { path: path.to_owned(), cause: error.to_string() })
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |source: io::Error| {
        let remedy = match source.kind() {
            io::ErrorKind::NotFound => "check the path; a relative one counts from the working directory",
            io::ErrorKind::PermissionDenied => "let the user that runs this read it",
            io::ErrorKind::IsADirectory => "name the file, not its directory",
            _ => "check the file",
        };
        TlsError::Read { path: path.to_owned(), source, remedy }
    };
    let bytes = std::fs::metadata(path).map_err(failed)?.len();
    if bytes > FILE_BYTES_MAX {
        let cause = format!("it has {bytes} bytes, and no more than {FILE_BYTES_MAX} are read");
        return Err(TlsError::Pem { path: path.to_owned(), cause });
    }
    std::fs::read(path).map_err(failed)
}
