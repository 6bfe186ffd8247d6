//! The keys of requests: placeholders, templates, compression, `[response]`.

use std::sync::Arc;

use reqwest::header::CONTENT_ENCODING;

use super::{
    BatchMode, Compression, EndpointConfig, Ordering, Text, header::header_value_of, reader::Reader,
    url::endpoint_url,
};
use crate::request::{
    Form, Forwarded, Items, Kind, Pieces, Pointer, TargetTemplate, Template, TemplateFormat, VerdictOf,
};

/// Reads the placeholders of `url`, of headers and of the text around messages; `None` if there are none, nor braces to be
/// interpreted.
pub(super) fn read_target(
    keys: &Reader<'_>,
    endpoint: &EndpointConfig,
    forwarded: Vec<Forwarded>,
    ordering: &Ordering,
    form: Option<&Form>,
) -> Option<Arc<TargetTemplate>> {
    let (url, headers) = (&endpoint.url, &endpoint.headers);
    let template = url_template(url).map_err(|why| keys.problem("url", why)).ok();
    let mut templates = Vec::new();
    for (name, text) in headers.iter().filter(|(_, text)| has_brace(text)) {
        match header_template(text) {
            Ok(template) => templates.push((name.clone(), template)),
            Err(why) => keys.problem(&format!("headers.{name}"), why),
        }
    }
    let depends = |template: &Template| template.slots().next().is_some();
    let frame: Vec<Template> = form
        .filter(|form| depends(&form.prefix) || depends(&form.suffix))
        .map(|form| vec![form.prefix.clone(), form.suffix.clone()])
        .unwrap_or_default();
    if !has_brace(url) && templates.is_empty() && forwarded.is_empty() && frame.is_empty() {
        return None;
    }
    let ordering = ordering.clone();
    Some(Arc::new(TargetTemplate { url: template?, headers: templates, forwarded, frame, ordering }))
}

/// Reads `message_template` and the text around messages; `None` if the mode decides how bodies look.
pub(super) fn read_form(keys: &mut Reader<'_>, mode: BatchMode) -> Option<Arc<Form>> {
    let format = keys.choice("template_format", TemplateFormat::Json);
    let mut secrets = Vec::new();
    let message = template(keys, "message_template", format, &mut secrets);
    let prefix = template(keys, "body_prefix", format, &mut secrets);
    let separator = keys.optional_string("body_separator");
    let suffix = template(keys, "body_suffix", format, &mut secrets);
    if message.is_none() && prefix.is_none() && separator.is_none() && suffix.is_none() {
        if format != TemplateFormat::Json && !keys.has_problem("message_template") {
            keys.problem(
                "template_format",
                "has no effect without message_template: add that, or remove the key",
            );
        }
        return None;
    }
    for (key, template) in [("body_prefix", &prefix), ("body_suffix", &suffix)] {
        if template.as_ref().is_some_and(Template::has_idempotency_key) {
            keys.problem(
                key,
                "holds {idempotency_key}, which is known only when the body is complete: write it in url or in a header",
            );
        }
    }
    let (before, between, behind) = match mode {
        BatchMode::NdJson => ("", "\n", "\n"),
        BatchMode::JsonArray => ("[", ",", "]"),
        BatchMode::Individual | BatchMode::Raw => ("", "", ""),
    };
    let form = Form {
        format,
        prefix: prefix.unwrap_or_else(|| Template::literal(before)),
        separator: separator.unwrap_or_else(|| between.to_owned()),
        suffix: suffix.unwrap_or_else(|| Template::literal(behind)),
        message,
        secrets,
    };
    // If a part is wrong, the whole cannot be checked.
    let parts = ["message_template", "body_prefix", "body_suffix", "template_format"];
    if mode != BatchMode::Raw || form.message.is_some() {
        match form.check(mode.batches()) {
            Err(why) if !parts.into_iter().any(|key| keys.has_problem(key)) => {
                keys.problem(if form.message.is_some() { "message_template" } else { "body_prefix" }, why);
            }
            _ => {}
        }
    }
    Some(Arc::new(form))
}

