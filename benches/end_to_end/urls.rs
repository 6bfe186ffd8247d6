//! Requests to many urls, which a placeholder makes of the messages, beside the same messages to one.

use serde_json::json;

use super::{BATCH, Endpoint, RUNS, SIZE, Sink, Source, load, median, through_the_plugin};

/// Prints a row for each mode. Both take turns.
pub(super) fn compare() {
    println!("\n{:<18} {:>9} {:>12} {:>12} {:>7}", "mode", "urls", "many, /s", "one, /s", "ratio");
    for (mode, urls, at_once, batches) in
        [("individual", 1000, 1, 10), ("individual", 1000, 16, 20), ("nd_json", 10, 1, 80)]
    {
        let payloads = load::payloads(BATCH, SIZE).into_iter().enumerate();
        let tenant = |(number, payload): (usize, Vec<u8>)| {
            [format!("{{\"tenant\":{},", number % urls).as_bytes(), &payload[1..]].concat()
        };
        let payloads: Vec<_> = payloads.map(tenant).collect();
        // Each batch has a message for each url.
        let each = if mode == "individual" { [1, 1] } else { [BATCH / urls, BATCH] };
        let mut rates = [Vec::new(), Vec::new()];
        let sinks = ["{payload:/tenant}", ""].map(|path| {
            let endpoint = Endpoint::start(0);
            let mut config = json!({
                "url": format!("{}{path}", endpoint.url()), "batch_mode": mode, "concurrency": at_once
            });
            if at_once > 1 {
                config["ordering"] = "none".into();
            }
            (Sink::open(&config), endpoint)
        });
        let mut source = Source { payloads, offset: 0 };
        for run in 0..=RUNS {
            for (number, (sink, endpoint)) in sinks.iter().enumerate() {
                let rate = through_the_plugin(sink, endpoint, &source.batches(batches), each[number]);
                // The first run makes the connections.
                if run > 0 {
                    rates[number].push(rate);
                }
            }
        }
        let ratio = median(rates[0].iter().zip(&rates[1]).map(|(many, one)| many / one).collect());
        let [many, one] = rates.map(median);
        let mode = format!("{mode}, {at_once} in flight");
        println!("{mode:<18} {urls:>9} {many:>12.0} {one:>12.0} {ratio:>7.2}");
    }
}
