//! Text without the heap, for an init: it comes of a fork, and may not allocate.

use std::fmt::{Error, Result, Write};

/// At most `N` bytes of text; what does not fit is an error.
#[derive(Debug)]
pub(crate) struct Line<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Line<N> {
    /// Nothing yet; `filler` stands where no text does.
    pub(crate) fn new(filler: u8) -> Self {
        Self {
            bytes: [filler; N],
            len: 0,
        }
    }

    /// The text.
    pub(crate) fn text(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&[])
    }

    /// All of it, what is filled up included.
    pub(crate) fn filled(self) -> [u8; N] {
        self.bytes
    }
}

impl<const N: usize> Write for Line<N> {
    fn write_str(&mut self, text: &str) -> Result {
        let end = self.len + text.len();
        let place = self.bytes.get_mut(self.len..end).ok_or(Error)?;
        place.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_is_kept_and_the_rest_is_filled_up() {
        let mut line = Line::<6>::new(b' ');
        write!(line, "{}-{}", 12, 3).unwrap();
        assert_eq!(line.text(), b"12-3");
        assert_eq!(&line.filled(), b"12-3  ");
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let mut line = Line::<3>::new(b' ');
        assert!(line.write_str("abc").is_ok());
        assert!(line.write_str("d").is_err());
        assert_eq!(line.text(), b"abc");
    }
}
