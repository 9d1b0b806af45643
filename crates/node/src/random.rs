//! Randomness of the system, for ids that nobody must guess or draw twice. Cores never see it;
//! they are handed a seed.

use rustix::rand::{GetRandomFlags, getrandom};
use std::io;

/// Fills a buffer.
pub fn fill(mut buffer: &mut [u8]) -> io::Result<()> {
    while !buffer.is_empty() {
        match getrandom(&mut *buffer, GetRandomFlags::empty()) {
            Ok(drawn) => buffer = &mut buffer[drawn..],
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// A seed for a core.
pub fn seed() -> io::Result<u64> {
    let mut seed = [0; 8];
    fill(&mut seed)?;
    Ok(u64::from_le_bytes(seed))
}

/// A version 4 UUID.
pub fn uuid() -> io::Result<uuid::Uuid> {
    let mut bytes = [0; 16];
    fill(&mut bytes)?;
    Ok(uuid::Builder::from_random_bytes(bytes).into_uuid())
}
