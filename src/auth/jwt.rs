//! Signs in the name of a client with its private key (RFC 7523, RFC 7518).

use std::path::Path;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use serde_json::json;

use super::hmac::unix_seconds;
use crate::{signing_key::SigningKey, world::World};

/// How long an assertion may be used, in seconds; servers refuse long ones.
const LIFETIME: u64 = 300;

/// Creates a JWT that authenticates this client to `audience`.
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
