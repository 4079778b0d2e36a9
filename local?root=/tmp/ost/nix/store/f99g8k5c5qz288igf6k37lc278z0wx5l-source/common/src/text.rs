//! Numbers from and to bytes and text. Allocates nothing and panics on no input.

use core::fmt;

/// Little-endian integers at an offset, or nothing where the bytes end.
pub fn read_u16(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_le_bytes(field(bytes, offset)?))
}

pub fn read_u32(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_le_bytes(field(bytes, offset)?))
}

pub fn read_u64(bytes: &[u8], offset: usize) -> Option<u64> {
    Some(u64::from_le_bytes(field(bytes, offset)?))
}

/// The `N` bytes at an offset.
pub fn field<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..offset.checked_add(N)?)?.try_into().ok()
}

/// A hexadecimal number without prefix, 1 to 16 digits.
pub fn parse_hex(text: &str) -> Option<u64> {
    if text.is_empty() || text.len() > 16 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    u64::from_str_radix(text, 16).ok()
}

/// A decimal number, or a hexadecimal one with `0x` before it.
pub fn parse_number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => parse_hex(digits),
        None if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
        None => None,
    }
}

/// 32 bytes from 64 hexadecimal digits.
pub fn parse_digest(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut digest = [0; 32];
    for (byte, pair) in digest.iter_mut().zip(digits.chunks_exact(2)) {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        *byte = (high * 16 + low) as u8;
    }
    Some(digest)
}

/// Bytes as lower-case hexadecimal digits.
pub struct Hex<'a>(pub &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

/// Sixteen bytes in the hyphenated form of a UUID, in the order they are stored.
pub struct Uuid(pub [u8; 16]);

impl fmt::Display for Uuid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                formatter.write_str("-")?;
            }
            write!(formatter, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl Uuid {
    /// The form that `Display` writes; nothing else.
    pub fn parse(text: &str) -> Option<Uuid> {
        let text = text.as_bytes();
        if text.len() != 36 {
            return None;
        }
        let mut bytes = [0; 16];
        let mut position = 0;
        for (index, byte) in bytes.iter_mut().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                if text[position] != b'-' {
                    return None;
                }
                position += 1;
            }
            let high = char::from(text[position]).to_digit(16)?;
            let low = char::from(text[position + 1]).to_digit(16)?;
            *byte = (high * 16 + low) as u8;
            position += 2;
        }
        Some(Uuid(bytes))
    }
}

/// Bytes of unknown encoding for a console: control and non-ASCII characters become `?`.
pub struct Printable<'a>(pub &'a [u8]);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for &byte in self.0 {
            let shown = if byte == b' ' || byte.is_ascii_graphic() { byte } else { b'?' };
            write!(formatter, "{}", char::from(shown))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_text_is_parsed_without_panic(text in ".{0,70}|[0-9a-fA-F-]{30,66}") {
            let _ = (parse_hex(&text), parse_number(&text), parse_digest(&text));
            if let Some(uuid) = Uuid::parse(&text) {
                prop_assert_eq!(std::format!("{}", uuid), text.to_ascii_lowercase());
            }
        }
    }

    #[test]
    fn numbers() {
        assert_eq!(parse_hex("000000000000000a"), Some(10));
        assert_eq!(parse_hex("ffffffffffffffff"), Some(u64::MAX));
        for wrong in ["", "0x1", "+1", "g", "10000000000000000"] {
            assert_eq!(parse_hex(wrong), None, "{wrong}");
        }
        assert_eq!(parse_number("0x10"), Some(16));
        assert_eq!(parse_number("10"), Some(10));
        for wrong in ["", "-1", "+1", "0x", "1a", "99999999999999999999"] {
            assert_eq!(parse_number(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn uuid_both_ways() {
        let bytes: [u8; 16] = core::array::from_fn(|index| index as u8 * 17);
        let text = std::format!("{}", Uuid(bytes));
        assert_eq!(text, "00112233-4455-6677-8899-aabbccddeeff");
        assert_eq!(Uuid::parse(&text).map(|uuid| uuid.0), Some(bytes));
        assert!(Uuid::parse("00112233-4455-6677-8899aabbccddeeff-").is_none());
        assert!(Uuid::parse("00112233-4455-6677-8899-aabbccddeef").is_none());
    }

    #[test]
    fn fields_end_with_the_bytes() {
        assert_eq!(read_u16(&[1, 2, 3], 1), Some(0x0302));
        assert_eq!(read_u16(&[1, 2, 3], 2), None);
        assert_eq!(read_u64(&[0; 8], usize::MAX), None);
    }

    #[test]
    fn digests() {
        let text = "00".repeat(31) + "fF";
        assert_eq!(parse_digest(&text).map(|digest| digest[31]), Some(255));
        assert!(parse_digest("zz").is_none());
        assert!(parse_digest(&"é".repeat(32)).is_none());
    }
}
