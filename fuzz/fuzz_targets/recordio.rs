//! RecordIO streams: how they are cut makes no difference, and records survive framing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tepui_protocol::recordio::{Decoder, encode_into};

const LIMIT: usize = 4096;

fuzz_target!(|data: &[u8]| {
    let [piece, stream @ ..] = data else { return };
    let mut whole = Vec::new();
    let whole_result = Decoder::new(LIMIT).decode(stream, &mut whole);

    let mut pieces = Vec::new();
    let mut decoder = Decoder::new(LIMIT);
    let pieces_result = stream
        .chunks(usize::from(*piece).max(1))
        .try_for_each(|chunk| decoder.decode(chunk, &mut pieces));
    assert_eq!((whole.clone(), whole_result), (pieces, pieces_result));

    let mut framed = Vec::new();
    whole
        .iter()
        .for_each(|record| encode_into(record, &mut framed));
    let mut again = Vec::new();
    assert_eq!(Decoder::new(LIMIT).decode(&framed, &mut again), Ok(()));
    assert_eq!(again, whole);
});
