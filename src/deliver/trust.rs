//! Faults that last until somebody fixes them, certificates above all: logged once, with what to do.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use rustls::{AlertDescription, CertificateError, Error};
use tokio::time::Instant;
use tracing::{error, info};

use super::{fault::Fault, tls::NO_ROOTS};

/// How often a fault is logged that goes on, and one that comes and goes, as with one bad server of several.
const LOG_INTERVAL: Duration = Duration::from_hours(1);
const RELOG_INTERVAL: Duration = Duration::from_mins(1);

/// The faults of trust between here and the endpoint that were logged.
#[derive(Debug, Default)]
pub(super) struct Trust {
    /// Whether one was logged and has not ended: each answer asks.
    broken: AtomicBool,
    logged: Mutex<Option<Logged>>,
}

#[derive(Debug)]
struct Logged {
    fault: String,
    at: Instant,
    /// Attempts that it ended since it was there first.
    attempts: u64,
}

impl Trust {
    /// There is a fault that lasts until somebody does what `remedy` says.
    pub(super) fn broken(&self, label: &str, fault: &Fault, remedy: &str) {
        let fault = fault.to_string();
        let now = Instant::now();
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        let attempts = logged.as_ref().map_or(0, |logged| logged.attempts) + 1;
        let silence = if self.broken.load(Relaxed) { LOG_INTERVAL } else { RELOG_INTERVAL };
        match &mut *logged {
            Some(before)
                if now.saturating_duration_since(before.at) < silence && alike(&before.fault, &fault) =>
            {
                before.attempts = attempts;
            }
            _ => {
                let again =
                    if attempts > 1 { format!(" ({attempts} attempts so far)") } else { String::new() };
                error!(
                    "{label}: {fault}: {remedy}. Messages are held until it is mended, at most for max_retry_duration{again}"
                );
                *logged = Some(Logged { fault, at: now, attempts });
                self.broken.store(true, Relaxed);
            }
        }
    }

    /// An answer came.
    pub(super) fn restored(&self, label: &str) {
        if self.broken.load(Relaxed) && self.broken.swap(false, Relaxed) {
            let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
            let attempts = logged.as_mut().map_or(0, |logged| std::mem::take(&mut logged.attempts));
            info!(
                "{label}: certificates and credentials of the connection are in order again, after {attempts} attempts"
            );
        }
    }
}

/// Whether two faults are the same but for numbers: some have a time in them.
fn alike(one: &str, other: &str) -> bool {
    let words = |text: &str| text.chars().filter(|letter| !letter.is_ascii_digit()).collect::<String>();
    words(one) == words(other)
}

/// What somebody is to do about an error that no later attempt mends; `None` for any other.
pub(super) fn remedy(error: &Error) -> Option<&'static str> {
    Some(match error {
        Error::InvalidCertificate(why) => match why {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the endpoint's certificate has expired, and is to be renewed there, if the clock of this machine is right"
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
            CertificateError::Revoked => "the endpoint's certificate is revoked, and is to be replaced there",
            _ => "the endpoint's certificate cannot be accepted, and is to be replaced there",
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
        Error::General(why) if why == NO_ROOTS => {
            "nobody can be trusted without certificates to check others by"
        }
        _ => return None,
    })
}