fn template(
    keys: &mut Reader<'_>,
    key: &'static str,
    format: TemplateFormat,
    secrets: &mut Vec<String>,
) -> Option<Template> {
    let text = keys.optional_text(key, |_| Ok(()))?;
    secrets.extend(text.secrets());
    let template = Template::parse(&text, format.kind()).and_then(Template::resolved);
    template.map_err(|why| keys.problem(key, why)).ok()
}

pub(super) fn read_compression(keys: &mut Reader<'_>) -> Option<Compression> {
    let coding = keys.choice("compression", Coding::None);
    let (most, default) = match coding {
        Coding::None => {
            keys.misplaced(
                "compression_level",
                (!keys.has_problem("compression")).then(|| {
                    "has no effect without compression: write gzip or zstd there, or remove the key"
                        .to_owned()
                }),
            );
            return None;
        }
        Coding::Gzip => (9, 6),
        Coding::Zstd => (22, 3),
    };
    let level = keys.integer("compression_level", 1..=most, default);
    // Each coding has its own.
    keys.declare(|key| key.default = None);
    Some(match coding {
        Coding::Zstd => Compression::Zstd { level: i32::try_from(level).unwrap_or(3) },
        Coding::Gzip | Coding::None => Compression::Gzip { level },
    })
}

#[derive(Clone, Copy, strum::EnumString, strum::VariantNames, strum::Display)]
#[strum(serialize_all = "snake_case")]
enum Coding {
    None,
    Gzip,
    Zstd,
}

/// Checks that nothing else says how bodies are encoded.
pub(super) fn check_compression(
    keys: &Reader<'_>,
    endpoint: &EndpointConfig,
    compression: Option<Compression>,
) {
    if compression.is_some() && endpoint.headers.iter().any(|(name, _)| *name == CONTENT_ENCODING) {
        keys.problem(
            "headers.content-encoding",
            "stands beside compression, which sets it: remove one of them",
        );
    }
}

/// Whether there is any brace that does not belong to the name of a secret.
fn has_brace(text: &Text) -> bool {
    text.literals().any(|literal| literal.contains('{'))
}

fn url_template(url: &Text) -> Result<Template, String> {
    let template = Template::parse(url, Kind::Url)?;
    // A secret that cannot be read was reported already.
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

/// Reads `[response]`: where answers say whether messages were accepted.
pub(super) fn read_response(keys: &mut Reader<'_>) -> Option<Arc<VerdictOf>> {
    let mut table = keys.table("response")?;
    let expect_pointer = pointer(&mut table, "expect_pointer", Pointer::parse);
    let expect_value = table.value("expect_value");
    let list = pointer(&mut table, "items", Pointer::parse);
    let status = pointer(&mut table, "item_status", Pointer::parse_wild);
    let reason = pointer(&mut table, "item_reason", Pointer::parse_wild);
    let missing = |key: &str, beside: &str| {
        if !table.has_problem(key) {
            table.problem(key, format!("is not given beside {beside}: write both, or neither"));
        }
    };
    let expect = match (expect_pointer, expect_value) {
        (Some(pointer), Some(value)) => Some((pointer, value)),
        (Some(_), None) => {
            missing("expect_value", "expect_pointer");
            None
        }
        (None, Some(_)) => {
            missing("expect_pointer", "expect_value");
            None
        }
        (None, None) => None,
    };
    let items = match list {
        Some(_) if status.is_none() && reason.is_none() => {
            missing("item_status", "items (or item_reason)");
            None
        }
        Some(list) => Some(Items { list, status, reason }),
        None => {
            if status.is_some() || reason.is_some() {
                missing("items", "item_status and item_reason");
            }
            None
        }
    };
    if expect.is_none() && items.is_none() && table.has_no_problem() {
        table.problem(
            "expect_pointer",
            "is not given, and items neither: write one of them, or remove the table",
        );
    }
    table.finish(&[]);
    Some(Arc::new(VerdictOf { expect, items }))
}

fn pointer(
    table: &mut Reader<'_>,
    key: &'static str,
    parse: impl Fn(&str) -> Result<Pointer, String>,
) -> Option<Pointer> {
    let text = table.optional_string(key)?;
    parse(&text).map_err(|why| table.problem(key, why)).ok()
}
