//! What of a request comes from its messages.

use std::sync::Arc;

use reqwest::header::HeaderName;

use super::{Ordering, Text, headers::header_value_of, reader::Reader, url::endpoint_url};
use crate::request::{Kind, Pieces, TargetTemplate, Template};

/// The placeholders of `url` and of headers; `None` where there are none, nor braces to be read as such.
pub(super) fn read_target(
    keys: &Reader<'_>,
    url: &Text,
    headers: &[(HeaderName, Text)],
    ordering: &Ordering,
) -> Option<Arc<TargetTemplate>> {
    let template = url_template(url).map_err(|why| keys.problem("url", why)).ok();
    let mut templates = Vec::new();
    for (name, text) in headers.iter().filter(|(_, text)| has_brace(text)) {
        match header_template(text) {
            Ok(template) => templates.push((name.clone(), template)),
            Err(why) => keys.problem(&format!("headers.{name}"), why),
        }
    }
    let unordered = *ordering == Ordering::None;
    (has_brace(url) || !templates.is_empty())
        .then(|| Some(Arc::new(TargetTemplate { url: template?, headers: templates, unordered })))
        .flatten()
}

/// Whether there is any brace that does not belong to the name of a secret.
fn has_brace(text: &Text) -> bool {
    text.literals().any(|literal| literal.contains('{'))
}

fn url_template(url: &Text) -> Result<Template, String> {
    let template = Template::parse(url, Kind::Url)?;
    // A secret that cannot be read was told of already.
    if let Ok(pieces) = Pieces::of(&template)
        && !pieces.is_literal()
    {
        pieces.check_url()?;
        endpoint_url(&pieces.fill(&mut std::iter::empty(), ""))?;
    }
    Ok(template)
}

fn header_template(text: &Text) -> Result<Template, String> {
    let template = Template::parse(text, Kind::Header)?;
    header_value_of(&Pieces::of(&template)?.fill(&mut std::iter::empty(), ""))?;
    Ok(template)
}
