//! Numbers as text: the three ways in which the language writes floats, and its literals.
//! Integers need nothing special when they are written.

mod grisu;

use std::fmt::Write;

/// C's `%f`, as `toString` writes floats.
pub fn format_f(value: f64) -> String {
    match special(value) {
        Some(text) => text,
        None => format!("{value:.6}"),
    }
}

/// C's `%g` with 6 significant digits, as printing and XML write floats.
pub fn format_g(value: f64) -> String {
    if let Some(text) = special(value) {
        return text;
    }
    // Rust's own notation has the digits and the exponent after rounding to six.
    let scientific = format!("{value:.5e}");
    let (digits, exponent) = scientific.split_once('e').expect("scientific notation has an exponent");
    let exponent: i32 = exponent.parse().expect("an exponent is an integer");
    if (-4..6).contains(&exponent) {
        let decimals = (5 - exponent) as usize;
        return without_trailing_zeros(&format!("{value:.decimals$}")).to_owned();
    }
    let mut text = without_trailing_zeros(digits).to_owned();
    write_exponent(&mut text, exponent);
    text
}

/// Text that reads back as the same float, in JSON's form: always with `.0`, other decimals or an exponent.
/// JSON has no text for what is not finite: `null`.
pub fn format_json(value: f64) -> String {
    if !value.is_finite() {
        return "null".to_owned();
    }
    let sign = if value.is_sign_negative() { "-" } else { "" };
    if value == 0.0 {
        return format!("{sign}0.0");
    }
    let (digits, point) = grisu::digits(value.abs());
    let count = digits.len() as i32;
    let mut text = sign.to_owned();
    match point {
        1..=15 if count <= point => {
            text.push_str(&digits);
            text.extend(std::iter::repeat_n('0', (point - count) as usize));
            text.push_str(".0");
        }
        1..=15 => {
            let (whole, fraction) = digits.split_at(point as usize);
            text.extend([whole, ".", fraction]);
        }
        -3..=0 => {
            text.push_str("0.");
            text.extend(std::iter::repeat_n('0', -point as usize));
            text.push_str(&digits);
        }
        _ => {
            text.push_str(&digits[..1]);
            if count > 1 {
                text.extend([".", &digits[1..]]);
            }
            write_exponent(&mut text, point - 1);
        }
    }
    text
}

/// What C writes for values that are not finite.
fn special(value: f64) -> Option<String> {
    let text = match (value.is_nan(), value.is_infinite()) {
        (true, _) => "nan",
        (_, true) => "inf",
        _ => return None,
    };
    Some(if value.is_sign_negative() { format!("-{text}") } else { text.to_owned() })
}

fn without_trailing_zeros(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

/// A sign and at least two digits, as C writes exponents.
fn write_exponent(text: &mut String, exponent: i32) {
    let sign = if exponent < 0 { '-' } else { '+' };
    write!(text, "e{sign}{:02}", exponent.abs()).expect("writing to a string does not fail");
}

/// The value of an integer literal: digits only. `None` if it is none or does not fit.
pub fn parse_int(text: &[u8]) -> Option<i64> {
    if !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The value of a float literal (`1.`, `.5`, `0.5`, `1.5e-3`). `None` if it is none or its value is out of range,
/// which as with C's `strtod` includes values too small to be kept exactly.
pub fn parse_float(text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text).ok()?;
    if !text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-')) {
        return None;
    }
    let value: f64 = text.parse().ok()?;
    let mantissa = text.split(['e', 'E']).next().unwrap_or_default();
    let is_zero = !mantissa.bytes().any(|byte| matches!(byte, b'1'..=b'9'));
    (value.is_normal() || (is_zero && value == 0.0)).then_some(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn floats_are_written_as_c_and_json_do() {
        for (value, f, g, json) in [
            (0.0, "0.000000", "0", "0.0"),
            (-0.0, "-0.000000", "-0", "-0.0"),
            (1.0, "1.000000", "1", "1.0"),
            (0.1, "0.100000", "0.1", "0.1"),
            (-2.5, "-2.500000", "-2.5", "-2.5"),
            (1.0 / 3.0, "0.333333", "0.333333", "0.3333333333333333"),
            (123456.0, "123456.000000", "123456", "123456.0"),
            (1234567.0, "1234567.000000", "1.23457e+06", "1234567.0"),
            (999999.5, "999999.500000", "1e+06", "999999.5"),
            (1e14, "100000000000000.000000", "1e+14", "100000000000000.0"),
            (1e15, "1000000000000000.000000", "1e+15", "1e+15"),
            (1.5e15, "1500000000000000.000000", "1.5e+15", "1.5e+15"),
            (0.0001, "0.000100", "0.0001", "0.0001"),
            (0.00001, "0.000010", "1e-05", "1e-05"),
            (0.000099999995, "0.000100", "0.0001", "9.9999995e-05"),
            (1e100, &format!("{:.6}", 1e100), "1e+100", "1e+100"),
            (5e-324, "0.000000", "4.94066e-324", "5e-324"),
            (f64::INFINITY, "inf", "inf", "null"),
            (f64::NEG_INFINITY, "-inf", "-inf", "null"),
            (f64::NAN, "nan", "nan", "null"),
        ] {
            assert_eq!(format_f(value), f);
            assert_eq!(format_g(value), g);
            assert_eq!(format_json(value), json);
        }
    }

    #[test]
    fn literals_are_read() {
        for (text, int, float) in [
            ("0", Some(0), Some(0.0)),
            ("007", Some(7), Some(7.0)),
            ("9223372036854775807", Some(i64::MAX), Some(i64::MAX as f64)),
            ("9223372036854775808", None, Some(i64::MAX as f64)),
            ("1.", None, Some(1.0)),
            (".5", None, Some(0.5)),
            ("1.5e-3", None, Some(0.0015)),
            ("0.0e400", None, Some(0.0)),
            ("1.0e400", None, None),
            ("1.0e-400", None, None),
            ("-1", None, Some(-1.0)),
            ("inf", None, None),
            ("", None, None),
        ] {
            assert_eq!(parse_int(text.as_bytes()), int, "{text}");
            assert_eq!(parse_float(text.as_bytes()), float, "{text}");
        }
    }

    proptest! {
        #[test]
        fn json_floats_read_back(bits: u64) {
            let value = f64::from_bits(bits);
            prop_assume!(value.is_finite());
            let text = format_json(value);
            prop_assert_eq!(text.parse::<f64>().unwrap().to_bits(), value.to_bits());
            prop_assert!(text.contains(['.', 'e']));
        }

        #[test]
        fn short_floats_are_close(value in -1e9f64..1e9) {
            let read: f64 = format_g(value).parse().unwrap();
            prop_assert!((read - value).abs() <= value.abs() * 1e-5 + 1e-300);
        }
    }
}
