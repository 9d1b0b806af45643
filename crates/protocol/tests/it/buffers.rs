//! What a message keeps alive of the buffer it came in: nothing.

use bytes::Bytes;
use tepui_protocol::{v1, wire};

#[test]
fn a_message_does_not_keep_the_buffer_it_came_in() {
    let status = v1::TaskStatus {
        uuid: Some(Bytes::from_static(&[7; 16])),
        data: Some(Bytes::from_static(b"data")),
        ..Default::default()
    };
    let buffer = Bytes::from(wire::encode(&status).to_vec());
    let read: v1::TaskStatus = wire::decode(buffer.clone()).expect("a message");
    assert_eq!(read, status);
    assert!(buffer.is_unique());
}
