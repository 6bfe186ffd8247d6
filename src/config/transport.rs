//! The tables `[tls]` and `[proxy]`: authorities to trust, the client certificate, and the proxy.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rustls::{
    RootCertStore,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
    sign::CertifiedKey,
};
use serde_json::Value;

use super::{
    ProxyConfig, Shape, Text, TlsConfig, TlsVersion, endpoint_url, problem::shown_value, reader::Reader,
};
use crate::secret::FileStamp;

/// The content of the files of `[tls]`, read and checked.
#[derive(Debug, Default)]
pub(crate) struct TlsFiles {
    /// The certificates of `ca_file`.
    pub(crate) roots: Vec<CertificateDer<'static>>,
    /// The client's certificate with its chain, and its key.
    pub(crate) identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
}

pub(super) fn read_tls(keys: &mut Reader<'_>) -> TlsConfig {
    let Some(mut table) = keys.table("tls") else { return TlsConfig::default() };
    let mut path = |key| {
        let path = table.optional_string(key).map(PathBuf::from)?;
        if path.as_os_str().is_empty() {
            table.problem(key, "is empty: write the path of a PEM file, or remove the key");
            return None;
        }
        Some(path)
    };
    let (ca_file, client_cert_file, client_key_file) =
        (path("ca_file"), path("client_cert_file"), path("client_key_file"));
    let config = TlsConfig {
        ca_file,
        only_ca_file: table.boolean("only_ca_file", false),
        client_cert_file,
        client_key_file,
        min_version: table.choice("min_version", TlsVersion::Tls12),
    };
    if let Err(problems) = config.read_files() {
        for (key, why) in problems {
            table.problem(key, why);
        }
    }
    table.finish(&[]);
    config
}

impl TlsConfig {
    /// Reads the files.
    ///
    /// # Errors
    /// The problems, each with its key.
    pub(crate) fn read_files(&self) -> Result<TlsFiles, Vec<(&'static str, String)>> {
        let mut problems = Vec::new();
        let mut files = TlsFiles::default();
        if let Some(path) = &self.ca_file {
            match roots(path) {
                Ok(roots) => files.roots = roots,
                Err(why) => problems.push(("ca_file", why)),
            }
        } else if self.only_ca_file {
            problems.push((
                "only_ca_file",
                "is true, and there is no ca_file: nobody would be trusted".to_owned(),
            ));
        }
        match (&self.client_cert_file, &self.client_key_file) {
            (None, None) => {}
            (Some(certificate), None) => {
                let missing = "stands without client_key_file: write the file of its private key there (one file may hold both)";
                problems.push(("client_cert_file", missing.to_owned()));
                problems.extend(certificates(certificate).err().map(|why| ("client_cert_file", why)));
            }
            (None, Some(key)) => {
                let missing = "stands without client_cert_file: write the file of its certificate there (one file may hold both)";
                problems.push(("client_key_file", missing.to_owned()));
                problems.extend(private_key(key).err().map(|why| ("client_key_file", why)));
            }
            (Some(certificate), Some(key)) => match (certificates(certificate), private_key(key)) {
                (Ok(certificates), Ok(private_key)) => match fits(&certificates, &private_key, key) {
                    Ok(()) => files.identity = Some((certificates, private_key)),
                    Err((key, why)) => problems.push((key, why)),
                },
                (certificates, private_key) => {
                    problems.extend(certificates.err().map(|why| ("client_cert_file", why)));
                    problems.extend(private_key.err().map(|why| ("client_key_file", why)));
                }
            },
        }
        if problems.is_empty() { Ok(files) } else { Err(problems) }
    }

    /// The stamps of the files: if they differ, the content has changed.
    pub(crate) fn file_stamps(&self) -> impl Iterator<Item = FileStamp> {
        let stamp = |path: &PathBuf| {
            let file = fs::metadata(path).ok()?;
            Some((file.modified().ok()?, file.len()))
        };
        [&self.ca_file, &self.client_cert_file, &self.client_key_file].into_iter().flatten().map(stamp)
    }
}

fn roots(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates = certificates(path)?;
    let mut store = RootCertStore::empty();
    for (number, certificate) in (1..).zip(&certificates) {
        store.add(certificate.clone()).map_err(|why| {
            format!("\"{}\": certificate {number} of it cannot be used: {why}", path.display())
        })?;
    }
    Ok(certificates)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = read(path)?;
    let certificates = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|why| format!("\"{}\" is not PEM: {}", path.display(), in_words(&why)))?;
    if certificates.is_empty() {
        return Err(format!(
            "\"{}\" holds no certificate: it must be PEM, with -----BEGIN CERTIFICATE----- in it",
            path.display()
        ));
    }
    Ok(certificates)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let pem = read(path)?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|why| match why {
        pem::Error::NoItemsFound => {
            let encrypted = pem.windows(9).any(|words| words == b"ENCRYPTED");
            let why =
                if encrypted { "its key is encrypted: decrypt it (openssl pkey)" } else { "it must be PEM" };
            format!("\"{}\" holds no private key that can be used: {why}", path.display())
        }
        why => format!("\"{}\" is not PEM: {}", path.display(), in_words(&why)),
    })
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|why| format!("\"{}\" cannot be read: {why}", path.display()))
}

