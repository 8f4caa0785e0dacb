//! What can be wrong with certificates and keys, and what to do about it.

use std::io;
use std::path::PathBuf;

/// Why TLS files are of no use. Each message names the file, the cause and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}; {remedy}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
        /// What to do.
        remedy: &'static str,
    },
    /// A file is no PEM.
    #[error(
        "{} is damaged: {cause}; it must be PEM, text with lines of BEGIN and END (`openssl x509 -inform der` \
         and `openssl pkey -inform der` make it from DER)",
        path.display()
    )]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// A file that should hold certificates holds none.
    #[error(
        "{} holds no certificate; it must be PEM with a line `-----BEGIN CERTIFICATE-----`, and not the \
         key or a signing request",
        path.display()
    )]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// A file that should hold a private key holds none.
    #[error(
        "{} holds no private key; it must be PEM with a line `-----BEGIN PRIVATE KEY-----` (or `EC` or `RSA` \
         before `PRIVATE`), and not the certificate",
        path.display()
    )]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// A file that should hold lists of revoked certificates holds none.
    #[error("{} holds no list of revoked certificates; it must be PEM with a line `-----BEGIN X509 CRL-----`", path.display())]
    NoRevocations {
        /// The file.
        path: PathBuf,
    },
    /// The private key is encrypted.
    #[error(
        "the private key in {} is encrypted; `openssl pkey -in {} -out plain.pem` writes it without a \
         passphrase: keep that file readable for the broker's user only",
        path.display(), path.display()
    )]
    KeyEncrypted {
        /// The file.
        path: PathBuf,
    },
    /// The private key is of a kind that is not supported.
    #[error(
        "the private key in {} cannot be used: {cause}; RSA of 2,048 bits or more, ECDSA on P-256 or P-384, \
         and Ed25519 can",
        path.display()
    )]
    KeyUnusable {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// Certificate and key are of different pairs.
    #[error(
        "the private key in {} does not belong to the first certificate in {}; name the files of one pair, \
         and have the certificate itself come before those of its authorities",
        key.display(), certificate.display()
    )]
    KeyMismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// What a file holds makes no sense as what it should be.
    #[error("{} cannot be used: {cause}; have it issued anew, as X.509 version 3", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// The system has no authorities to trust.
    #[error(
        "this system has no certificates of authorities ({cause}); install `ca-certificates`, or name a CA file"
    )]
    NoSystemAuthorities {
        /// What was found instead.
        cause: String,
    },
    /// A far end's name is none.
    #[error("`{0}` is no name that a certificate may have; give a DNS name or an IP address")]
    ServerName(String),
    /// The cryptography cannot work.
    #[error("cannot set up TLS: {0}; the system's source of randomness may be missing")]
    Provider(String),
}
