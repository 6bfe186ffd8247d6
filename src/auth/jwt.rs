//! Signs in the name of a client with its private key (RFC 7523, RFC 7518).

use std::{fs, path::Path};

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA256, RsaKeyPair},
};
use rustls::pki_types::{PrivateKeyDer, pem::PemObject};
use serde_json::json;

use super::hmac::unix_seconds;
use crate::world::World;

/// How long an assertion may be used, in seconds; servers refuse long ones.
const LIFETIME: u64 = 300;

/// A private key.
enum SigningKey {
    /// RS256.
    Rsa(Box<RsaKeyPair>),
    /// ES256.
    P256(Box<EcdsaKeyPair>),
}

/// Whether a file holds a private key that can sign.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn check_private_key(file: &Path) -> Result<(), String> {
    SigningKey::read(file).map(drop)
}

/// A JWT that authenticates this client to `audience`.
///
/// # Errors
/// The file holds no private key that can sign.
pub(super) fn client_assertion(
    file: &Path,
    client_id: &str,
    audience: &str,
    world: &World,
) -> Result<String, String> {
    let key = SigningKey::read(file)?;
    let now = unix_seconds(world);
    let claims = json!({
        "iss": client_id,
        "sub": client_id,
        "aud": audience,
        "jti": format!("{:016x}{:016x}", world.random(), world.random()),
        "iat": now,
        "exp": now + LIFETIME,
    });
    let header = json!({ "alg": key.algorithm(), "typ": "JWT" });
    let [header, claims] = [header, claims].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part.to_string()));
    let signed = format!("{header}.{claims}");
    let signature = key.sign(signed.as_bytes())?;
    Ok(format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature)))
}

impl SigningKey {
    fn read(file: &Path) -> Result<Self, String> {
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
    fn algorithm(&self) -> &'static str {
        match self {
            Self::Rsa(_) => "RS256",
            Self::P256(_) => "ES256",
        }
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, String> {
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
