//! What a client sent.

use std::{
    io::{self, BufRead, Write},
    net::TcpStream,
    time::Instant,
};

/// A request that arrived in full.
#[derive(Debug, Clone)]
pub struct Request {
    /// Its place in the order of arrival over all connections.
    pub index: usize,
    /// The connection it came on, in the order of acceptance.
    pub connection: usize,
    pub method: String,
    /// With the query.
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// When the last byte was read.
    pub at: Instant,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

/// Reads one request; `None` once the client closed the connection.
pub(super) fn read_request(
    reader: &mut impl BufRead,
    mut writer: &TcpStream,
    connection: usize,
) -> io::Result<Option<Request>> {
    let Some(Head { method, path, headers }) = read_head(reader)? else { return Ok(None) };
    let mut request =
        Request { index: 0, connection, method, path, headers, body: Vec::new(), at: Instant::now() };
    if request.header("expect").is_some_and(|expected| expected.eq_ignore_ascii_case("100-continue")) {
        writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    if request.header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
        loop {
            let line = read_line(reader)?.ok_or(io::ErrorKind::UnexpectedEof)?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16).map_err(|_| io::ErrorKind::InvalidData)?;
            if size == 0 {
                break;
            }
            let begin = request.body.len();
            request.body.resize(begin + size, 0);
            reader.read_exact(&mut request.body[begin..])?;
            read_line(reader)?;
        }
        // Trailers, to the empty line.
        while !read_line(reader)?.ok_or(io::ErrorKind::UnexpectedEof)?.is_empty() {}
    } else if let Some(length) = request.header("content-length") {
        let length = length.parse().map_err(|_| io::ErrorKind::InvalidData)?;
        request.body.resize(length, 0);
        reader.read_exact(&mut request.body)?;
    }
    request.at = Instant::now();
    Ok(Some(request))
}

pub(super) struct Head {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
}

/// Reads as far as the empty line before the body.
pub(super) fn read_head(reader: &mut impl BufRead) -> io::Result<Option<Head>> {
    let Some(line) = read_line(reader)? else { return Ok(None) };
    let mut words = line.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = Vec::new();
    loop {
        let line = read_line(reader)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        if line.is_empty() {
            return Ok(Some(Head { method, path, headers }));
        }
        let (name, value) = line.split_once(':').ok_or(io::ErrorKind::InvalidData)?;
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
}

/// A line without its end; `None` at the end of the stream.
fn read_line(reader: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    if reader.read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    Ok(Some(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned()))
}
