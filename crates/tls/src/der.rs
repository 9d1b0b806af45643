//! The common name and the time of validity of a certificate (RFC 5280, section 4.1).
//!
//! webpki checks both where they matter to it, and hands out neither. The reference's `legacy`
//! scheme compares common names, and a certificate that is its own authority (what
//! `openssl req -x509` makes) is not for webpki to judge at all. Bytes come from a peer: every
//! length is checked, and what is not understood is `None`.

use std::ops::Range;

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// `[0] EXPLICIT Version`
const VERSION: u8 = 0xa0;
/// UTF8String, PrintableString, TeletexString, IA5String.
const STRINGS: [u8; 4] = [0x0c, 0x13, 0x14, 0x16];
/// id-at-commonName, 2.5.4.3
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

/// Takes one element off the front: its tag and content.
fn element<'a>(input: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let (&tag, rest) = input.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        // A certificate of 16 MiB or more is none.
        0x81..=0x83 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            let length = bytes
                .iter()
                .fold(0, |length, byte| length << 8 | usize::from(*byte));
            (length, rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    *input = rest;
    Some((tag, content))
}

fn expect<'a>(input: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    let (found, content) = element(input)?;
    (found == tag).then_some(content)
}

/// The common name in the content of a subject.
pub(crate) fn common_name(mut subject: &[u8]) -> Option<&str> {
    while !subject.is_empty() {
        let mut set = expect(&mut subject, SET)?;
        while !set.is_empty() {
            let mut pair = expect(&mut set, SEQUENCE)?;
            if expect(&mut pair, OBJECT)? == COMMON_NAME {
                let (tag, text) = element(&mut pair)?;
                return STRINGS
                    .contains(&tag)
                    .then(|| std::str::from_utf8(text).ok())
                    .flatten();
            }
        }
    }
    None
}

/// When a certificate is valid, in seconds of the epoch, the end included.
pub(crate) fn validity(mut certificate: &[u8]) -> Option<Range<u64>> {
    let mut outer = expect(&mut certificate, SEQUENCE)?;
    let mut fields = expect(&mut outer, SEQUENCE)?;
    if fields.first() == Some(&VERSION) {
        element(&mut fields)?;
    }
    // Serial number, algorithm, issuer.
    for _ in 0..3 {
        element(&mut fields)?;
    }
    let mut validity = expect(&mut fields, SEQUENCE)?;
    let mut time = || {
        let (tag, text) = element(&mut validity)?;
        seconds(tag, text)
    };
    let (from, until) = (time()?, time()?);
    Some(from..until.checked_add(1)?)
}

/// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ`.
fn seconds(tag: u8, text: &[u8]) -> Option<u64> {
    let digits = text.strip_suffix(b"Z")?;
    let year_digits = match (tag, digits.len()) {
        (UTC_TIME, 12) => 2,
        (GENERALIZED_TIME, 14) => 4,
        _ => return None,
    };
    let mut digits = digits.iter().map(|digit| match digit {
        b'0'..=b'9' => Some(u64::from(digit - b'0')),
        _ => None,
    });
    let mut number = |count: usize| -> Option<u64> {
        (0..count).try_fold(0, |number, _| Some(number * 10 + digits.next()??))
    };
    let mut year = number(year_digits)?;
    if tag == UTC_TIME {
        year += if year < 50 { 2000 } else { 1900 };
    }
    let (month, day) = (number(2)?, number(2)?);
    let (hour, minute, second) = (number(2)?, number(2)?, number(2)?);
    let good = (1970..10_000).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    if !good {
        return None;
    }
    // Days of a civil date, with years that begin in March.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1;
    let epoch = 719_468;
    let days = days.checked_sub(epoch)?;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_of_the_epoch() {
        for (tag, text, expected) in [
            (UTC_TIME, "700101000000Z", Some(0)),
            (UTC_TIME, "000229120000Z", Some(951_825_600)),
            (GENERALIZED_TIME, "20261122192510Z", Some(1_795_375_510)),
            (GENERALIZED_TIME, "99991231235959Z", Some(253_402_300_799)),
            (UTC_TIME, "690101000000Z", None),
            (UTC_TIME, "701301000000Z", None),
            (UTC_TIME, "7001010000Z", None),
            (UTC_TIME, "70010100000xZ", None),
            (GENERALIZED_TIME, "700101000000Z", None),
        ] {
            assert_eq!(seconds(tag, text.as_bytes()), expected, "{text}");
        }
    }

    fn certificate() -> rcgen::Certificate {
        let mut params = rcgen::CertificateParams::new(Vec::new()).expect("params");
        params.not_before = rcgen::date_time_ymd(2001, 2, 3);
        params.not_after = rcgen::date_time_ymd(2060, 1, 1);
        let names = &mut params.distinguished_name;
        names.push(rcgen::DnType::OrganizationName, "cluster");
        names.push(rcgen::DnType::CommonName, "node-1.test");
        let key = rcgen::KeyPair::generate().expect("a key");
        params.self_signed(&key).expect("a certificate")
    }

    #[test]
    fn certificates_say_their_name_and_time() {
        let certificate = certificate();
        assert_eq!(
            validity(certificate.der()),
            Some(981_158_400..2_840_140_801)
        );
        let parsed = webpki::EndEntityCert::try_from(certificate.der()).expect("parsed");
        assert_eq!(common_name(parsed.subject()), Some("node-1.test"));
    }

    #[test]
    fn broken_bytes_are_nothing_and_no_harm() {
        let certificate = certificate();
        let bytes: &[u8] = certificate.der();
        for end in 0..bytes.len() {
            assert_eq!(validity(&bytes[..end]), None);
        }
        for at in 0..bytes.len().min(200) {
            let mut broken = bytes.to_vec();
            broken[at] ^= 0xff;
            let _ = validity(&broken);
            let _ = common_name(&broken[at..]);
        }
    }
}
