//! Each rule of `docs/alerts.yml` with a live Prometheus (on Debian the package `prometheus`): it fires once its cause is there,
//! for that connector alone, and stops when that is mended.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use iggy_connector_sdk::Schema;
use serde_json::{Value, json};

use super::{
    client::{TOKEN, ask, post},
    prometheus::{Prometheus, free_address, is_there},
};
use crate::support::{
    config::with,
    endpoint::{Answer, Endpoint},
    plugin::{Batch, Sink},
    spooled::wait_until,
};

/// Far beyond what each half takes: the longest time in the rules is half an hour, fifteen seconds here.
const TOO_LONG: Duration = Duration::from_secs(90);

/// The rules with times that a test can wait for: a minute of them is half a second, and so are bounds in seconds that are minutes.
/// A request is slow after half a second.
fn rules() -> String {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/alerts.yml")).unwrap();
    let mut rules = String::new();
    let mut rest = text.as_str();
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, from) = rest.split_at(start);
        let (digits, behind) = from.split_at(from.find(|c: char| !c.is_ascii_digit()).unwrap_or(from.len()));
        rules.push_str(before);
        rest = behind;
        rules.push_str(digits);
        if let Some(next) = behind.strip_prefix('m').filter(|next| next.starts_with([']', '\n', ')'])) {
            rules.truncate(rules.len() - digits.len());
            write!(rules, "{}ms", digits.parse::<u64>().unwrap() * 500).unwrap();
            rest = next;
        }
    }
    rules.push_str(rest);
    for (bound, shorter) in
        [("_age_seconds) > 900", "_age_seconds) > 7.5"), ("[2500ms]))) > 5\n", "[2500ms]))) > 0.5\n")]
    {
        assert!(rules.contains(bound), "{bound}: {rules}");
        rules = rules.replace(bound, shorter);
    }
    rules
}

/// A connector that is in trouble.
struct Case {
    alerts: &'static [&'static str],
    sink: Arc<Sink>,
    /// Ends the trouble.
    mend: Box<dyn FnOnce()>,
    /// Answers for as long as there is the case.
    endpoint: Endpoint,
}

/// Where all connectors are shown, and a folder for what they keep.
struct Place<'p> {
    address: SocketAddr,
    folder: &'p Path,
}

impl Place<'_> {
    fn open(&self, endpoint: &Endpoint, keys: Value) -> Arc<Sink> {
        let shown = json!({
            "url": endpoint.url(), "close_timeout": "1s",
            "status": { "address": self.address.to_string(), "token": TOKEN },
        });
        Arc::new(Sink::open(&with(shown, keys)))
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.folder.join(name)
    }

    /// A connector whose endpoint answers badly until it is mended.
    fn case(
        &self,
        alerts: &'static [&'static str],
        keys: Value,
        bad: impl Fn() -> Answer + Send + Sync + 'static,
    ) -> (Case, Arc<AtomicBool>) {
        let is_bad = Arc::new(AtomicBool::new(true));
        let (asked, mended) = (is_bad.clone(), is_bad.clone());
        let endpoint = Endpoint::start(move |_| if asked.load(SeqCst) { bad() } else { Answer::status(200) });
        let sink = self.open(&endpoint, keys);
        let mend = Box::new(move || mended.store(false, SeqCst));
        (Case { alerts, sink, mend, endpoint }, is_bad)
    }

    fn metric(&self, sink: &Sink, name: &str) -> f64 {
        let text =
            ask(self.address, "GET", "/metrics", &[("authorization", &format!("Bearer {TOKEN}"))]).body;
        let connector = format!("connector=\"{}\"", sink.id);
        let lines = text.lines().filter(|line| line.starts_with(name) && line.contains(&connector));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }
}

/// A body of half the room of a small spool's record.
fn large(offset: u64) -> Batch {
    let payload = format!("\"{}\"", "x".repeat(400_000));
    Batch::of(Schema::Json, [payload]).from_offset(offset)
}

const ALWAYS: &str = "1000000";

