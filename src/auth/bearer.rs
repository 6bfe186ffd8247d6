//! A token (RFC 6750).

use super::{authorization::Authorization, rotating::Rotating};
use crate::config::{Secret, auth::bearer_header};

/// Sends a token in `Authorization`.
pub(super) fn bearer(token: &Secret) -> Result<Authorization, String> {
    let (texts, token) = (vec![token.text().clone()], token.clone());
    let header =
        Rotating::new(texts, move || bearer_header(&token.resolve()?).map_err(|why| format!("token {why}")))?;
    Ok(Authorization(header))
}
