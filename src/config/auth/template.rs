//! What an HMAC is over.

/// Text with `{body}` and `{now}` in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SignedTemplate(Vec<SignedPart>);

/// A part of what is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SignedPart {
    Literal(String),
    /// The bytes of the body.
    Body,
    /// The time of the attempt, in seconds since the Unix epoch.
    Now,
}

impl SignedTemplate {
    /// # Errors
    /// A brace that begins no placeholder.
    pub(super) fn parse(template: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = template;
        while let Some(at) = rest.find(['{', '}']) {
            literal.push_str(&rest[..at]);
            let here = &rest[at..];
            let (part, length) = if here.starts_with("{{") || here.starts_with("}}") {
                literal.push_str(&here[..1]);
                (None, 2)
            } else if here.starts_with("{body}") {
                (Some(SignedPart::Body), "{body}".len())
            } else if here.starts_with("{now}") {
                (Some(SignedPart::Now), "{now}".len())
            } else {
                return Err(
                    "holds a brace that begins neither {body} nor {now}: write one of these, or {{ for a brace"
                        .to_owned(),
                );
            };
            if let Some(part) = part {
                if !literal.is_empty() {
                    parts.push(SignedPart::Literal(std::mem::take(&mut literal)));
                }
                parts.push(part);
            }
            rest = &here[length..];
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(SignedPart::Literal(literal));
        }
        Ok(Self(parts))
    }

    pub(crate) fn parts(&self) -> &[SignedPart] {
        &self.0
    }

    pub(super) fn holds(&self, part: &SignedPart) -> bool {
        self.0.contains(part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_signed_has_placeholders_and_braces() {
        use SignedPart::{Body, Literal, Now};
        let parse = |template: &str| SignedTemplate::parse(template).map(|template| template.0);
        assert_eq!(parse("{body}"), Ok(vec![Body]));
        assert_eq!(parse("v0:{now}:{body}"), Ok(vec![Literal("v0:".into()), Now, Literal(":".into()), Body]));
        assert_eq!(parse("{{{now}}}"), Ok(vec![Literal("{".into()), Now, Literal("}".into())]));
        assert_eq!(parse(""), Ok(vec![]));
        for wrong in ["{", "{id}", "{now", "a}b"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