impl Place<'_> {
    /// An endpoint that is away: behind a spool, and with a call of consume that waits for it.
    fn away(&self, cases: &mut Vec<Case>) {
        let keys = json!({
            "retry_delay": "50ms", "max_retry_delay": "200ms", "spool": { "path": self.file("away") },
            "circuit_breaker": { "cool_down": "500ms" },
        });
        let (case, _) = self.case(&["HttpSinkNotReady", "HttpSinkSpoolOld"], keys, || Answer::status(503));
        assert_eq!(case.sink.consume(&Batch::numbered(1)), 0);
        cases.push(case);

        // An open breaker would make fewer attempts than the rule is about.
        let often = json!({
            "retry_delay": "100ms", "max_retry_delay": "100ms", "retry_jitter": "none", "max_retries": ALWAYS,
            "circuit_breaker": { "failure_threshold": 0 },
        });
        let alerts = &["HttpSinkConsumeStuck", "HttpSinkRetrying"];
        let (case, is_bad) = self.case(alerts, often, || Answer::status(503));
        // What was never settled is nothing to compare with.
        is_bad.store(false, SeqCst);
        assert_eq!(case.sink.consume(&Batch::numbered(1)), 0);
        is_bad.store(true, SeqCst);
        let sink = case.sink.clone();
        thread::spawn(move || sink.consume(&Batch::numbered(1).from_offset(1)));
        cases.push(case);
    }

    /// Messages that are refused.
    fn refused(&self, cases: &mut Vec<Case>) {
        let (case, _) = self.case(&["HttpSinkMessagesFailed"], json!({}), || Answer::status(400));
        assert_eq!(case.sink.consume(&Batch::numbered(1)), 1);
        cases.push(case);

        let keys = json!({ "dead_letter": { "path": self.file("letters"), "max_bytes": "100 KiB", "segment_bytes": "10 KiB" } });
        let alerts = &["HttpSinkDeadLetters", "HttpSinkDeadLettersFilling"];
        let (case, _) = self.case(alerts, keys, || Answer::status(400));
        let payload = || Batch::of(Schema::Json, [format!("\"{}\"", "x".repeat(2000))]);
        for offset in 0.. {
            assert_eq!(case.sink.consume(&payload().from_offset(offset)), 0);
            if self.metric(&case.sink, "http_sink_dead_letter_bytes") > 0.85 * 100.0 * 1024.0 {
                break;
            }
        }
        let (address, sink) = (self.address, case.sink.clone());
        let purge = move || {
            let path = format!("/connectors/{}/letters/purge?all=true", sink.id);
            assert_eq!(post(address, &path, &[]).status, 200);
        };
        cases.push(Case { mend: Box::new(purge), ..case });
    }

    /// Spools without room.
    fn full(&self, cases: &mut Vec<Case>) {
        let retries = json!({ "retry_delay": "50ms", "circuit_breaker": { "cool_down": "500ms" } });
        let spool = json!({ "spool": { "path": self.file("full"), "max_bytes": "4 MiB" } });
        let alerts = &["HttpSinkSpoolFilling", "HttpSinkSpoolFull"];
        let (case, _) = self.case(alerts, with(retries.clone(), spool), || Answer::status(503));
        let sink = case.sink.clone();
        thread::spawn(move || (0..15).for_each(|offset| assert_eq!(sink.consume(&large(offset)), 0)));
        cases.push(case);

        let spool = json!({
            "spool": { "path": self.file("shed"), "max_bytes": "4 MiB", "when_full": "dead_letter" },
            "dead_letter": { "path": self.file("shed-letters") },
        });
        let (case, _) = self.case(&["HttpSinkShed"], with(retries, spool), || Answer::status(503));
        (0..15).for_each(|offset| assert_eq!(case.sink.consume(&large(offset)), 0));
        cases.push(case);
    }

    /// A secret that is gone, and a certificate that ends in five days.
    fn credentials(&self, cases: &mut Vec<Case>) {
        let secret = self.file("secret");
        fs::write(&secret, "one-of-many-letters").unwrap();
        let keys = json!({ "headers": { "x-key": format!("${{file:{}}}", secret.display()) } });
        let (case, _) = self.case(&["HttpSinkReloadFails"], keys, || Answer::status(200));
        assert_eq!(case.sink.consume(&Batch::numbered(1)), 0);
        fs::remove_file(&secret).unwrap();
        send_until(&case.sink, "a failure", || self.metric(&case.sink, "http_sink_reloads_total") > 0.0);
        let again = move || fs::write(&secret, "one-of-many-letters").unwrap();
        cases.push(Case { mend: Box::new(again), ..case });

        let soon = SystemTime::now() + Duration::from_hours(5 * 24);
        certificate(self.folder, &humantime::format_rfc3339(soon).to_string());
        let tls =
            json!({ "client_cert_file": self.file("certificate"), "client_key_file": self.file("key") });
        let (case, _) =
            self.case(&["HttpSinkCertificateEnds"], json!({ "tls": tls }), || Answer::status(200));
        let (folder, sink) = (self.folder.to_owned(), case.sink.clone());
        let renew = move || {
            certificate(&folder, "2099-01-01");
            // It is read before an attempt.
            thread::spawn(move || {
                for offset in 0..50 {
                    assert_eq!(sink.consume(&Batch::numbered(1).from_offset(offset)), 0);
                    thread::sleep(Duration::from_millis(100));
                }
            });
        };
        cases.push(Case { mend: Box::new(renew), ..case });
    }

    /// An endpoint that takes a second for each of many messages, and one that an operator paused.
    fn slow_and_paused(&self, cases: &mut Vec<Case>) {
        let keys = json!({
            "concurrency": 8, "ordering": "none", "spool": { "path": self.file("slow") },
        });
        let slow = || Answer::status(200).after(Duration::from_secs(1));
        let (case, _) = self.case(&["HttpSinkSlow"], keys, slow);
        assert_eq!(case.sink.consume(&Batch::numbered(800)), 0);
        cases.push(case);

        let (case, _) = self.case(&["HttpSinkPausedByOperator"], json!({}), || Answer::status(200));
        let (address, sink) = (self.address, case.sink.clone());
        let act = move |what: &str| {
            assert_eq!(post(address, &format!("/connectors/{}/{what}", sink.id), &[]).status, 200);
        };
        act("pause");
        cases.push(Case { mend: Box::new(move || act("resume")), ..case });
    }
}

