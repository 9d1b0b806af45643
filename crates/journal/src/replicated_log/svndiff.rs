//! Differences between bytes as Subversion writes them: svndiff 0, and 1 (the same, compressed).
//!
//! A difference is a row of windows. Each makes the next part of the target out of a view of the
//! source, of what the window has made already, and of new bytes.

use flate2::read::ZlibDecoder;
use std::io::Read;

/// What a difference may come to. A registry of a million followers is smaller.
const TARGET_BYTES_MAX: usize = 1 << 30;

/// A difference cannot be applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DiffError {
    /// It begins like none.
    #[error("it is no svndiff")]
    NoDiff,
    /// Version 2 is compressed in a way that the reference never used.
    #[error("it is of version {0}; known are 0 and 1")]
    Version(u8),
    /// It ends too early, or refers to what is not there.
    #[error("it is damaged")]
    Damaged,
    /// It was not made from this source.
    #[error("it is a difference to something else")]
    OtherSource,
    /// The target would be too big.
    #[error("it comes to more than {TARGET_BYTES_MAX} bytes")]
    TooBig,
}

/// The target of a difference to `source`.
pub fn apply(source: &[u8], difference: &[u8]) -> Result<Vec<u8>, DiffError> {
    let rest = difference.strip_prefix(b"SVN").ok_or(DiffError::NoDiff)?;
    let (version, rest) = rest.split_first().ok_or(DiffError::NoDiff)?;
    if *version > 1 {
        return Err(DiffError::Version(*version));
    }
    let compressed = *version == 1;
    let mut input = Input(rest);
    let mut target = Vec::new();
    while !input.0.is_empty() {
        window(&mut input, source, compressed, &mut target)?;
    }
    Ok(target)
}

fn window(
    input: &mut Input<'_>,
    source: &[u8],
    compressed: bool,
    target: &mut Vec<u8>,
) -> Result<(), DiffError> {
    let offset = input.number()?;
    let view_length = input.number()?;
    let target_length = input.number()?;
    let instructions_length = input.number()?;
    let new_length = input.number()?;
    if target.len().saturating_add(target_length) > TARGET_BYTES_MAX {
        return Err(DiffError::TooBig);
    }
    let end = offset.checked_add(view_length);
    let view = end.and_then(|end| source.get(offset..end));
    let view = view.ok_or(DiffError::OtherSource)?;
    let instructions = section(input.take(instructions_length)?, compressed)?;
    let new = section(input.take(new_length)?, compressed)?;
    let begin = target.len();
    let (mut instructions, mut new) = (Input(&instructions), Input(&new));
    while !instructions.0.is_empty() {
        let first = instructions.byte()?;
        let length = match usize::from(first & 0x3f) {
            0 => instructions.number()?,
            length => length,
        };
        let made = target.len() - begin;
        if length > target_length - made {
            return Err(DiffError::Damaged);
        }
        match first >> 6 {
            0 => {
                let from = instructions.number()?;
                let part = from.checked_add(length).and_then(|end| view.get(from..end));
                target.extend_from_slice(part.ok_or(DiffError::Damaged)?);
            }
            1 => {
                let from = instructions.number()?;
                if from >= made {
                    return Err(DiffError::Damaged);
                }
                // It may reach into what it makes: a pattern that repeats.
                for index in begin + from..begin + from + length {
                    target.push(target[index]);
                }
            }
            2 => target.extend_from_slice(new.take(length)?),
            _ => return Err(DiffError::Damaged),
        }
    }
    if target.len() - begin == target_length && new.0.is_empty() {
        Ok(())
    } else {
        Err(DiffError::Damaged)
    }
}

/// In version 1, a section says how long it was, and is compressed unless that made it no shorter.
fn section(bytes: &[u8], compressed: bool) -> Result<Vec<u8>, DiffError> {
    if !compressed {
        return Ok(bytes.to_vec());
    }
    let mut input = Input(bytes);
    let length = input.number()?;
    if length == input.0.len() {
        return Ok(input.0.to_vec());
    }
    if length > TARGET_BYTES_MAX {
        return Err(DiffError::TooBig);
    }
    let mut whole = Vec::new();
    let mut decoder = ZlibDecoder::new(input.0).take(length as u64 + 1);
    decoder
        .read_to_end(&mut whole)
        .map_err(|_| DiffError::Damaged)?;
    if whole.len() == length {
        Ok(whole)
    } else {
        Err(DiffError::Damaged)
    }
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> Result<u8, DiffError> {
        let (first, rest) = self.0.split_first().ok_or(DiffError::Damaged)?;
        self.0 = rest;
        Ok(*first)
    }

    /// Seven bits a byte, the highest first.
    fn number(&mut self) -> Result<usize, DiffError> {
        let mut number = 0_usize;
        loop {
            let byte = self.byte()?;
            if number >> (usize::BITS - 7) != 0 {
                return Err(DiffError::Damaged);
            }
            number = number << 7 | usize::from(byte & 0x7f);
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], DiffError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(DiffError::Damaged)?;
        self.0 = rest;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_copies_repeats_and_adds() {
        // From "abcdefgh" (bytes 2 to 8): "cd" + "XY" + "XYX" (repeated from 2) + "h".
        let mut difference = b"SVN\0".to_vec();
        let instructions = [2, 0, 0x80 | 2, 0x40 | 3, 2, 1, 5];
        difference.extend([2, 6, 8, 7, 2]);
        difference.extend(instructions);
        difference.extend(b"XY");
        let target = apply(b"abcdefgh", &difference).expect("a target");
        assert_eq!(target, b"cdXYXYXh");
        // With each byte gone, or another source, it says no.
        for end in 4..difference.len() {
            if end > 4 {
                assert!(apply(b"abcdefgh", &difference[..end]).is_err());
            }
        }
        assert_eq!(apply(b"abc", &difference), Err(DiffError::OtherSource));
        assert_eq!(apply(b"", b"SVN\x02"), Err(DiffError::Version(2)));
        assert_eq!(apply(b"", b"PNG"), Err(DiffError::NoDiff));
        assert_eq!(apply(b"abc", b"SVN\0"), Ok(Vec::new()));
    }

    #[test]
    fn version_one_is_compressed_or_not() {
        use std::io::Write;
        let new = vec![b'x'; 300];
        let mut packer = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
        packer.write_all(&new).expect("packed");
        let mut data = vec![0x82, 0x2c];
        data.extend(packer.finish().expect("packed"));
        // Three bytes of instructions, uncompressed: add 300 new ones.
        let instructions = [3, 0x80, 0x82, 0x2c];
        let mut difference = b"SVN\x01".to_vec();
        difference.extend([0, 0, 0x82, 0x2c, 4, data.len() as u8]);
        difference.extend(instructions);
        difference.extend(data);
        assert_eq!(apply(b"", &difference), Ok(new));
    }
}
