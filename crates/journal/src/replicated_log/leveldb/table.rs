//! Tables: sorted keys in blocks, found through an index at the end.

use super::{Changes, Cursor, LevelDbError, masked};
use std::borrow::Cow;

const FOOTER: usize = 48;
const MAGIC: u64 = 0xdb47_7524_8b80_fb57;
/// A kind and a checksum follow a block.
const TRAILER: usize = 5;
const PLAIN: u8 = 0;
const SNAPPY: u8 = 1;
/// A sequence number and a kind follow a key.
const KEY_TRAILER: usize = 8;
/// What a block may come to once it is unpacked. The reference's biggest value fits many times.
const BLOCK_BYTES_MAX: usize = 1 << 30;

/// Adds the changes in a table.
pub(super) fn read(name: &str, data: &[u8], changes: &mut Changes) -> Result<(), LevelDbError> {
    let mut cursor = Cursor::new(name, data);
    let footer = data.len().checked_sub(FOOTER);
    cursor.offset = footer.ok_or_else(|| cursor.damaged("it is too short"))?;
    let begin = cursor.offset;
    // Of blocks that say more about the table.
    cursor.varint()?;
    cursor.varint()?;
    let (offset, length) = (cursor.length()?, cursor.length()?);
    cursor.offset = begin + FOOTER - 8;
    if cursor.u64()? != MAGIC {
        return Err(cursor.damaged("it is no table"));
    }
    let index = block(name, data, offset, length)?;
    entries(name, &index, |_, value| {
        let mut handle = Cursor::new(name, value);
        let (offset, length) = (handle.length()?, handle.length()?);
        let block = block(name, data, offset, length)?;
        entries(name, &block, |key, value| {
            let split = key.len().checked_sub(KEY_TRAILER);
            let split = split.ok_or_else(|| handle.damaged("a key is too short"))?;
            let (key, trailer) = key.split_at(split);
            let trailer = u64::from_le_bytes(trailer.try_into().unwrap_or_default());
            let value = (trailer & 0xff != 0).then_some(value);
            changes.add(key, trailer >> 8, value);
            Ok(())
        })
    })
}

/// The content of a block.
fn block<'a>(
    name: &'a str,
    data: &'a [u8],
    offset: usize,
    length: usize,
) -> Result<Cow<'a, [u8]>, LevelDbError> {
    let mut cursor = Cursor::new(name, data);
    cursor.offset = offset;
    let whole = length.checked_add(TRAILER);
    let whole = whole.ok_or_else(|| cursor.damaged("a length is too big"))?;
    let bytes = cursor.take(whole)?;
    cursor.offset = offset;
    let (sealed, sum) = bytes.split_at(length + 1);
    let sum = u32::from_le_bytes(sum.try_into().unwrap_or_default());
    if sum != masked(crc32c::crc32c(sealed)) {
        return Err(cursor.damaged("a checksum is wrong"));
    }
    let content = &sealed[..length];
    match sealed[length] {
        PLAIN => Ok(Cow::Borrowed(content)),
        SNAPPY => {
            let fits = snap::raw::decompress_len(content).is_ok_and(|len| len <= BLOCK_BYTES_MAX);
            let unpacked = fits
                .then(|| snap::raw::Decoder::new().decompress_vec(content).ok())
                .flatten();
            let unpacked = unpacked.ok_or_else(|| cursor.damaged("a block cannot be unpacked"))?;
            Ok(Cow::Owned(unpacked))
        }
        _ => Err(cursor.damaged("a block is packed in an unknown way")),
    }
}

/// Every entry of a block. A key is stored as what differs from the one before.
fn entries(
    name: &str,
    block: &[u8],
    mut entry: impl FnMut(&[u8], &[u8]) -> Result<(), LevelDbError>,
) -> Result<(), LevelDbError> {
    let mut cursor = Cursor::new(name, block);
    let short = "a block is too short";
    let count_at = block.len().checked_sub(4);
    cursor.offset = count_at.ok_or_else(|| cursor.damaged(short))?;
    let restarts = cursor.u32()? as usize;
    let end = restarts
        .checked_mul(4)
        .and_then(|bytes| (block.len() - 4).checked_sub(bytes));
    let end = end.ok_or_else(|| cursor.damaged(short))?;
    let mut cursor = Cursor::new(name, &block[..end]);
    let mut key = Vec::new();
    while !cursor.is_at_end() {
        let shared = cursor.length()?;
        let fresh = cursor.length()?;
        let length = cursor.length()?;
        if shared > key.len() {
            return Err(cursor.damaged("a key refers to nothing"));
        }
        key.truncate(shared);
        key.extend_from_slice(cursor.take(fresh)?);
        entry(&key, cursor.take(length)?)?;
    }
    Ok(())
}
