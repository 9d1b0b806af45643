//! RecordIO, the framing of event streams: each record is its length in decimal, a newline and
//! that many bytes (`docs/recordio.md`).

use bytes::Bytes;

/// Digits of the largest length we could ever accept.
const MAX_HEADER: usize = 20;

/// A stream is not RecordIO. Nothing after it can be read: where the next record starts is unknown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordIoError {
    /// The length of a record is not a number.
    #[error("Failed to decode length '{0}'")]
    InvalidLength(String),
    /// A record is longer than we accept.
    #[error("record of {length} bytes exceeds the limit of {limit}")]
    TooLong {
        /// The length it says it has.
        length: u64,
        /// The longest we accept.
        limit: usize,
    },
}

/// One record, framed.
pub fn encode(record: &[u8]) -> Vec<u8> {
    let mut framed = Vec::with_capacity(record.len() + MAX_HEADER);
    encode_into(record, &mut framed);
    framed
}

/// Appends one record, framed.
pub fn encode_into(record: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(record.len().to_string().as_bytes());
    out.push(b'\n');
    out.extend_from_slice(record);
}

/// Reads records from a stream that arrives in pieces of any size.
///
/// Memory grows with what arrived, never with the length a peer announces.
#[derive(Debug)]
pub struct Decoder {
    limit: usize,
    state: State,
}

#[derive(Debug)]
enum State {
    Header(Vec<u8>),
    Record { length: usize, read: Vec<u8> },
    Failed(RecordIoError),
}

impl Decoder {
    /// A decoder at the start of a stream that accepts records of up to `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            state: State::Header(Vec::new()),
        }
    }

    /// Takes the next piece of the stream and appends the records it completes to `records`.
    ///
    /// Once it failed it fails for good. Records completed before the failure are appended.
    pub fn decode(
        &mut self,
        mut data: &[u8],
        records: &mut Vec<Bytes>,
    ) -> Result<(), RecordIoError> {
        while !data.is_empty() {
            match &mut self.state {
                State::Failed(error) => return Err(error.clone()),
                State::Header(header) => {
                    let newline = memchr::memchr(b'\n', data);
                    let digits = &data[..newline.unwrap_or(data.len())];
                    let kept = digits.len().min(MAX_HEADER + 1 - header.len());
                    header.extend_from_slice(&digits[..kept]);
                    let too_long = header.len() > MAX_HEADER;
                    if too_long {
                        return Err(self.fail_length());
                    }
                    let Some(at) = newline else { return Ok(()) };
                    data = &data[at + 1..];
                    self.begin_record(records)?;
                }
                State::Record { length, read } => {
                    let kept = data.len().min(*length - read.len());
                    read.extend_from_slice(&data[..kept]);
                    data = &data[kept..];
                    if read.len() == *length {
                        records.push(std::mem::take(read).into());
                        self.state = State::Header(Vec::new());
                    }
                }
            }
        }
        match &self.state {
            State::Failed(error) => Err(error.clone()),
            _ => Ok(()),
        }
    }

    /// Whether the stream may end here: no record was begun.
    pub fn at_boundary(&self) -> bool {
        matches!(&self.state, State::Header(header) if header.is_empty())
    }

    fn begin_record(&mut self, records: &mut Vec<Bytes>) -> Result<(), RecordIoError> {
        let State::Header(header) = &self.state else {
            return Ok(());
        };
        let digits = !header.is_empty() && header.iter().all(u8::is_ascii_digit);
        let length = if digits {
            std::str::from_utf8(header)
                .ok()
                .and_then(|text| text.parse::<u64>().ok())
        } else {
            None
        };
        let Some(length) = length else {
            return Err(self.fail_length());
        };
        self.state = match usize::try_from(length) {
            Ok(0) => {
                records.push(Bytes::new());
                State::Header(Vec::new())
            }
            Ok(length) if length <= self.limit => State::Record {
                length,
                read: Vec::new(),
            },
            _ => {
                let error = RecordIoError::TooLong {
                    length,
                    limit: self.limit,
                };
                self.state = State::Failed(error.clone());
                return Err(error);
            }
        };
        Ok(())
    }

    fn fail_length(&mut self) -> RecordIoError {
        let text = match &self.state {
            State::Header(header) => String::from_utf8_lossy(header).into_owned(),
            _ => String::new(),
        };
        let error = RecordIoError::InvalidLength(text);
        self.state = State::Failed(error.clone());
        error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode_in_pieces(stream: &[u8], piece: usize) -> (Vec<Bytes>, Result<(), RecordIoError>) {
        let mut decoder = Decoder::new(100);
        let mut records = Vec::new();
        for data in stream.chunks(piece) {
            if let Err(error) = decoder.decode(data, &mut records) {
                return (records, Err(error));
            }
        }
        (records, Ok(()))
    }

    #[test]
    fn records_arrive_however_the_stream_is_cut() {
        let mut stream = Vec::new();
        let records: &[&[u8]] = &[b"a", b"", b"hello\nworld", &[b'x'; 100]];
        records
            .iter()
            .for_each(|record| encode_into(record, &mut stream));
        for piece in 1..=stream.len() {
            let (read, result) = decode_in_pieces(&stream, piece);
            assert_eq!(result, Ok(()));
            assert_eq!(read, records);
        }
    }

    #[test]
    fn bad_lengths_fail_for_good() {
        for stream in [
            "x\n",
            "\n",
            "-1\n",
            "+1\n",
            "1 \n",
            "99999999999999999999999",
            "000000000000000000000001\n",
        ] {
            let (_, result) = decode_in_pieces(stream.as_bytes(), 3);
            assert!(
                matches!(result, Err(RecordIoError::InvalidLength(_))),
                "{stream}"
            );
        }
        let mut decoder = Decoder::new(10);
        let mut records = Vec::new();
        let error = RecordIoError::TooLong {
            length: 11,
            limit: 10,
        };
        assert_eq!(
            decoder.decode(b"1\na11\n", &mut records),
            Err(error.clone())
        );
        assert_eq!(records, ["a"]);
        assert_eq!(decoder.decode(b"1\na", &mut records), Err(error));
        assert!(!decoder.at_boundary());
    }

    #[test]
    fn the_end_of_a_stream_is_clean_only_between_records() {
        let mut decoder = Decoder::new(10);
        assert!(decoder.at_boundary());
        for (data, clean) in [
            (&b"2"[..], false),
            (b"\n", false),
            (b"a", false),
            (b"b", true),
        ] {
            assert_eq!(decoder.decode(data, &mut Vec::new()), Ok(()));
            assert_eq!(decoder.at_boundary(), clean);
        }
    }
}
