//! Executor tokens and the realms that check them: no panic, what we sign is what we read, nothing
//! else is believed, and the refusal fits into a header.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::Arc;
use tepui_auth::{
    Secret,
    http::{Realm, Scheme},
    jwt::{self, Claims},
};
use tepui_model::Time;

fuzz_target!(|input: &[u8]| {
    let now = Time::from_nanos(1_000_000_000);
    let key = Arc::new(Secret::from("key"));
    let text = String::from_utf8_lossy(input);
    // Nobody without the key signs a token.
    assert!(jwt::verify(&text, &key, now).is_err());
    let claims = Claims::from([("fid".to_owned(), text.clone().into_owned())]);
    let token = jwt::sign(&claims, &key);
    if token.len() <= jwt::TOKEN_BYTES_MAX {
        assert_eq!(jwt::verify(&token, &key, now), Ok(claims));
        assert!(jwt::verify(&token, &Secret::from("other"), now).is_err());
    }
    let realm = Realm::new("r", vec![Scheme::Bearer(key)]);
    for header in [text.clone().into_owned(), format!("Bearer {text}")] {
        let challenge = realm.check(Some(&header), now).expect_err("a challenge");
        let fits = |byte: u8| (0x20..0x7f).contains(&byte);
        assert!(challenge.www_authenticate.bytes().all(fits));
    }
});
