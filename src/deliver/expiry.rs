//! Reads when a certificate expires from its DER encoding (RFC 5280 section 4.1), and nothing else.

use std::time::SystemTime;

const SEQUENCE: u8 = 0x30;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// The tag of the version, which may be missing.
const VERSION: u8 = 0xa0;

/// Returns the end of its validity; `None` if it is not a certificate.
pub(super) fn ends_at(certificate: &[u8]) -> Option<SystemTime> {
    let mut certificate = Elements(Elements(certificate).expect(SEQUENCE)?);
    let mut fields = Elements(certificate.expect(SEQUENCE)?);
    if fields.0.first() == Some(&VERSION) {
        fields.next()?;
    }
    // Serial number, algorithm, issuer.
    for _ in 0..3 {
        fields.next()?;
    }
    let mut validity = Elements(fields.expect(SEQUENCE)?);
    validity.next()?;
    let (kind, time) = validity.next()?;
    let time = std::str::from_utf8(time).ok()?;
    let time = match kind {
        // Two digits of the year, up to 2049.
        UTC_TIME if time.get(..2)? >= "50" => format!("19{time}"),
        UTC_TIME => format!("20{time}"),
        GENERALIZED_TIME => time.to_owned(),
        _ => return None,
    };
    let part = |from: usize, to: usize| time.get(from..to);
    let (date, clock) =
        ([part(0, 4)?, part(4, 6)?, part(6, 8)?], [part(8, 10)?, part(10, 12)?, part(12, 14)?]);
    humantime::parse_rfc3339(&format!("{}T{}Z", date.join("-"), clock.join(":"))).ok()
}

/// DER elements one after the other.
struct Elements<'d>(&'d [u8]);

impl<'d> Elements<'d> {
    /// The tag and the content of the next one.
    fn next(&mut self) -> Option<(u8, &'d [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, mut rest) = rest.split_first()?;
        let mut length = usize::from(first);
        if first & 0x80 != 0 {
            let (bytes, behind) = rest.split_at_checked(usize::from(first & 0x7f))?;
            if bytes.len() > 4 {
                return None;
            }
            length = bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
            rest = behind;
        }
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }

    /// The content of the next one, which has this tag.
    fn expect(&mut self, tag: u8) -> Option<&'d [u8]> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, content)| content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_certificate_is_read_in_both_forms_and_of_nothing_else() {
        for (year, expected) in [(2031, "2031-02-03T00:00:00Z"), (2055, "2055-02-03T00:00:00Z")] {
            let mut parameters = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
            parameters.not_after = rcgen::date_time_ymd(year, 2, 3);
            let key = rcgen::KeyPair::generate().expect("a key");
            let certificate = parameters.self_signed(&key).expect("a certificate");
            let der: &[u8] = certificate.der();
            let ends = ends_at(der).map(|time| humantime::format_rfc3339_seconds(time).to_string());
            assert_eq!(ends.as_deref(), Some(expected));
            for cut in [0, 1, 2, 10, 40, der.len() / 2] {
                assert_eq!(ends_at(&der[..cut]), None, "{cut}");
            }
        }
        assert_eq!(ends_at(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
    }
}
