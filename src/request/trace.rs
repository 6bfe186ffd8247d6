//! The trace that a message belongs to, which a request for that message alone passes on (W3C Trace Context, level 1).

use iggy_connector_sdk::BorrowedMessage;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use super::header::header;

const STATE: HeaderName = HeaderName::from_static("tracestate");

/// The trace headers of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trace {
    parent: HeaderValue,
    state: Option<HeaderValue>,
}

/// The position of an attempt in a trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TraceContext {
    pub(crate) trace: [u8; 16],
    /// The parent span; `None` if the trace begins with this one.
    pub(crate) parent: Option<[u8; 8]>,
    pub(crate) state: Option<String>,
}

impl Trace {
    /// The header with trace and span.
    pub(crate) const PARENT: HeaderName = HeaderName::from_static("traceparent");

    /// Returns the value of `traceparent`.
    pub(crate) fn parent(&self) -> &HeaderValue {
        &self.parent
    }

    /// Returns its parts; `None` if the trace is not sampled.
    pub(crate) fn context(&self) -> Option<TraceContext> {
        let mut parts = self.parent.to_str().ok()?.split('-').skip(1);
        let [trace, parent, flags] = std::array::from_fn(|_| parts.next().unwrap_or_default());
        let is_sampled = u8::from_str_radix(flags, 16).ok()? & 1 == 1;
        let context = TraceContext {
            trace: u128::from_str_radix(trace, 16).ok()?.to_be_bytes(),
            parent: Some(u64::from_str_radix(parent, 16).ok()?.to_be_bytes()),
            state: self.state.as_ref().and_then(|state| Some(state.to_str().ok()?.to_owned())),
        };
        is_sampled.then_some(context)
    }

    /// Returns the trace of a message. A message without a valid `traceparent` has none, and its `tracestate` is ignored
    /// (section 3.3).
    pub(crate) fn of(message: &BorrowedMessage<'_>) -> Option<Self> {
        if message.headers.is_empty() {
            return None;
        }
        let parent = header(message.headers, Self::PARENT.as_str()).filter(|parent| is_parent(parent))?;
        let state = header(message.headers, STATE.as_str());
        Some(Self {
            parent: HeaderValue::from_str(&parent).ok()?,
            state: state.and_then(|state| HeaderValue::from_str(&state).ok()),
        })
    }

    /// Adds its headers to a request, unless that has a `traceparent` already.
    pub(crate) fn send(&self, headers: &mut HeaderMap) {
        if headers.contains_key(Self::PARENT) {
            return;
        }
        headers.insert(Self::PARENT, self.parent.clone());
        if let Some(state) = &self.state {
            headers.entry(STATE).or_insert_with(|| state.clone());
        }
    }
}

/// Whether a text is a `traceparent` (section 3.2): version, trace, parent and flags in lowercase hex digits, neither trace
/// nor parent all zero. Versions above 00 may have more after another hyphen.
fn is_parent(text: &str) -> bool {
    let hex = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let id = |part: &str, length: usize| hex(part, length) && part.bytes().any(|byte| byte != b'0');
    let mut parts = text.splitn(5, '-');
    let [version, trace, parent, flags] = std::array::from_fn(|_| parts.next().unwrap_or_default());
    let ends = match version {
        "ff" => false,
        "00" => parts.next().is_none(),
        _ => true,
    };
    hex(version, 2) && id(trace, 32) && id(parent, 16) && hex(flags, 2) && ends
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_that_is_not_sampled_has_no_context() {
        let trace = |flags: &str| Trace {
            parent: HeaderValue::from_str(&format!(
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{flags}"
            ))
            .expect("text"),
            state: None,
        };
        let context = trace("03").context().expect("it is sampled");
        assert_eq!(context.trace[..2], [0x4b, 0xf9]);
        assert_eq!(context.parent, Some([0, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7]));
        assert_eq!(trace("00").context(), None);
    }

    #[test]
    fn only_what_the_specification_allows_is_a_parent() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7";
        for good in [format!("00-{trace}-01"), format!("00-{trace}-00"), format!("01-{trace}-01-more")] {
            assert!(is_parent(&good), "{good}");
        }
        for wrong in [
            format!("ff-{trace}-01"),
            format!("00-{trace}-01-more"),
            format!("00-{trace}"),
            format!("0-{trace}-01"),
            format!("00-{}-01", trace.to_uppercase()),
            format!("00-{trace}-1"),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01".to_owned(),
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01".to_owned(),
            String::new(),
            "żżżżżżżżżż".to_owned(),
        ] {
            assert!(!is_parent(&wrong), "{wrong}");
        }
    }
}
