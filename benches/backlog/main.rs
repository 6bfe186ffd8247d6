//! What waits, and what it does to the rest: through the built plugin with a spool, to an endpoint on loopback.
//!
//! ```sh
//! cargo bench --bench backlog                # all of it, with a backlog of 2 GB
//! cargo bench --bench backlog -- keys small  # some of keys, topics, gigabytes, small
//! cargo bench --bench backlog -- minutes     # memory over ten minutes, or over BACKLOG_MINUTES
//! BACKLOG_GB=0.25 cargo bench --bench backlog -- gigabytes
//! BACKLOG_GB=0.25 cargo bench --bench backlog -- gigabytes key nd_json # of some orderings and modes
//! ```
//!
//! The spools are in the target folder's temporary one.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

mod endpoint;
mod gigabytes;
mod keys;
mod load;
mod small;
#[path = "../../tests/support/mod.rs"]
mod support;
mod topics;

fn main() {
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name);
    let among = |names: &[&'static str]| {
        let some: Vec<&str> =
            names.iter().copied().filter(|name| wanted.iter().any(|wanted| wanted == name)).collect();
        if some.is_empty() { names.to_vec() } else { some }
    };
    if is_wanted("small") {
        small::measure();
    }
    if is_wanted("keys") {
        keys::measure();
    }
    // Only where it is asked for: it takes as long as it says.
    if wanted.iter().any(|wanted| wanted == "minutes") {
        keys::minutes(std::env::var("BACKLOG_MINUTES").map_or(10, |text| text.parse().unwrap()));
    }
    if is_wanted("topics") {
        topics::measure();
    }
    if is_wanted("gigabytes") {
        let gigabytes = std::env::var("BACKLOG_GB").map_or(2.0, |text| text.parse().unwrap());
        let modes = among(&["nd_json", "individual"]);
        gigabytes::measure(gigabytes, &modes, &among(&["partition", "key", "none"]));
    }
}
