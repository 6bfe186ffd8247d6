//! The table `[status]`: the address of the status page, and who may access it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use iggy_connector_sdk::shown;

use super::{StatusConfig, Text, reader::Reader};

/// A shorter token is too easy to guess.
const SHORTEST_TOKEN: usize = 16;

pub(super) fn read(keys: &mut Reader<'_>) -> Option<StatusConfig> {
    let mut table = keys.table("status")?;
    let address = match table.optional_string("address") {
        None => {
            if !table.has_problem("address") {
                table.problem("address", "is not given: write one such as \"127.0.0.1:9464\"");
            }
            None
        }
        Some(text) => match parse(&text) {
            Ok(address) => Some(address),
            Err(why) => {
                table.problem("address", why);
                None
            }
        },
    };
    let token = table.optional_text("token", long_enough);
    if let Some(address) = address.filter(|address| !address.ip().is_loopback())
        && token.is_none()
        && !table.has_problem("token")
    {
        table.problem(
            "token",
            format!(
                "is not given, and address {address} is reached from other machines: add a token, or write an address of \
                 this machine alone, such as \"127.0.0.1:{}\"",
                address.port()
            ),
        );
    }
    table.finish(&[]);
    Some(StatusConfig { address: address?, token })
}

/// Returns a warning about values that are allowed, but may be a mistake.
pub(super) fn warning(config: &StatusConfig) -> Option<String> {
    (!config.address.ip().is_loopback()).then(|| {
        format!(
            "status.address {} is plain http: others on the way can read the token. Put a proxy with TLS before it, or listen \
             on loopback",
            config.address
        )
    })
}

fn parse(text: &str) -> Result<SocketAddr, String> {
    let of_localhost = text.strip_prefix("localhost:").and_then(|port| port.parse().ok());
    let of_localhost = of_localhost.map(|port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
    of_localhost.or_else(|| text.parse().ok()).ok_or_else(|| {
        format!(
            "\"{}\" is no address and port: write one such as \"127.0.0.1:9464\" or \"[::1]:9464\"",
            shown(text, 60)
        )
    })
}

/// The token is not shown.
fn long_enough(text: &Text) -> Result<(), String> {
    match text.resolve()?.trim().len() {
        0 => Err("is empty: write a long random text, or remove the key".to_owned()),
        length if length < SHORTEST_TOKEN => Err(format!(
            "is shorter than {SHORTEST_TOKEN} characters, and soon guessed: write a long random text"
        )),
        _ => Ok(()),
    }
}
