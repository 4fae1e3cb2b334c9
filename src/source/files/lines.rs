//! From bytes to lines to rows; no input or output here.

use crate::error::{Error, ErrorKind, Result};
use crate::source::SliceLimits;
use crate::source::rows::{Row, RowBuilder};

/// What may still be read in this slice.
pub(super) struct Budget {
    records: usize,
    bytes: usize,
    any: bool,
}

impl Budget {
    pub(super) fn new(limits: SliceLimits) -> Self {
        Self { records: limits.records_max, bytes: limits.payload_bytes_max, any: false }
    }

    /// Room for a record of `bytes`? A first record always fits, or nothing would ever move.
    fn take(&mut self, bytes: usize) -> bool {
        if self.any && (self.records == 0 || self.bytes < bytes) {
            self.bytes = 0;
            return false;
        }
        self.any = true;
        self.records = self.records.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
        true
    }

    pub(super) fn is_used_up(&self) -> bool {
        self.any && (self.records == 0 || self.bytes == 0)
    }
}

/// Where reading stops.
pub(super) enum Until<'a> {
    /// When the slice is full.
    Budget(&'a mut Budget),
    /// At this offset, or at the end of the file: reading again what was read before.
    Offset(Option<u64>),
}

impl Until<'_> {
    pub(super) fn take(&mut self, bytes: usize) -> bool {
        match self {
            Self::Budget(budget) => budget.take(bytes),
            Self::Offset(_) => true,
        }
    }

    /// Bytes from `at` to the end of the range.
    pub(super) fn room(&self, at: u64) -> Option<u64> {
        match self {
            Self::Offset(Some(end)) => Some(end.saturating_sub(at)),
            _ => None,
        }
    }

    /// May a file that ends too early be left for later?
    pub(super) fn patient(&self) -> bool {
        matches!(self, Self::Budget(_))
    }
}

/// Where a file is read, and where its rows go.
pub(super) struct Cursor<'a> {
    /// Offset of the next line, in decompressed bytes.
    pub(super) at: u64,
    pub(super) arrived_us: i64,
    pub(super) rows: &'a mut RowBuilder,
}

impl Cursor<'_> {
    /// A row for the line that starts here and takes up `length` bytes of the file.
    pub(super) fn push(&mut self, payload: &[u8], error: Option<&str>, length: u64) -> Result<()> {
        let digits = digits20(self.at);
        let sequence = std::str::from_utf8(&digits)
            .map_err(|error| Error::new(ErrorKind::Internal, format!("an offset is not text: {error}")))?;
        self.rows.push(&Row { sequence, sub_sequence: 0, key: None, arrived_us: self.arrived_us, payload, error })?;
        self.at += length;
        Ok(())
    }
}

/// Take lines from `bytes`, which starts at the cursor and ends with a newline. Returns the bytes taken: fewer than
/// all when the slice is full.
pub(super) fn take_lines(bytes: &[u8], cursor: &mut Cursor<'_>, until: &mut Until<'_>) -> Result<usize> {
    let mut start = 0;
    for end in memchr::memchr_iter(b'\n', bytes) {
        let line = &bytes[start..end];
        let length = (end + 1 - start) as u64;
        if line.is_empty() || line == b"\r" {
            cursor.at += length;
        } else if until.take(line.len()) {
            cursor.push(line, None, length)?;
        } else {
            return Ok(start);
        }
        start = end + 1;
    }
    Ok(start)
}

/// `n` with leading zeros, so that text order is number order.
fn digits20(mut n: u64) -> [u8; 20] {
    let mut digits = [b'0'; 20];
    let mut at = digits.len();
    while n > 0 {
        at -= 1;
        digits[at] = b'0' + (n % 10) as u8;
        n /= 10;
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(bytes: &[u8], limits: SliceLimits) -> (usize, usize, u64) {
        let mut rows = RowBuilder::new("s", "f");
        let mut cursor = Cursor { at: 100, arrived_us: 0, rows: &mut rows };
        let taken = take_lines(bytes, &mut cursor, &mut Until::Budget(&mut Budget::new(limits))).unwrap();
        let at = cursor.at;
        (taken, rows.records(), at)
    }

    #[test]
    fn offsets_have_twenty_digits() {
        for n in [0, 7, 1_234_567_890, u64::MAX] {
            assert_eq!(std::str::from_utf8(&digits20(n)).unwrap(), format!("{n:020}"));
        }
    }

    #[test]
    fn lines_are_taken_whole_within_the_limits() {
        let limits = |records_max, payload_bytes_max| SliceLimits { records_max, payload_bytes_max };
        let text = b"one\n\ntwo\n\r\nthree\n";
        assert_eq!(lines_of(text, limits(9, 999)), (17, 3, 117));
        assert_eq!(lines_of(text, limits(2, 999)), (11, 2, 111));
        assert_eq!(lines_of(text, limits(9, 6)), (11, 2, 111));
        assert_eq!(lines_of(text, limits(9, 5)), (5, 1, 105));
        // A record larger than the limit is taken alone.
        assert_eq!(lines_of(text, limits(9, 1)), (5, 1, 105));
        assert_eq!(lines_of(b"", limits(9, 1)), (0, 0, 100));
    }
}