/// Without the content of the file, which may be a key.
fn in_words(why: &pem::Error) -> &'static str {
    match why {
        pem::Error::MissingSectionEnd { .. } => "a section does not end",
        pem::Error::IllegalSectionStart { .. } => "a section does not begin as it must",
        pem::Error::Base64Decode(_) => "what stands in a section is not base64",
        _ => "it cannot be parsed",
    }
}

/// # Errors
/// Which of both cannot be used, and why.
fn fits(
    certificates: &[CertificateDer<'static>],
    private_key: &PrivateKeyDer<'static>,
    key_file: &Path,
) -> Result<(), (&'static str, String)> {
    let provider = rustls::crypto::ring::default_provider();
    match CertifiedKey::from_der(certificates.to_vec(), private_key.clone_key(), &provider) {
        Ok(_) => Ok(()),
        Err(rustls::Error::InconsistentKeys(_)) => Err((
            "client_key_file",
            format!(
                "\"{}\" holds another key than the one of the certificate in client_cert_file",
                key_file.display()
            ),
        )),
        Err(why @ rustls::Error::InvalidCertificate(_)) => {
            Err(("client_cert_file", format!("its certificate cannot be used: {why}")))
        }
        Err(why) => Err(("client_key_file", format!("\"{}\" cannot be used: {why}", key_file.display()))),
    }
}

const HOSTS: &str = "write hosts, such as [\"localhost\", \".internal\", \"10.0.0.0/8\"]";

pub(super) fn read_proxy(keys: &mut Reader<'_>) -> ProxyConfig {
    let Some(mut table) = keys.table("proxy") else { return ProxyConfig::default() };
    let url = table.optional_text("url", proxy_url);
    let no_proxy = table.value("no_proxy");
    table.declare(|key| key.shape = Shape::Texts);
    let no_proxy = match no_proxy {
        None => Vec::new(),
        Some(Value::String(text)) => listed(&text),
        Some(Value::Array(entries)) => {
            for (index, entry) in entries.iter().enumerate().filter(|(_, entry)| !entry.is_string()) {
                let message = format!("{} is no string: {HOSTS}", shown_value(entry));
                table.problem(&format!("no_proxy[{index}]"), message);
            }
            entries.iter().filter_map(Value::as_str).flat_map(listed).collect()
        }
        Some(_) => {
            table.problem("no_proxy", format!("is neither a string nor a list of strings: {HOSTS}"));
            Vec::new()
        }
    };
    let config = ProxyConfig {
        no_proxy,
        username: table.optional_text("username", |text| match text.resolve()?.as_str() {
            "" => Err("is empty: write the user, or remove the key".to_owned()),
            _ => Ok(()),
        }),
        password: table.optional_text("password", resolves),
        from_environment: table.boolean("from_environment", true),
        url,
    };
    if config.url.is_none() {
        let without_url = [
            ("username", config.username.is_some()),
            ("password", config.password.is_some()),
            ("no_proxy", !config.no_proxy.is_empty()),
        ];
        for (key, _) in without_url.into_iter().filter(|(_, given)| *given) {
            table.problem(key, "has no effect without url: add that, or remove the key");
        }
    } else if config.password.is_some() && config.username.is_none() && !table.has_problem("username") {
        table.problem("username", "is not given, and password is: add it");
    } else if config.username.is_some() && config.url.as_ref().is_some_and(has_userinfo) {
        table.problem("username", "stands beside a user in url: remove one of them");
    }
    table.finish(&[]);
    config
}

impl ProxyConfig {
    /// The stamps of the files that it names.
    pub(crate) fn file_stamps(&self) -> impl Iterator<Item = FileStamp> {
        [&self.url, &self.username, &self.password].into_iter().flatten().flat_map(Text::file_stamps)
    }
}

fn listed(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|entry| !entry.is_empty()).map(str::to_owned).collect()
}

fn resolves(text: &Text) -> Result<(), String> {
    text.resolve().map(drop)
}

fn has_userinfo(url: &Text) -> bool {
    let url = url.resolve().ok().and_then(|url| endpoint_url(&url).ok());
    url.is_some_and(|url| !url.username().is_empty() || url.password().is_some())
}

/// It is not shown: it may contain a password.
fn proxy_url(text: &Text) -> Result<(), String> {
    let url = endpoint_url(&text.resolve()?).map_err(|_| {
        "is not the URL of a proxy: write one such as \"http://proxy.example.com:3128\"".to_owned()
    })?;
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return Err(
            "has a path: write scheme, host and port alone, such as \"http://proxy.example.com:3128\""
                .to_owned(),
        );
    }
    Ok(())
}
