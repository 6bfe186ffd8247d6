//! The TLS configuration of a client: the authorities it trusts, its certificate, and the versions it accepts.
//!
//! The cryptographic provider is named here and not taken from the process, where another crate may have set a different one.

use std::sync::{Arc, OnceLock};

use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme, SupportedProtocolVersion,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{self, CryptoProvider},
    pki_types::{CertificateDer, ServerName, UnixTime},
    version::{TLS12, TLS13},
};
use tracing::warn;

use crate::config::{ClientConfig as Config, TlsFiles, TlsVersion};

/// The error if there is no authority to trust.
pub(super) const NO_ROOTS: &str = "this system has no CA certificates, so that https can trust nobody: install them (the package \
                                   ca-certificates), or name your own with tls.ca_file";

/// Builds it from `files` and the configuration. With `https`, the system's certificates must be there; otherwise they are
/// loaded when first needed.
///
/// # Errors
/// They are not there.
pub(super) fn tls(config: &Config, files: TlsFiles, https: bool) -> Result<ClientConfig, String> {
    let provider = Arc::new(crypto::ring::default_provider());
    let versions: &[&SupportedProtocolVersion] = match config.tls.min_version {
        TlsVersion::Tls12 => &[&TLS13, &TLS12],
        TlsVersion::Tls13 => &[&TLS13],
    };
    let verifier = Verifier {
        provider: provider.clone(),
        roots: files.roots,
        with_system: !config.tls.only_ca_file,
        unchecked: config.accept_invalid_certs,
        loaded: OnceLock::new(),
    };
    if https && !config.accept_invalid_certs {
        verifier.loaded().map_err(|why| match why {
            Error::General(why) => why,
            why => why.to_string(),
        })?;
    }
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(|why| why.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut tls = match files.identity {
        None => builder.with_no_client_auth(),
        Some((certificates, key)) => {
            builder.with_client_auth_cert(certificates, key).map_err(|why| why.to_string())?
        }
    };
    let protocols: &[&[u8]] = if config.http2_prior_knowledge { &[b"h2"] } else { &[b"h2", b"http/1.1"] };
    tls.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    Ok(tls)
}

/// Trusts the configured authorities and those of the system.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    roots: Vec<CertificateDer<'static>>,
    with_system: bool,
    /// Whether every certificate is trusted.
    unchecked: bool,
    loaded: OnceLock<Result<Arc<WebPkiServerVerifier>, Error>>,
}

impl Verifier {
    fn loaded(&self) -> Result<&WebPkiServerVerifier, Error> {
        let loaded = self.loaded.get_or_init(|| {
            let mut store = RootCertStore::empty();
            for root in &self.roots {
                store.add(root.clone())?;
            }
            if self.with_system {
                let found = rustls_native_certs::load_native_certs();
                store.add_parsable_certificates(found.certs);
                if store.is_empty() {
                    for why in found.errors {
                        warn!("certificates of the system cannot be read: {why}");
                    }
                    return Err(Error::General(NO_ROOTS.to_owned()));
                }
            }
            WebPkiServerVerifier::builder_with_provider(Arc::new(store), self.provider.clone())
                .build()
                .map_err(|why| Error::General(why.to_string()))
        });
        loaded.as_deref().map_err(Clone::clone)
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.unchecked {
            return Ok(ServerCertVerified::assertion());
        }
        self.loaded()?.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if self.unchecked {
            return Ok(HandshakeSignatureValid::assertion());
        }
        crypto::verify_tls12_signature(
            message,
            cert,
            signed,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if self.unchecked {
            return Ok(HandshakeSignatureValid::assertion());
        }
        crypto::verify_tls13_signature(
            message,
            cert,
            signed,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
