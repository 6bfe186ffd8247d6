//! The keys of delivery: concurrency, order, breaker, rate limit, spool, `linger`, dead letters.

use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
    time::Duration,
};

use iggy_connector_sdk::shown;
use serde_json::Value;

use super::{
    BatchMode, CircuitBreakerConfig, Concurrency, DeadLetterConfig, DeadLetterEndpoint, Ordering, Problem,
    RateLimitConfig, SpoolConfig, Text, WhenFull, auth, headers,
    problem::{TABLE, shown_value},
    reader::Reader,
    units::LONGEST,
    url::checked_url,
};
use crate::{
    folder,
    request::{Kind, Template},
};

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;

pub(super) fn read_concurrency(keys: &mut Reader<'_>) -> Concurrency {
    let one = NonZeroUsize::MIN;
    let max = NonZeroUsize::new(keys.integer("max_concurrency", 1..=1_000_000, 64)).unwrap_or(one);
    match keys.value("concurrency") {
        None => Concurrency::Fixed(one),
        Some(Value::String(word)) if word == "adaptive" => Concurrency::Adaptive { max },
        Some(value) => {
            let number =
                value.as_u64().and_then(|number| usize::try_from(number).ok()).and_then(NonZeroUsize::new);
            Concurrency::Fixed(number.filter(|number| number.get() <= 1_000_000).unwrap_or_else(|| {
                keys.problem(
                    "concurrency",
                    format!(
                        "{} is neither a whole number from 1 to 1000000 nor \"adaptive\"",
                        shown_value(&value)
                    ),
                );
                one
            }))
        }
    }
}

/// Warns about more concurrent requests than the order allows.
pub(super) fn unused_concurrency(
    concurrency: Concurrency,
    ordering: &Ordering,
    spooled: bool,
) -> Option<String> {
    let Concurrency::Fixed(number) = concurrency else { return None };
    (number.get() > 1 && *ordering == Ordering::Partition && !spooled).then(|| {
        format!(
            "concurrency = {number} has little effect with ordering = \"partition\" and no [spool]: a batch comes from one \
             partition, whose requests are sent one after another. Add [spool], or write ordering = \"key\" or \"none\""
        )
    })
}

pub(super) fn read_ordering(keys: &mut Reader<'_>) -> Ordering {
    let ordering = keys.choice("ordering", OrderingName::Partition);
    let template = keys.optional_text("ordering_key", |_| Ok(()));
    match (ordering, template) {
        (OrderingName::Key, Some(template)) => match ordering_key(&template) {
            Ok(template) => Ordering::Key(template),
            Err(why) => {
                keys.problem("ordering_key", why);
                Ordering::None
            }
        },
        (OrderingName::Key, None) => {
            keys.problem(
                "ordering_key",
                "is required with ordering = \"key\": write a template such as \"{payload:/customer/id}\" or \"{header:key}\"",
            );
            Ordering::None
        }
        // It may belong to a misspelled ordering.
        (_, Some(_)) if keys.has_problem("ordering") => Ordering::None,
        (_, Some(_)) => {
            keys.problem(
                "ordering_key",
                "has no effect without ordering = \"key\": add that, or remove the key",
            );
            Ordering::None
        }
        (OrderingName::Partition, None) => Ordering::Partition,
        (OrderingName::None, None) => Ordering::None,
    }
}

fn ordering_key(text: &Text) -> Result<Template, String> {
    let template = Template::parse(text, Kind::Key)?.resolved()?;
    if template.slots().next().is_none() {
        return Err(format!(
            "\"{}\" has no placeholder, so all messages would have the same key: write one such as {{payload:/id}}",
            shown(&text.to_string(), 60)
        ));
    }
    Ok(template)
}

#[derive(strum::EnumString, strum::VariantNames, strum::Display)]
#[strum(serialize_all = "snake_case")]
enum OrderingName {
    Partition,
    Key,
    None,
}

pub(super) fn read_circuit_breaker(keys: &mut Reader<'_>) -> CircuitBreakerConfig {
    let mut breaker = CircuitBreakerConfig { failure_threshold: 5, cool_down: Duration::from_secs(30) };
    if let Some(mut table) = keys.table("circuit_breaker") {
        breaker.failure_threshold =
            table.integer("failure_threshold", 0..=u32::MAX, breaker.failure_threshold);
        breaker.cool_down = table.positive_duration("cool_down", breaker.cool_down);
        table.finish(&[]);
    }
    breaker
}

pub(super) fn read_rate_limit(keys: &mut Reader<'_>) -> RateLimitConfig {
    let mut limit = RateLimitConfig::default();
    if let Some(mut table) = keys.table("rate_limit") {
        limit.requests_per_second = table.optional_rate("requests_per_second");
        limit.messages_per_second = table.optional_rate("messages_per_second");
        limit.bytes_per_second = table.optional_rate("bytes_per_second");
        table.finish(&[]);
    }
    limit
}

pub(super) fn read_spool(keys: &mut Reader<'_>) -> Option<SpoolConfig> {
    let mut table = keys.table("spool")?;
    let path = match table.optional_string("path") {
        Some(path) if path.is_empty() => {
            table.problem("path", "is empty: write the folder for the spool");
            None
        }
        Some(path) => Some(PathBuf::from(path)),
        None => {
            table.problem("path", "is not given: write a folder on a disk that outlives a restart");
            None
        }
    };
    let max_bytes = table.size("max_bytes", GIB);
    if max_bytes < MIB {
        table.problem("max_bytes", "leaves no room for batches: write 1 MiB or more");
    }
    let when_full = table.choice("when_full", WhenFull::Block);
    let sync = match table.optional_string("sync").as_deref() {
        None | Some("batch") => None,
        Some(text) => {
            match humantime::parse_duration(text) {
                Ok(interval) if !interval.is_zero() && interval <= LONGEST => Some(interval),
                _ => {
                    table.problem(
                    "sync",
                    format!("\"{}\" is neither \"batch\" nor a duration such as \"100ms\", of at most 10 years", shown(text, 60)),
                );
                    None
                }
            }
        }
    };
    table.finish(&[]);
    Some(SpoolConfig { path: path?, max_bytes, when_full, sync })
}

