//! OpenSSL's names of ciphers and curves, and what rustls has of them.
//!
//! Cipher strings are those of `openssl ciphers`: names and keywords between `:`, `,` or spaces,
//! `A+B` for both, `!A` and `-A` to take away. As in OpenSSL they choose among the suites of
//! TLS 1.2; those of 1.3 are all on unless some are named.

use rustls::{
    SupportedCipherSuite,
    crypto::{SupportedKxGroup, ring},
};

/// Ciphers and curves.
#[derive(Debug, Clone)]
pub struct Suites {
    pub(crate) suites: Vec<SupportedCipherSuite>,
    pub(crate) groups: Vec<&'static dyn SupportedKxGroup>,
}

impl Default for Suites {
    fn default() -> Self {
        let provider = ring::default_provider();
        Self {
            suites: provider.cipher_suites,
            groups: provider.kx_groups,
        }
    }
}

impl PartialEq for Suites {
    fn eq(&self, other: &Self) -> bool {
        let names = |suites: &Self| -> Vec<_> { suites.groups.iter().map(|g| g.name()).collect() };
        self.suites == other.suites && names(self) == names(other)
    }
}

/// A suite of TLS 1.2 as OpenSSL calls it, and the keywords that stand for it.
struct Known {
    name: &'static str,
    suite: SupportedCipherSuite,
    keywords: &'static [&'static str],
}

/// Keywords that stand for each of our suites.
const ALL: &[&str] = &[
    "ALL", "DEFAULT", "HIGH", "TLSv1.2", "ECDHE", "EECDH", "kECDHE", "kEECDH", "ECDH",
];

fn known() -> [Known; 6] {
    use ring::cipher_suite as suite;
    let known = |name, suite, keywords| Known {
        name,
        suite,
        keywords,
    };
    [
        known(
            "ECDHE-ECDSA-AES256-GCM-SHA384",
            suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            &["aECDSA", "ECDSA", "AESGCM", "AES", "AES256", "SHA384"][..],
        ),
        known(
            "ECDHE-RSA-AES256-GCM-SHA384",
            suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
            &["aRSA", "AESGCM", "AES", "AES256", "SHA384"],
        ),
        known(
            "ECDHE-ECDSA-AES128-GCM-SHA256",
            suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            &["aECDSA", "ECDSA", "AESGCM", "AES", "AES128", "SHA256"],
        ),
        known(
            "ECDHE-RSA-AES128-GCM-SHA256",
            suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
            &["aRSA", "AESGCM", "AES", "AES128", "SHA256"],
        ),
        known(
            "ECDHE-ECDSA-CHACHA20-POLY1305",
            suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
            &["aECDSA", "ECDSA", "CHACHA20", "SHA256"],
        ),
        known(
            "ECDHE-RSA-CHACHA20-POLY1305",
            suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
            &["aRSA", "CHACHA20", "SHA256"],
        ),
    ]
}

