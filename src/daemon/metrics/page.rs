//! A page in parts, which many readers share without a copy each.

use std::io;
use std::mem;

use axum::body::Bytes;

/// The length of a part. A growing text of several megabytes would be copied again and again.
const PART_BYTES: usize = 64 * 1024;

/// A page that is being written.
#[derive(Debug, Default)]
pub(crate) struct PageWriter {
    parts: Vec<Bytes>,
    last: Vec<u8>,
}

impl PageWriter {
    /// Returns the parts of the page.
    pub(crate) fn finish(mut self) -> Vec<Bytes> {
        self.end_part();
        self.parts
    }

    fn end_part(&mut self) {
        if !self.last.is_empty() {
            self.parts.push(mem::take(&mut self.last).into());
        }
    }
}

impl io::Write for PageWriter {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        if self.last.len() + text.len() > PART_BYTES {
            self.end_part();
        }
        if self.last.capacity() == 0 {
            self.last.reserve_exact(PART_BYTES.max(text.len()));
        }
        self.last.extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn parts_are_of_limited_length_and_in_order() {
        let mut page = PageWriter::default();
        for number in 0..20_000 {
            writeln!(page, "sample {number}").unwrap();
        }
        let parts = page.finish();
        assert!(parts.len() > 3);
        assert!(parts.iter().all(|part| part.len() <= PART_BYTES));
        let text = String::from_utf8(parts.concat()).unwrap();
        let numbers = text.lines().map(|line| line.rsplit_once(' ').unwrap().1);
        assert!(numbers.eq((0..20_000).map(|number: u32| number.to_string())));
    }
}