pub(super) fn read_linger(keys: &mut Reader<'_>, spool: bool, mode: BatchMode) -> Duration {
    let linger = keys.duration("linger", Duration::ZERO);
    if !linger.is_zero() && !spool {
        keys.problem("linger", "needs [spool]: what waits for more must be kept meanwhile");
    } else if !linger.is_zero() && !mode.batches() {
        keys.problem(
            "linger",
            format!("has no effect in batch_mode \"{mode}\", where a request holds one message: use nd_json or json_array, or remove it"),
        );
    }
    linger
}

/// Checks that the spool and the dead letters have separate folders, after resolving links and `..`: each creates, counts and
/// removes the files of its own folder.
pub(super) fn check_folders(
    keys: &Reader<'_>,
    spool: Option<&SpoolConfig>,
    dead_letter: Option<&DeadLetterConfig>,
) {
    let (Some(SpoolConfig { path: spool, .. }), Some(DeadLetterConfig::Path { path: letters, .. })) =
        (spool, dead_letter)
    else {
        return;
    };
    if letters.as_os_str().is_empty() {
        return;
    }
    let [in_spool, in_letters] = [spool, letters].map(|path| folder::resolved(path));
    // If the configured paths do not show it.
    let by_links = |inner: &Path, outer: &Path, found: &Path| {
        let is_seen = inner.starts_with(outer);
        if is_seen { String::new() } else { format!(" (it is {})", found.display()) }
    };
    if in_letters == in_spool {
        let found = by_links(letters, spool, &in_letters);
        keys.problem("dead_letter.path", format!("is the folder of [spool], too{found}: write another one"));
    } else if in_letters.starts_with(&in_spool) {
        let found = by_links(letters, spool, &in_letters);
        let message = format!("lies inside the folder of [spool]{found}: write one outside of it");
        keys.problem("dead_letter.path", message);
    } else if in_spool.starts_with(&in_letters) {
        let found = by_links(spool, letters, &in_spool);
        let message = format!("lies inside the folder of [dead_letter]{found}: write one outside of it");
        keys.problem("spool.path", message);
    }
}

/// Checks that dead letters are configured for batches that a full spool refuses.
pub(super) fn check_when_full(
    keys: &Reader<'_>,
    spool: Option<&SpoolConfig>,
    dead_letter: Option<&DeadLetterConfig>,
) {
    if spool.is_some_and(|spool| spool.when_full == WhenFull::DeadLetter) && dead_letter.is_none() {
        keys.problem(
            "spool.when_full",
            "is dead_letter, and there is no [dead_letter] to put them in: add one",
        );
    }
}

/// The folders that cannot be written to.
pub(super) fn unusable_folders(
    spool: Option<&SpoolConfig>,
    dead_letter: Option<&DeadLetterConfig>,
) -> Vec<Problem> {
    let spool = spool.map(|spool| ("spool", &spool.path));
    let letters = match dead_letter {
        Some(DeadLetterConfig::Path { path, .. }) => Some(("dead_letter", path)),
        _ => None,
    };
    let folders = [spool, letters].into_iter().flatten().filter(|(_, path)| !path.as_os_str().is_empty());
    let unusable = folders.filter_map(|(table, path)| Some((table, folder::can_be_written(path).err()?)));
    unusable
        .map(|(table, why)| Problem {
            path: format!("{TABLE}.{table}.path"),
            message: format!(
                "cannot be used: {why}. Write another folder, or give this one to the user that runs the connector"
            ),
        })
        .collect()
}

pub(super) fn read_dead_letter(keys: &mut Reader<'_>) -> Option<DeadLetterConfig> {
    let mut table = keys.table("dead_letter")?;
    let path = table.optional_string("path").map(PathBuf::from);
    let url = table.optional_text("url", checked_url);
    let max_bytes = table.size("max_bytes", GIB);
    let max_bytes = if max_bytes == 0 { u64::MAX } else { max_bytes };
    let segment_bytes = table.size("segment_bytes", 64 * MIB);
    if segment_bytes == 0 {
        table.problem("segment_bytes", "0 leaves no room for a letter: write a size such as \"64 MiB\"");
    }
    let auth = auth::read(&mut table);
    let headers = headers::read(&mut table);
    let letters = match (path, url) {
        (Some(path), None) => {
            if path.as_os_str().is_empty() {
                table.problem("path", "is empty: write the folder for dead letters");
            }
            for (key, given) in [("headers", !headers.is_empty()), ("auth", auth.is_some())] {
                if given {
                    table.problem(key, "has no effect on files: write url in place of path, or remove it");
                }
            }
            Some(DeadLetterConfig::Path { path, max_bytes, segment_bytes })
        }
        (None, Some(url)) => {
            Some(DeadLetterConfig::Endpoint(Box::new(DeadLetterEndpoint { url, headers, auth })))
        }
        (Some(_), Some(_)) => {
            table.problem("url", "stands beside path: dead letters go to one place, so remove one of them");
            None
        }
        (None, None) => {
            if !table.has_problem("path") && !table.has_problem("url") {
                table.problem(
                    "path",
                    "is not given, and url neither: write the folder or the endpoint for dead letters",
                );
            }
            None
        }
    };
    table.finish(&[]);
    letters
}
