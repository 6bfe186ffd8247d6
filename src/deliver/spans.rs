//! Exports attempts as spans, if there is a collector.

use super::{attempt::Answer, attempt::in_words, classify::Class, delivery::Delivery, fault::Fault};
use crate::{
    encode::Body,
    otlp::{OpenSpan, Value},
};

impl Delivery {
    /// Begins the span of an attempt at a body.
    pub(super) fn begin_span(&self, body: &Body) -> Option<OpenSpan> {
        self.tracer.as_ref()?.begin(body.trace())
    }

    /// Ends the span; `None`: the close of the connector aborted the attempt. `retries`: how often the body was sent before.
    pub(super) fn end_span(
        &self,
        span: Option<OpenSpan>,
        ended: Option<(Class, &Result<Answer, Fault>)>,
        body: &Body,
        retries: u32,
    ) {
        let (Some(tracer), Some(span)) = (&self.tracer, span) else { return };
        let method: &'static str = self.template.method(body).into();
        let mut attributes = vec![
            ("http.request.method", Value::Text(method.to_owned())),
            ("server.address", Value::Text(self.endpoint.label.clone())),
            ("http.request.body.size", Value::Number(body.wire().len() as u64)),
            ("messaging.batch.message_count", Value::Number(body.len() as u64)),
        ];
        if retries > 0 {
            attributes.push(("http.request.resend_count", Value::Number(retries.into())));
        }
        let failure = match ended {
            None => Some("cut off by the close of the connector: it may have arrived".to_owned()),
            Some((class, ended)) => {
                match ended {
                    Ok(answer) => {
                        let status = answer.status.as_u16();
                        attributes.push(("http.response.status_code", Value::Number(status.into())));
                        if class != Class::Success {
                            attributes.push(("error.type", Value::Text(status.to_string())));
                        }
                    }
                    Err(fault) => attributes.push(("error.type", Value::Text(fault.kind()))),
                }
                (class != Class::Success).then(|| in_words(ended))
            }
        };
        tracer.end(span, method, attributes, failure, body.links());
    }
}
