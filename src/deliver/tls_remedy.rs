//! What somebody must do about TLS faults that do not resolve themselves.

use rustls::{AlertDescription, CertificateError, Error};

use super::tls::NO_ROOTS;

/// Returns what somebody must do about an error that no later attempt resolves; `None` for any other.
pub(super) fn of(error: &Error) -> Option<&'static str> {
    Some(match error {
        Error::InvalidCertificate(why) => match why {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the endpoint's certificate has expired: renew it there, or correct the clock of this machine"
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "the endpoint's certificate is not valid yet, or the clock of this machine is wrong"
            }
            CertificateError::UnknownIssuer => {
                "the authority behind the endpoint's certificate is not trusted: name it with tls.ca_file, if it is yours"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "the endpoint's certificate is for other names: url must have one of them, or somebody else answers there"
            }
            CertificateError::Revoked => "the endpoint's certificate is revoked: replace it there",
            _ => "the endpoint's certificate cannot be accepted: replace it there",
        },
        Error::NoCertificatesPresented => "the endpoint has no certificate",
        Error::AlertReceived(alert) => match alert {
            AlertDescription::CertificateRequired | AlertDescription::NoCertificate => {
                "the endpoint asks for a certificate of this client: give tls.client_cert_file and tls.client_key_file"
            }
            AlertDescription::CertificateExpired => {
                "the certificate in tls.client_cert_file has expired: renew it, it is read again when it changes"
            }
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateUnknown
            | AlertDescription::DecryptError
            | AlertDescription::AccessDenied => {
                "the endpoint does not accept the certificate in tls.client_cert_file, or wants one: it must be of an authority \
                 that the endpoint trusts"
            }
            AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity => {
                "the endpoint shares no cipher with this client, or wants a certificate of it (tls.client_cert_file)"
            }
            AlertDescription::ProtocolVersion => {
                "the endpoint speaks no version of TLS that tls.min_version allows"
            }
            AlertDescription::UnrecognisedName => "the endpoint does not know the host that url names",
            AlertDescription::NoApplicationProtocol => {
                "the endpoint speaks another protocol: http2_prior_knowledge offers HTTP/2 alone"
            }
            _ => return None,
        },
        Error::PeerIncompatible(_) => {
            "the endpoint speaks no version of TLS, or no cipher, that this client does: see tls.min_version"
        }
        Error::General(why) if why == NO_ROOTS => "no certificate can be trusted without CA certificates",
        _ => return None,
    })
}
