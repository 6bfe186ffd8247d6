//! Formats a request as a command for a POSIX shell: curl sends the same method, URL and headers, and the body byte for byte.

use std::fmt::Write as _;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use iggy_connector_http_sink::{
    config::{Config, Text},
    preview::{Previewed, PreviewedRequest},
};
use iggy_connector_sdk::shown_lines;

use super::show::{self, Numbers};
use crate::terminal::report::Failure;

/// The longest body in an argument, in bytes: Linux allows an argument of 128 KiB.
const LONGEST_ARGUMENT: usize = 64 * 1024;
/// The length of a line of base64.
const LINE: usize = 76;

/// Replaces a secret.
const MASK: &str = "***";

/// The settings of connections, as options of curl.
#[derive(Debug)]
pub(super) struct Options {
    connection: String,
    /// In seconds.
    timeout: f64,
}

impl Options {
    /// # Errors
    /// A secret of `[proxy]` cannot be read.
    pub(super) fn of(config: &Config, show_secrets: bool) -> Result<Self, Failure> {
        let client = &config.client;
        let shown = |text: &Text| {
            if show_secrets { text.resolve().map_err(Failure::Usage) } else { Ok(MASK.to_owned()) }
        };
        let mut connection = String::new();
        let mut add = |option: &str, value: &str| {
            let _ = write!(connection, " {option} {}", quoted(value));
        };
        for (option, file) in [
            ("--cacert", &client.tls.ca_file),
            ("--cert", &client.tls.client_cert_file),
            ("--key", &client.tls.client_key_file),
        ] {
            if let Some(file) = file {
                add(option, &file.to_string_lossy());
            }
        }
        let proxy = &client.proxy;
        if let Some(url) = &proxy.url {
            add(
                "--proxy",
                &if url.is_secret() { shown(url)? } else { url.resolve().map_err(Failure::Usage)? },
            );
            if let Some(username) = &proxy.username {
                let password = proxy.password.as_ref().map(shown).transpose()?.unwrap_or_default();
                add("--proxy-user", &format!("{}:{password}", shown(username)?));
            }
            if !proxy.no_proxy.is_empty() {
                add("--noproxy", &proxy.no_proxy.join(","));
            }
        } else if !proxy.from_environment {
            add("--noproxy", "*");
        }
        if client.accept_invalid_certs {
            connection.push_str(" --insecure");
        }
        if client.http2_prior_knowledge {
            connection.push_str(" --http2-prior-knowledge");
        }
        Ok(Self { connection, timeout: client.timeout.as_secs_f64() })
    }
}

/// Returns a command that sends a request, with its content as a comment; or, as a comment, why a message is in none.
pub(super) fn command(previewed: &Previewed, numbers: Numbers<'_>, options: &Options, end: &str) -> String {
    let request = match previewed {
        Previewed::Request(request) => request,
        refused @ Previewed::Refused { .. } => return show::refusal(refused, numbers, end),
    };
    let body = &*request.body;
    let as_argument =
        std::str::from_utf8(body).ok().filter(|text| text.len() <= LONGEST_ARGUMENT && is_plain(text));
    let bare = body.is_empty() && matches!(&*request.method, "GET" | "HEAD" | "DELETE");
    let mut command = show::headline(request, numbers) + "\n";
    if as_argument.is_none() {
        command.push_str("base64 -d <<'END' | ");
    }
    command.push_str(&head(request, options));
    match as_argument {
        Some(_) if bare => {}
        // The only option for data in which neither an @ nor a line break has a special meaning.
        Some(text) => {
            let _ = write!(command, " --data-raw {}", quoted(text));
        }
        None => {
            command.push_str(" --data-binary @-\n");
            let text = BASE64_STANDARD.encode(body);
            for line in text.as_bytes().chunks(LINE) {
                command.push_str(&String::from_utf8_lossy(line));
                command.push('\n');
            }
            command.push_str("END");
        }
    }
    command
}

/// Returns the command without its body.
fn head(request: &PreviewedRequest, options: &Options) -> String {
    // The URL is final: curl must not interpret brackets or dots in it.
    let mut head = format!("curl -sS --globoff --path-as-is{} -X {}", options.connection, request.method);
    if request.method == "HEAD" {
        // curl waits for the body that the head of the answer announces.
        let _ = write!(head, " --max-time {}", options.timeout);
    }
    let _ = write!(head, " {}", quoted(&request.url));
    for (name, value) in &request.headers {
        let value = String::from_utf8_lossy(value);
        // With a colon and nothing after it, curl would omit the header.
        let header = if value.is_empty() { format!("{name};") } else { format!("{name}: {value}") };
        let _ = write!(head, " -H {}", quoted(&header));
    }
    // Otherwise curl asks before it sends a long body.
    head.push_str(" -H 'Expect:'");
    head
}

/// Whether a terminal shows a text unchanged.
fn is_plain(text: &str) -> bool {
    shown_lines(text) == text
}

/// Quotes a word for a POSIX shell.
fn quoted(text: &str) -> String {
    if is_plain(text) {
        return format!("'{}'", text.replace('\'', r"'\''"));
    }
    let mut octal = String::new();
    for byte in text.bytes() {
        let _ = write!(octal, "\\{byte:03o}");
    }
    format!("\"$(printf '{octal}')\"")
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// What a shell makes of a word.
    fn word(text: &str) -> String {
        let output =
            Command::new("sh").arg("-c").arg(format!("printf %s {}", quoted(text))).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn a_shell_reads_words_as_they_are() {
        for text in
            ["", "it's", "$HOME `id` \\ \"x\" !!", "a\nb\t*", "'", "\u{202e}\u{1b}[2J", "%s \u{200b}%d"]
        {
            assert_eq!(word(text), text);
        }
    }
}
