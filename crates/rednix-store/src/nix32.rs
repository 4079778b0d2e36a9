//! Nix's base 32: 5-bit groups of the little-endian number, highest group first. Knows nothing of hashes.

/// Digits in order of value: no `e`, `o`, `t`, `u`. ASCII order and value order agree.
pub const ALPHABET: &[u8; 32] = b"0123456789abcdfghijklmnpqrsvwxyz";

const INVALID: u8 = 0xff;

const VALUES: [u8; 256] = {
    let mut table = [INVALID; 256];
    let mut value = 0;
    while value < 32 {
        table[ALPHABET[value] as usize] = value as u8;
        value += 1;
    }
    table
};

/// Whether `byte` is one of the 32 digits.
pub const fn is_digit(byte: u8) -> bool {
    VALUES[byte as usize] != INVALID
}

/// Number of digits for `len` bytes.
pub const fn encoded_len(len: usize) -> usize {
    (len * 8).div_ceil(5)
}

pub fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(encoded_len(bytes.len()));
    for digit in (0..encoded_len(bytes.len())).rev() {
        let (index, shift) = (digit * 5 / 8, digit * 5 % 8);
        let low = u16::from(bytes[index]);
        let high = u16::from(bytes.get(index + 1).copied().unwrap_or(0));
        text.push(char::from(ALPHABET[usize::from(((high << 8 | low) >> shift) & 31)]));
    }
    text
}

/// `None` for a foreign digit, a length no byte string encodes to, or digits beyond the last byte.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let len = text.len() * 5 / 8;
    if encoded_len(len) != text.len() {
        return None;
    }
    let mut bytes = vec![0u8; len];
    for (digit, character) in text.bytes().rev().enumerate() {
        let value = VALUES[usize::from(character)];
        if value == INVALID {
            return None;
        }
        let (index, shift) = (digit * 5 / 8, digit * 5 % 8);
        let spread = u16::from(value) << shift;
        bytes[index] |= (spread & 0xff) as u8;
        let carry = (spread >> 8) as u8;
        match bytes.get_mut(index + 1) {
            Some(next) => *next |= carry,
            None if carry != 0 => return None,
            None => {}
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_texts() {
        for (bytes, text) in [
            (vec![], ""),
            (vec![0], "00"),
            (vec![0x1f], "0z"),
            (vec![0xff], "7z"),
            (vec![1, 0, 0, 0, 0], "00000001"),
            (vec![0, 0, 0, 0, 0x80], "h0000000"),
        ] {
            assert_eq!(encode(&bytes), text);
            assert_eq!(decode(text), Some(bytes));
        }
    }

    #[test]
    fn refused_texts() {
        for text in ["0", "8z", "zz", "0e", "0T", "é", "000"] {
            assert_eq!(decode(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn round_trip(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            prop_assert_eq!(decode(&encode(&bytes)), Some(bytes));
        }

        #[test]
        fn any_text_decodes_or_not_but_encodes_back(text in "[0-9a-z]{0,60}") {
            if let Some(bytes) = decode(&text) {
                prop_assert_eq!(encode(&bytes), text);
            }
        }
    }
}
