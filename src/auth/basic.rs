//! User and password (RFC 7617).

use super::{authorization::Authorization, rotating::Rotating};
use crate::config::{Secret, auth::basic_header};

/// Sends user and password in `Authorization`.
pub(super) fn basic(username: &Secret, password: &Secret) -> Result<Authorization, String> {
    let texts = vec![username.text().clone(), password.text().clone()];
    let (username, password) = (username.clone(), password.clone());
    let header = Rotating::new(texts, move || {
        basic_header(&username.resolve()?, &password.resolve()?).map_err(|why| format!("username {why}"))
    })?;
    Ok(Authorization(header))
}
