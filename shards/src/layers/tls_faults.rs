//! What goes wrong in TLS, as faults of a peer, with sentences.

use ringmq_turn::TransportFault;
use rustls::{AlertDescription, CertificateError, Error};

use super::Fault;

/// Which side we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Server,
    Client,
}

/// The fault that an error means.
pub(super) fn fault(side: Side, error: &Error, ready: bool) -> Fault {
    match error {
        Error::InvalidCertificate(reason) => Fault::new(TransportFault::Certificate, untrusted(side, reason)),
        Error::NoCertificatesPresented => {
            let detail = "it showed no certificate, and this listener lets in only those who have one";
            Fault::new(TransportFault::Certificate, detail)
        }
        // A TLS 1.3 client learns what its certificate is worth after its own handshake is over.
        Error::AlertReceived(alert) if side == Side::Client && is_about_certificates(*alert) => {
            let detail = format!(
                "it refused the certificate shown to it, or wants one ({alert:?}): check the client \
                 certificate, and the authorities that it trusts"
            );
            Fault::new(TransportFault::Certificate, detail)
        }
        Error::AlertReceived(alert) if !ready => {
            let hint = if is_about_certificates(*alert) {
                ": it does not trust the certificate of this listener"
            } else {
                ""
            };
            Fault::new(
                TransportFault::TlsHandshake,
                format!("it ended the TLS handshake with {alert:?}{hint}"),
            )
        }
        error if ready => Fault::new(TransportFault::TlsRecord, format!("TLS broke: {error}")),
        error => Fault::new(TransportFault::TlsHandshake, format!("the TLS handshake failed: {error}")),
    }
}

/// The sentence for a peer that does not speak TLS.
pub(super) fn not_tls(side: Side, first: &[u8]) -> String {
    let found = match first {
        [b'A'..=b'Z', ..] if first.iter().take(4).all(|byte| byte.is_ascii_graphic() || *byte == b' ') => {
            "HTTP, it seems"
        }
        [0x10, ..] if side == Side::Server => "MQTT without TLS, it seems",
        _ => "something else",
    };
    match side {
        Side::Server => format!("it does not speak TLS, but {found}"),
        Side::Client => format!("it does not speak TLS, but {found}: check the port, or connect without TLS"),
    }
}

fn is_about_certificates(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::NoCertificate
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::CertificateRequired
    )
}

/// The sentence for a certificate that was refused here.
fn untrusted(side: Side, reason: &CertificateError) -> String {
    let remedy = match (reason, side) {
        (CertificateError::UnknownIssuer, Side::Client) => {
            "it is not issued by a trusted authority, or the far end leaves out those between: give the \
             authority's certificate as the CA file"
        }
        (CertificateError::UnknownIssuer, Side::Server) => {
            "it is not issued by an authority of the client CA file"
        }
        (CertificateError::BadSignature, _) => {
            "its authority has the name of a trusted one, but another key: the CA file may be out of date"
        }
        (CertificateError::Expired | CertificateError::ExpiredContext { .. }, _) => {
            "it has to be renewed, or the clock here is wrong"
        }
        (CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }, _) => {
            "the clock here may be wrong"
        }
        (CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }, _) => {
            "connect by a name that it has, or set the server name"
        }
        (CertificateError::Revoked, _) => "its authority has revoked it",
        (CertificateError::UnknownRevocationStatus, _) => {
            "its authority has no list among those of revoked certificates"
        }
        (_, _) => "have it issued anew",
    };
    format!("its certificate is refused ({reason}): {remedy}")
}
