//! Pure text rules of literals: escapes, indentation, floats, quoting of names and strings.

use crate::ast::ExprId;

/// Decodes the escapes of a `"…"` piece; a carriage return, alone or before a newline, becomes a newline.
pub(crate) fn unescape(raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(raw.len());
    let mut bytes = raw.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => match bytes.next() {
                Some(b'n') => out.push(b'\n'),
                Some(b'r') => out.push(b'\r'),
                Some(b't') => out.push(b'\t'),
                Some(other) => out.push(other),
                None => {}
            },
            b'\r' => {
                out.push(b'\n');
                bytes.next_if_eq(&b'\n');
            }
            other => out.push(other),
        }
    }
    out
}

/// What an escape token of an indented string stands for.
pub(crate) fn unescape_indented(raw: &[u8]) -> Vec<u8> {
    match raw {
        b"''$" => b"$".to_vec(),
        b"'''" => b"''".to_vec(),
        [b'\'', b'\'', rest @ ..] => unescape(rest),
        other => other.to_vec(),
    }
}

/// A piece of an indented string before its indentation is taken away.
pub(crate) enum IndentedPiece {
    Text(Vec<u8>),
    Escape(Vec<u8>),
    Expr(ExprId),
}

/// The fewest spaces any line starts with, not counting lines of spaces alone.
fn minimum_indentation(pieces: &[IndentedPiece]) -> usize {
    let mut minimum = usize::MAX;
    let mut current = 0;
    let mut at_start = true;
    for piece in pieces {
        let IndentedPiece::Text(bytes) = piece else {
            if at_start {
                at_start = false;
                minimum = minimum.min(current);
            }
            continue;
        };
        for &byte in bytes {
            match byte {
                b'\n' => {
                    at_start = true;
                    current = 0;
                }
                b' ' if at_start => current += 1,
                _ if at_start => {
                    at_start = false;
                    minimum = minimum.min(current);
                }
                _ => {}
            }
        }
    }
    minimum
}

/// Takes the common indentation away: for each piece its number and its remaining text (empty for expressions).
pub(crate) fn strip_indentation(pieces: &[IndentedPiece]) -> Vec<(usize, Vec<u8>)> {
    let minimum = minimum_indentation(pieces);
    let mut at_start = true;
    let mut dropped = 0;
    let mut out = Vec::with_capacity(pieces.len());
    for (index, piece) in pieces.iter().enumerate() {
        let bytes = match piece {
            IndentedPiece::Expr(_) => {
                at_start = false;
                dropped = 0;
                out.push((index, Vec::new()));
                continue;
            }
            IndentedPiece::Text(bytes) | IndentedPiece::Escape(bytes) => bytes,
        };
        let mut text = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            if !at_start {
                text.push(byte);
                at_start = byte == b'\n';
                continue;
            }
            match byte {
                b' ' => {
                    if dropped >= minimum {
                        text.push(byte);
                    }
                    dropped += 1;
                }
                b'\n' => {
                    dropped = 0;
                    text.push(byte);
                }
                _ => {
                    at_start = false;
                    dropped = 0;
                    text.push(byte);
                }
            }
        }
        if index + 1 == pieces.len() {
            drop_blank_last_line(&mut text);
        }
        out.push((index, text));
    }
    out
}

/// A last line of spaces alone only places the closing quotes.
fn drop_blank_last_line(text: &mut Vec<u8>) {
    if let Some(newline) = text.iter().rposition(|&byte| byte == b'\n')
        && text[newline + 1..].iter().all(|&byte| byte == b' ')
    {
        text.truncate(newline + 1);
    }
}

/// A float literal; out of range, also towards zero, is an error as it is for `strtod`.
pub(crate) fn parse_float(digits: &str) -> Option<f64> {
    let value: f64 = digits.parse().ok()?;
    let mantissa = digits.split(['e', 'E']).next().unwrap_or("");
    let zero = mantissa.bytes().all(|byte| matches!(byte, b'0' | b'.'));
    if value.is_infinite() || value.is_subnormal() || (value == 0.0 && !zero) { None } else { Some(value) }
}

/// `%g` with six significant digits, as C's `printf` and C++ streams print floats.
pub fn format_float(value: f64) -> String {
    if value.is_nan() {
        return if value.is_sign_negative() { "-nan".into() } else { "nan".into() };
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf".into() } else { "-inf".into() };
    }
    let scientific = format!("{value:.5e}");
    let (mantissa, exponent) = scientific.split_once('e').expect("`e` formatting writes an exponent");
    let exponent: i32 = exponent.parse().expect("an exponent is an integer");
    let trim = |digits: &str| {
        if digits.contains('.') {
            digits.trim_end_matches('0').trim_end_matches('.').to_string()
        } else {
            digits.to_string()
        }
    };
    if !(-4..6).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", trim(mantissa), exponent.abs());
    }
    trim(&format!("{value:.*}", (5 - exponent).max(0) as usize))
}

/// Writes `"…"` with the escapes Nix needs.
pub fn write_string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    for (index, &byte) in bytes.iter().enumerate() {
        match byte {
            b'"' | b'\\' => out.extend([b'\\', byte]),
            b'\n' => out.extend(b"\\n"),
            b'\r' => out.extend(b"\\r"),
            b'\t' => out.extend(b"\\t"),
            b'$' if bytes.get(index + 1) == Some(&b'{') => out.extend(b"\\$"),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

/// Words that cannot stand as a name without quotes. `or` can.
pub fn is_keyword(name: &[u8]) -> bool {
    matches!(name, b"if" | b"then" | b"else" | b"assert" | b"with" | b"let" | b"in" | b"rec" | b"inherit")
}

/// Whether a name needs no quotes.
pub fn is_identifier(name: &[u8]) -> bool {
    !is_keyword(name)
        && name.first().is_some_and(|&byte| byte.is_ascii_alphabetic() || byte == b'_')
        && name.iter().all(|&byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'\'' | b'-'))
}

/// Writes an attribute name, quoted where it must be.
pub fn write_identifier(out: &mut Vec<u8>, name: &[u8]) {
    if is_identifier(name) { out.extend(name) } else { write_string(out, name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_print_like_percent_g() {
        let cases = [
            (1.0, "1"),
            (0.1, "0.1"),
            (1e10, "1e+10"),
            (123456.0, "123456"),
            (1234567.0, "1.23457e+06"),
            (1e-5, "1e-05"),
            (0.0001, "0.0001"),
            (-2.5, "-2.5"),
            (0.0, "0"),
            (999999.5, "1e+06"),
        ];
        for (value, expected) in cases {
            assert_eq!(format_float(value), expected);
        }
    }
}
