//! A private key in a file, as PEM.

use std::{fs, path::Path};

use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA256, RsaKeyPair},
};
use rustls::pki_types::{PrivateKeyDer, pem::PemObject};

/// A private key.
pub(crate) enum SigningKey {
    /// RS256.
    Rsa(Box<RsaKeyPair>),
    /// ES256.
    P256(Box<EcdsaKeyPair>),
}

impl SigningKey {
    /// The key of a file.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub(crate) fn read(file: &Path) -> Result<Self, String> {
        let pem = fs::read(file).map_err(|why| format!("cannot be read: {why}"))?;
        let der =
            PrivateKeyDer::from_pem_slice(&pem).map_err(|_| "holds no private key as PEM".to_owned())?;
        let rsa = match &der {
            PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
            PrivateKeyDer::Pkcs8(der) => {
                let der = der.secret_pkcs8_der();
                let random = SystemRandom::new();
                if let Ok(key) = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, &random) {
                    return Ok(Self::P256(Box::new(key)));
                }
                RsaKeyPair::from_pkcs8(der)
            }
            _ => {
                return Err(
                    "holds a key in the form of SEC 1: convert it with `openssl pkcs8 -topk8 -nodes`"
                        .to_owned(),
                );
            }
        };
        rsa.map(|key| Self::Rsa(Box::new(key))).map_err(|why| {
            format!("holds neither an RSA key of 2048 bits or more nor one on the curve P-256 ({why})")
        })
    }

    /// Its name in RFC 7518 section 3.1.
    pub(crate) fn algorithm(&self) -> &'static str {
        match self {
            Self::Rsa(_) => "RS256",
            Self::P256(_) => "ES256",
        }
    }

    /// Signs a message.
    ///
    /// # Errors
    /// The key cannot sign.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, String> {
        let random = SystemRandom::new();
        let failed = |_| "cannot sign".to_owned();
        match self {
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).map_err(failed)?;
                Ok(signature)
            }
            Self::P256(key) => Ok(key.sign(&random, message).map_err(failed)?.as_ref().to_vec()),
        }
    }
}
