//! Writing JSON strings.

use std::str::Utf8Error;

use super::JsonError;

/// Appends a string with its quotes. Only quotes, backslashes and control characters are escaped; bytes that are
/// not UTF-8 are an error, and then nothing of use is appended.
pub fn write_string(output: &mut Vec<u8>, text: &[u8]) -> Result<(), JsonError> {
    if let Err(error) = std::str::from_utf8(text) {
        return Err(match first_wrong_byte(text, error) {
            Some(index) => JsonError::NotUtf8 { index, byte: text[index] },
            None => JsonError::IncompleteUtf8 { byte: text[text.len() - 1] },
        });
    }
    output.reserve(text.len() + 2);
    output.push(b'"');
    let mut rest = text;
    while let Some(index) = rest.iter().position(|&byte| matches!(byte, b'"' | b'\\' | 0..0x20)) {
        output.extend_from_slice(&rest[..index]);
        match rest[index] {
            byte @ (b'"' | b'\\') => output.extend([b'\\', byte]),
            8 => output.extend(b"\\b"),
            9 => output.extend(b"\\t"),
            10 => output.extend(b"\\n"),
            12 => output.extend(b"\\f"),
            13 => output.extend(b"\\r"),
            byte => {
                let digit = |value: u8| b"0123456789abcdef"[usize::from(value)];
                output.extend([b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte & 15)]);
            }
        }
        rest = &rest[index + 1..];
    }
    output.extend_from_slice(rest);
    output.push(b'"');
    Ok(())
}

/// The index of the byte that makes a text wrong: one that cannot begin a character, or that cannot go on what
/// stands before it. `None` if the text ends within a character.
pub(super) fn first_wrong_byte(text: &[u8], error: Utf8Error) -> Option<usize> {
    let begin = error.valid_up_to();
    let can_begin = matches!(text[begin], 0xC2..=0xF4);
    error.error_len().map(|length| if can_begin { begin + length } else { begin })
}