fn known_1_3() -> [(&'static str, SupportedCipherSuite); 3] {
    use ring::cipher_suite as suite;
    [
        ("TLS_AES_256_GCM_SHA384", suite::TLS13_AES_256_GCM_SHA384),
        ("TLS_AES_128_GCM_SHA256", suite::TLS13_AES_128_GCM_SHA256),
        (
            "TLS_CHACHA20_POLY1305_SHA256",
            suite::TLS13_CHACHA20_POLY1305_SHA256,
        ),
    ]
}

/// What a cipher string chose.
#[derive(Debug, Default)]
pub(crate) struct Chosen {
    pub(crate) v1_2: Vec<SupportedCipherSuite>,
    v1_3: Vec<SupportedCipherSuite>,
    /// What was asked for and is not there.
    pub(crate) unknown: Vec<String>,
}

impl Chosen {
    pub(crate) fn into_suites(self) -> Vec<SupportedCipherSuite> {
        let mut suites = if self.v1_3.is_empty() {
            known_1_3().map(|(_, suite)| suite).to_vec()
        } else {
            self.v1_3
        };
        suites.extend(self.v1_2);
        suites
    }
}

/// Reads a cipher string.
pub(crate) fn suites(text: &str) -> Chosen {
    let mut chosen = Chosen::default();
    // What `!` took away does not come back.
    let mut killed = Vec::new();
    for word in text.split([':', ',', ' ', ';']).filter(|w| !w.is_empty()) {
        if let Some(word) = word.strip_prefix('!') {
            killed.extend(matching(word));
        } else if let Some(word) = word.strip_prefix('-') {
            let gone = matching(word);
            chosen.v1_2.retain(|suite| !gone.contains(suite));
        } else if word.starts_with(['+', '@']) {
            // Order and security levels: rustls prefers by the server's order, and has no weak suite.
        } else if let Some((_, suite)) = known_1_3().into_iter().find(|(name, _)| *name == word) {
            push(&mut chosen.v1_3, suite);
        } else {
            let found = matching(word);
            if found.is_empty() {
                chosen.unknown.push(word.to_owned());
            }
            for suite in found {
                push(&mut chosen.v1_2, suite);
            }
        }
    }
    chosen.v1_2.retain(|suite| !killed.contains(suite));
    chosen
}

fn push(suites: &mut Vec<SupportedCipherSuite>, suite: SupportedCipherSuite) {
    if !suites.contains(&suite) {
        suites.push(suite);
    }
}

/// Suites that a name, a keyword or several joined by `+` stand for.
fn matching(word: &str) -> Vec<SupportedCipherSuite> {
    let stands_for = |known: &Known, part: &str| {
        known.name == part || ALL.contains(&part) || known.keywords.contains(&part)
    };
    known()
        .iter()
        .filter(|known| word.split('+').all(|part| stands_for(known, part)))
        .map(|known| known.suite)
        .collect()
}

/// Names that [`suites`] takes, for a message.
pub(crate) fn supported_suites() -> String {
    known().map(|known| known.name).join(", ")
}

/// Reads a list of curves; those that are not there come second.
pub(crate) fn groups(text: &str) -> (Vec<&'static dyn SupportedKxGroup>, Vec<String>) {
    let (mut groups, mut unknown) = (Vec::<&'static dyn SupportedKxGroup>::new(), Vec::new());
    for name in text.split(':').filter(|name| !name.is_empty()) {
        let group = match name {
            "X25519" | "x25519" => ring::kx_group::X25519,
            "P-256" | "prime256v1" | "secp256r1" => ring::kx_group::SECP256R1,
            "P-384" | "secp384r1" => ring::kx_group::SECP384R1,
            _ => {
                unknown.push(name.to_owned());
                continue;
            }
        };
        if groups.iter().all(|known| known.name() != group.name()) {
            groups.push(group);
        }
    }
    (groups, unknown)
}

/// Names that [`groups`] takes, for a message.
pub(crate) fn supported_groups() -> String {
    "X25519, P-256, P-384".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<&'static str> {
        let chosen = suites(text).v1_2;
        let name = |suite| {
            known()
                .into_iter()
                .find(|known| known.suite == suite)
                .map(|known| known.name)
        };
        chosen.into_iter().filter_map(name).collect()
    }

    #[test]
    fn cipher_strings_choose_as_openssl_reads_them() {
        for (text, expected) in [
            (
                "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384",
                &[
                    "ECDHE-RSA-AES128-GCM-SHA256",
                    "ECDHE-ECDSA-AES256-GCM-SHA384",
                ][..],
            ),
            (
                "ECDHE+AESGCM:!aECDSA:@SECLEVEL=2",
                &["ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-RSA-AES128-GCM-SHA256"],
            ),
            (
                "HIGH:-AES:!aNULL",
                &[
                    "ECDHE-ECDSA-CHACHA20-POLY1305",
                    "ECDHE-RSA-CHACHA20-POLY1305",
                ],
            ),
            // The reference's default: nothing of it is left.
            (
                "AES128-SHA:AES256-SHA:RC4-SHA:DHE-RSA-AES128-SHA:DHE-DSS-AES128-SHA:DHE-RSA-AES256-SHA:DHE-DSS-AES256-SHA",
                &[],
            ),
            ("ALL:!ALL", &[]),
            ("", &[]),
        ] {
            assert_eq!(names(text), expected, "{text}");
        }
    }

    #[test]
    fn suites_of_tls_1_3_are_all_on_unless_some_are_named() {
        assert_eq!(suites("ECDHE+CHACHA20").into_suites().len(), 3 + 2);
        let chosen = suites("TLS_AES_128_GCM_SHA256:ECDHE+CHACHA20").into_suites();
        assert_eq!(chosen.len(), 1 + 2);
    }

    #[test]
    fn curves_are_taken_in_their_order_and_once() {
        let (found, unknown) = groups("P-384:prime256v1:secp256r1:P-521");
        let found: Vec<_> = found.iter().map(|group| group.name()).collect();
        assert_eq!(
            found,
            [rustls::NamedGroup::secp384r1, rustls::NamedGroup::secp256r1]
        );
        assert_eq!(unknown, ["P-521"]);
    }
}
