//! Files that are appended to: records in blocks of 32 KiB, each with a checksum.

use super::{Changes, Cursor, LevelDbError, masked};

const BLOCK: usize = 32 << 10;
const HEADER: usize = 7;

const ZERO: u8 = 0;
const FULL: u8 = 1;
const FIRST: u8 = 2;
const MIDDLE: u8 = 3;
const LAST: u8 = 4;

const REMOVE: u8 = 0;
const PUT: u8 = 1;

/// The records of a file, and whether it ends in the middle of one. Only the end may be unfinished:
/// anything wrong before it is damage.
pub(super) fn records(name: &str, data: &[u8]) -> Result<(Vec<Vec<u8>>, bool), LevelDbError> {
    let mut records = Vec::new();
    let mut partial: Option<Vec<u8>> = None;
    let mut offset = 0;
    loop {
        let left = BLOCK - offset % BLOCK;
        if left < HEADER {
            // What is left of a block is filled up.
            offset += left;
        }
        if offset >= data.len() {
            return Ok((records, partial.is_some()));
        }
        let damaged = |what| LevelDbError::Damaged {
            file: name.to_owned(),
            offset,
            what,
        };
        let Some(header) = data.get(offset..offset + HEADER) else {
            return Ok((records, true));
        };
        let sum = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
        let length = usize::from(u16::from_le_bytes([header[4], header[5]]));
        let kind = header[6];
        if kind == ZERO && length == 0 {
            // Room that was made in advance.
            offset += BLOCK - offset % BLOCK;
            continue;
        }
        let begin = offset + HEADER;
        let end = begin + length;
        let Some(content) = data.get(begin..end) else {
            return Ok((records, true));
        };
        if HEADER + length > BLOCK - offset % BLOCK || sum != masked(sum_of(kind, content)) {
            // A crash leaves rubbish at the end only.
            return if end >= data.len() {
                Ok((records, true))
            } else {
                Err(damaged("a checksum is wrong"))
            };
        }
        match (kind, partial.take()) {
            (FULL, None) => records.push(content.to_vec()),
            (FIRST, None) => partial = Some(content.to_vec()),
            (MIDDLE, Some(mut begun)) => {
                begun.extend_from_slice(content);
                partial = Some(begun);
            }
            (LAST, Some(mut begun)) => {
                begun.extend_from_slice(content);
                records.push(begun);
            }
            // A writer that came back after a crash goes on after what was unfinished.
            (FULL, Some(_)) => records.push(content.to_vec()),
            (FIRST, Some(_)) => partial = Some(content.to_vec()),
            _ => return Err(damaged("a part of a record is out of place")),
        }
        offset = end;
    }
}

fn sum_of(kind: u8, content: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&[kind]), content)
}

/// Adds the changes in a log.
pub(super) fn replay(
    name: &str,
    data: &[u8],
    changes: &mut Changes,
    torn: &mut Vec<String>,
) -> Result<(), LevelDbError> {
    let (records, unfinished) = records(name, data)?;
    if unfinished {
        torn.push(name.to_owned());
    }
    for record in records {
        let mut cursor = Cursor::new(name, &record);
        let first = cursor.u64()?;
        let count = cursor.u32()?;
        for index in 0..u64::from(count) {
            let sequence = first.wrapping_add(index);
            match cursor.byte()? {
                PUT => {
                    let key = cursor.slice()?;
                    let value = cursor.slice()?;
                    changes.add(key, sequence, Some(value));
                }
                REMOVE => changes.add(cursor.slice()?, sequence, None),
                _ => return Err(cursor.damaged("a change is neither a value nor a removal")),
            }
        }
        if !cursor.is_at_end() {
            return Err(cursor.damaged("there is more than was counted"));
        }
    }
    Ok(())
}
