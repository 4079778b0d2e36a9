//! Versions and derivation names, as `compareVersions`, `splitVersion` and `parseDrvName` see them.

use std::cmp::Ordering;

/// The components of a version: runs of digits and runs of anything else, parted by `.`, `-` or a change between
/// the two kinds.
pub fn split(version: &[u8]) -> Vec<&[u8]> {
    Components { rest: version }.collect()
}

struct Components<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Components<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let begin = self.rest.iter().position(|byte| !is_separator(byte))?;
        let rest = &self.rest[begin..];
        let same_kind = |byte: &u8| byte.is_ascii_digit() == rest[0].is_ascii_digit();
        let end = rest.iter().position(|byte| is_separator(byte) || !same_kind(byte)).unwrap_or(rest.len());
        self.rest = &rest[end..];
        Some(&rest[..end])
    }
}

fn is_separator(byte: &u8) -> bool {
    matches!(byte, b'.' | b'-')
}

/// Orders versions component by component; a missing component counts as empty.
pub fn compare(left: &[u8], right: &[u8]) -> Ordering {
    let mut left = Components { rest: left };
    let mut right = Components { rest: right };
    loop {
        let (left, right) = match (left.next(), right.next()) {
            (None, None) => return Ordering::Equal,
            (left, right) => (left.unwrap_or_default(), right.unwrap_or_default()),
        };
        if is_less(left, right) {
            return Ordering::Less;
        }
        if is_less(right, left) {
            return Ordering::Greater;
        }
    }
}

/// Numbers by value; nothing before a number; `pre` before all other words; words before numbers.
fn is_less(left: &[u8], right: &[u8]) -> bool {
    match (number(left), number(right)) {
        (Some(left), Some(right)) => left < right,
        (_, Some(_)) if left.is_empty() => true,
        _ if left == b"pre" => right != b"pre",
        _ if right == b"pre" => false,
        (_, Some(_)) => true,
        (Some(_), _) => false,
        _ => left < right,
    }
}

/// The value of a component. What does not fit in 32 bits is compared as a word.
fn number(component: &[u8]) -> Option<i32> {
    std::str::from_utf8(component).ok()?.parse().ok()
}

/// Name and version: the version begins after the first `-` that no letter follows.
pub fn parse_drv_name(name: &[u8]) -> (&[u8], &[u8]) {
    let dash = name.windows(2).position(|pair| pair[0] == b'-' && !pair[1].is_ascii_alphabetic());
    match dash {
        Some(dash) => (&name[..dash], &name[dash + 1..]),
        None => (name, b""),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn versions_are_ordered() {
        use Ordering::{Equal, Greater, Less};
        for (left, right, expected) in [
            ("1.0", "2.3", Less),
            ("2.1", "2.3", Less),
            ("2.3", "2.3", Equal),
            ("2.5", "2.3", Greater),
            ("2.3.1", "2.3", Greater),
            ("2.3.1", "2.3a", Greater),
            ("2.3pre1", "2.3", Less),
            ("2.3pre3", "2.3pre12", Less),
            ("2.3a", "2.3c", Less),
            ("2.3pre1", "2.3c", Less),
            ("2.3pre1", "2.3q", Less),
            ("10", "9", Greater),
            ("007", "7", Equal),
            ("1-2", "1.2", Equal),
            ("1..2", "1.2", Equal),
            ("", "", Equal),
            ("", "1", Less),
            ("", "pre", Greater),
            ("", "a", Less),
            ("99999999999", "99999999998", Greater),
            ("99999999999", "1", Less),
        ] {
            assert_eq!(compare(left.as_bytes(), right.as_bytes()), expected, "{left} and {right}");
        }
    }

    #[test]
    fn versions_are_split() {
        for (version, expected) in [
            ("1.2.3", vec!["1", "2", "3"]),
            ("2.3pre12-rc", vec!["2", "3", "pre", "12", "rc"]),
            ("a+b_c1", vec!["a+b_c", "1"]),
            ("..--", vec![]),
            ("", vec![]),
        ] {
            let parts: Vec<_> = split(version.as_bytes()).into_iter().map(String::from_utf8_lossy).collect();
            assert_eq!(parts, expected, "{version}");
        }
    }

    #[test]
    fn names_are_parted() {
        for (whole, name, version) in [
            ("hello-1.2", "hello", "1.2"),
            ("gcc-wrapper-12.3.0", "gcc-wrapper", "12.3.0"),
            ("a-b-c", "a-b-c", ""),
            ("a-", "a-", ""),
            ("a--1", "a", "-1"),
            ("x-_y", "x", "_y"),
            ("-1", "", "1"),
            ("", "", ""),
        ] {
            let expected = (name.as_bytes(), version.as_bytes());
            assert_eq!(parse_drv_name(whole.as_bytes()), expected, "{whole}");
        }
    }

    proptest! {
        #[test]
        fn comparing_is_antisymmetric(left in "[0-9a-z.-]{0,8}", right in "[0-9a-z.-]{0,8}") {
            let (left, right) = (left.as_bytes(), right.as_bytes());
            prop_assert_eq!(compare(left, right), compare(right, left).reverse());
            prop_assert_eq!(compare(left, left), Ordering::Equal);
        }

        #[test]
        fn components_hold_no_separator(version in "[ -~]{0,20}") {
            for part in split(version.as_bytes()) {
                prop_assert!(!part.is_empty() && !part.iter().any(is_separator));
            }
        }
    }
}