fn send_until(sink: &Sink, what: &str, mut met: impl FnMut() -> bool) {
    let mut offset = 0;
    wait_until(what, || {
        offset += 1;
        assert_eq!(sink.consume(&Batch::numbered(1).from_offset(offset)), 0);
        met()
    });
}

/// A client's certificate that ends on the day that this begins with, and its key.
fn certificate(folder: &Path, until: &str) {
    let [year, month, day] = [0..4, 5..7, 8..10].map(|part| until[part].parse::<i32>().unwrap());
    let mut parameters = rcgen::CertificateParams::new(vec!["client".to_owned()]).unwrap();
    let [month, day] = [month, day].map(|part| u8::try_from(part).unwrap());
    parameters.not_after = rcgen::date_time_ymd(year, month, day);
    let key = rcgen::KeyPair::generate().unwrap();
    fs::write(folder.join("key"), key.serialize_pem()).unwrap();
    fs::write(folder.join("certificate"), parameters.self_signed(&key).unwrap().pem()).unwrap();
}

/// The alerts that fire now, each with its connector.
fn firing(prometheus: &Prometheus) -> BTreeSet<(String, String)> {
    let found = prometheus.ask("/api/v1/alerts");
    let alerts = found["data"]["alerts"].as_array().cloned().unwrap_or_default();
    let fires = alerts.into_iter().filter(|alert| alert["state"] == "firing");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    fires.map(|alert| (text(&alert["labels"]["alertname"]), text(&alert["labels"]["connector"]))).collect()
}

/// Looks at the alerts until nothing is left of what this returns.
#[track_caller]
fn look<T: std::fmt::Debug>(
    what: &str,
    prometheus: &Prometheus,
    mut left: impl FnMut(BTreeSet<(String, String)>) -> Vec<T>,
) {
    let began = Instant::now();
    loop {
        let left = left(firing(prometheus));
        if left.is_empty() {
            return;
        }
        assert!(began.elapsed() < TOO_LONG, "{what}: {left:?}");
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn each_alert_fires_while_its_cause_is_there() {
    if !is_there("prometheus") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let place = Place { address: free_address(), folder: folder.path() };
    let (mut cases, healthy) = (Vec::new(), Endpoint::answering(200));
    let well = place.open(&healthy, json!({}));
    assert_eq!(well.consume(&Batch::numbered(1)), 0);
    place.slow_and_paused(&mut cases);
    place.away(&mut cases);
    place.refused(&mut cases);
    place.full(&mut cases);
    place.credentials(&mut cases);

    let rules = rules();
    let named: BTreeSet<&str> =
        rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    let caused: BTreeSet<&str> = cases.iter().flat_map(|case| case.alerts.iter().copied()).collect();
    assert_eq!(named, caused, "each rule has a cause here");
    fs::write(folder.path().join("rules.yml"), rules).unwrap();
    let prometheus = Prometheus::start(
        folder.path(),
        &format!(
            "global: {{ scrape_interval: 250ms, scrape_timeout: 250ms, evaluation_interval: 250ms }}\n\
             rule_files: [rules.yml]\n\
             scrape_configs:\n- job_name: sink\n  authorization: {{ credentials: {TOKEN} }}\n  \
             static_configs: [{{ targets: [\"{}\"] }}]\n",
            place.address
        ),
    );

    let expected: BTreeSet<(String, String)> = cases
        .iter()
        .flat_map(|case| case.alerts.iter().map(|alert| ((*alert).to_owned(), case.sink.id.to_string())))
        .collect();
    let mut fired = BTreeSet::new();
    look("not all fire", &prometheus, |firing| {
        fired.extend(firing);
        expected.difference(&fired).cloned().collect()
    });
    let of_well = fired.iter().find(|(_, connector)| *connector == well.id.to_string());
    assert_eq!(of_well, None, "nothing is wrong with it");
    let mut mended = Vec::new();
    for Case { sink, mend, endpoint, .. } in cases {
        mend();
        mended.push((sink, endpoint));
    }
    look("not all stop", &prometheus, |firing| expected.intersection(&firing).cloned().collect());
    drop(mended);
}
