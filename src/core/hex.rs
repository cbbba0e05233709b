//! Hexadecimal text.

use std::fmt::Write as _;

/// Returns `bytes` as lower-case hexadecimal digits.
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a `String` never fails.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Returns the bytes that hexadecimal digits stand for, in either case; none for any other
/// text.
#[must_use]
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pairs = text.as_bytes().chunks(2).map(|pair| match pair {
        [high, low] => u8::try_from(digit(*high)? * 16 + digit(*low)?).ok(),
        _ => None,
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_become_two_digits_each() {
        assert_eq!(encode(&[]), "");
        assert_eq!(encode(&[0, 0x0f, 0xa0, 0xff]), "000fa0ff");
    }

    #[test]
    fn pairs_of_digits_become_bytes() {
        for bytes in [&[][..], &[0, 0x0f, 0xa0, 0xff]] {
            assert_eq!(decode(&encode(bytes)).as_deref(), Some(bytes));
        }
        assert_eq!(decode("aF"), Some(vec![0xaf]));
        for wrong in ["0", "0g", "+1", " 1", "0f0", "ä"] {
            assert_eq!(decode(wrong), None, "{wrong}");
        }
    }
}
