//! Credentials files of both forms and the header of basic authentication: no panic, and what was
//! read can be verified.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tepui_auth::{Credential, Credentials, basic};

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    if let Ok(credentials) = Credentials::parse(text) {
        for principal in credentials.principals() {
            let secret = credentials.secret(principal).expect("its secret");
            assert!(credentials.verify(principal, secret.expose()));
            assert!(!credentials.verify(principal, &[secret.expose(), b"x"].concat()));
        }
    }
    if let Ok(credential) = Credential::parse(text)
        && !credential.principal.contains(':')
    {
        let header = basic::header(&credential);
        assert_eq!(basic::parse(&header), Some(credential));
    }
    let _ = basic::parse(text);
});
