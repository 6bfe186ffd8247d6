//! What a scripted endpoint does about a request.

use std::{
    io::{self, Write},
    time::Duration,
};

/// An answer, or the fault in place of one.
#[derive(Debug, Clone)]
pub struct Answer {
    content: Content,
    pub(super) delay: Duration,
    pub(super) end: End,
}

#[derive(Debug, Clone)]
enum Content {
    /// No byte at all.
    Nothing,
    /// These bytes on the wire.
    Raw(Vec<u8>),
    Http {
        status: u16,
        headers: Vec<(String, String)>,
        body: Body,
    },
}

#[derive(Debug, Clone)]
enum Body {
    Bytes(Vec<u8>),
    /// This many zeros, never held in memory.
    Zeros(u64),
}

/// What becomes of the connection after the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    KeepAlive,
    /// Closed without a word about it.
    Close,
    /// Reset, after at most this many bytes of the body.
    Reset(u64),
    /// Silent, after at most this many bytes of the body.
    Stall(u64),
}

impl Answer {
    /// With `Content-Length`, unless a header says how the body ends, and an empty body.
    pub fn status(status: u16) -> Self {
        Self::of(Content::Http { status, headers: Vec::new(), body: Body::Bytes(Vec::new()) })
    }

    /// 200 with a body of this many zeros.
    pub fn huge(bytes: u64) -> Self {
        Self::of(Content::Http { status: 200, headers: Vec::new(), body: Body::Zeros(bytes) })
    }

    /// These bytes, whatever they mean; all of them count as body where an answer is cut.
    pub fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Self::of(Content::Raw(bytes.into()))
    }

    /// Resets the connection once the request is read.
    pub fn reset() -> Self {
        Self { end: End::Reset(0), ..Self::of(Content::Nothing) }
    }

    /// Closes the connection without an answer once the request is read.
    pub fn hang_up() -> Self {
        Self { end: End::Close, ..Self::of(Content::Nothing) }
    }

    /// Never answers, until the client or the endpoint goes away.
    pub fn stall() -> Self {
        Self { end: End::Stall(0), ..Self::of(Content::Nothing) }
    }

    fn of(content: Content) -> Self {
        Self { content, delay: Duration::ZERO, end: End::KeepAlive }
    }

    /// Adds a header, of any size.
    ///
    /// # Panics
    /// The answer is not one that [`status`](Self::status) or [`huge`](Self::huge) began.
    #[track_caller]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let Content::Http { headers, .. } = &mut self.content else { panic!("{name}: there is no head") };
        headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// # Panics
    /// The answer is not one that [`status`](Self::status) or [`huge`](Self::huge) began.
    #[track_caller]
    pub fn body(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        let Content::Http { body, .. } = &mut self.content else { panic!("there is no head for a body") };
        *body = Body::Bytes(bytes.into());
        self
    }

    /// Answers only after a while.
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Closes the connection after the answer, though it reads as if it stayed open.
    pub fn closing(mut self) -> Self {
        self.end = End::Close;
        self
    }

    /// Closes the connection after the answer, and says so in it.
    #[track_caller]
    pub fn connection_close(self) -> Self {
        self.header("connection", "close").closing()
    }

    /// Resets the connection after the head and this many bytes of the body.
    pub fn cut_after(mut self, bytes: u64) -> Self {
        self.end = End::Reset(bytes);
        self
    }

    /// Goes silent after the head and this many bytes of the body.
    pub fn stalling_after(mut self, bytes: u64) -> Self {
        self.end = End::Stall(bytes);
        self
    }

    /// The last status that it gives the client to read, if any.
    pub(super) fn announces(&self) -> Option<u16> {
        match &self.content {
            Content::Nothing => None,
            Content::Http { status, .. } => Some(*status),
            Content::Raw(bytes) => {
                let text = String::from_utf8_lossy(bytes);
                text.rsplit("HTTP/1.1 ").next().filter(|rest| rest.len() < text.len())?.get(..3)?.parse().ok()
            }
        }
    }

    /// Writes the answer, as far as it goes; to a HEAD the head alone.
    pub(super) fn write(&self, mut to: impl Write, head_only: bool) -> io::Result<()> {
        let limit = match self.end {
            End::Reset(bytes) | End::Stall(bytes) => bytes,
            End::KeepAlive | End::Close => u64::MAX,
        };
        let (status, headers, body) = match &self.content {
            Content::Nothing => return Ok(()),
            Content::Raw(bytes) => return to.write_all(start(bytes, limit)),
            Content::Http { status, headers, body } => (status, headers, body),
        };
        let limit = if head_only { 0 } else { limit };
        let mut head = format!("HTTP/1.1 {status} Scripted\r\n").into_bytes();
        let bodiless = matches!(status, 100..=199 | 204 | 304);
        let own_framing = headers.iter().any(|(name, _)| {
            name.eq_ignore_ascii_case("content-length") || name.eq_ignore_ascii_case("transfer-encoding")
        });
        if !own_framing && !bodiless {
            let length = match body {
                Body::Bytes(bytes) => bytes.len() as u64,
                Body::Zeros(count) => *count,
            };
            write!(head, "content-length: {length}\r\n")?;
        }
        for (name, value) in headers {
            write!(head, "{name}: {value}\r\n")?;
        }
        head.extend_from_slice(b"\r\n");
        match body {
            Body::Bytes(bytes) => {
                // One write: a small answer is one packet.
                head.extend_from_slice(start(bytes, limit));
                to.write_all(&head)
            }
            Body::Zeros(count) => {
                to.write_all(&head)?;
                io::copy(&mut io::Read::take(io::repeat(0), limit.min(*count)), &mut to).map(drop)
            }
        }
    }
}

fn start(bytes: &[u8], limit: u64) -> &[u8] {
    &bytes[..usize::try_from(limit).map_or(bytes.len(), |limit| limit.min(bytes.len()))]
}
