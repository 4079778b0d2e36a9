//! Debian version numbers and their order, after deb-version(7).
//!
//! Knows nothing of packages or relations.

use std::cmp::Ordering;
use std::fmt;

/// A version as written, ordered by Debian's rules: `1.0~rc1 < 1.0 < 1.0-1 < 1.0a < 1:0`.
#[derive(Clone, Debug)]
pub struct Version(String);

impl Version {
    pub fn new(text: impl Into<String>) -> Self {
        Version(text.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The version as it appears in a pool file's name, which carries no epoch.
    pub fn without_epoch(&self) -> &str {
        split(&self.0).1.as_whole
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Equality follows the order, so `1.0` and `0:1.0-0` are equal, as Debian's tools have it.
impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Version {}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(&self.0, &other.0)
    }
}

struct Rest<'a> {
    as_whole: &'a str,
    upstream: &'a str,
    revision: &'a str,
}

fn split(text: &str) -> (&str, Rest<'_>) {
    let (epoch, rest) = match text.split_once(':') {
        Some((epoch, rest)) if epoch.bytes().all(|byte| byte.is_ascii_digit()) => (epoch, rest),
        _ => ("0", text),
    };
    let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, "0"));
    (epoch, Rest { as_whole: rest, upstream, revision })
}

/// Compares two versions as written.
pub fn compare(left: &str, right: &str) -> Ordering {
    let (left_epoch, left_rest) = split(left);
    let (right_epoch, right_rest) = split(right);
    compare_numbers(left_epoch.as_bytes(), right_epoch.as_bytes())
        .then_with(|| compare_part(left_rest.upstream.as_bytes(), right_rest.upstream.as_bytes()))
        .then_with(|| compare_part(left_rest.revision.as_bytes(), right_rest.revision.as_bytes()))
}

/// Digits of any length, so nothing can overflow.
fn compare_numbers(left: &[u8], right: &[u8]) -> Ordering {
    let significant = |digits: &[u8]| digits.iter().position(|digit| *digit != b'0').unwrap_or(digits.len());
    let (left, right) = (&left[significant(left)..], &right[significant(right)..]);
    left.len().cmp(&right.len()).then_with(|| left.cmp(right))
}

/// Weight of one byte outside digits: a tilde sorts before the end, letters before everything else.
fn weight(byte: Option<u8>) -> i32 {
    match byte {
        Some(b'~') => -1,
        None => 0,
        Some(byte) if byte.is_ascii_digit() => 0,
        Some(byte) if byte.is_ascii_alphabetic() => i32::from(byte),
        Some(byte) => i32::from(byte) + 256,
    }
}

/// Upstream version or revision: alternating runs of non-digits and digits.
fn compare_part(mut left: &[u8], mut right: &[u8]) -> Ordering {
    while !left.is_empty() || !right.is_empty() {
        loop {
            let (first_left, first_right) = (left.first().copied(), right.first().copied());
            let is_text = |byte: Option<u8>| byte.is_some_and(|byte| !byte.is_ascii_digit());
            if !is_text(first_left) && !is_text(first_right) {
                break;
            }
            let order = weight(first_left).cmp(&weight(first_right));
            if order != Ordering::Equal {
                return order;
            }
            left = left.get(1..).unwrap_or_default();
            right = right.get(1..).unwrap_or_default();
        }
        let digits = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (left_digits, right_digits) = (digits(left), digits(right));
        let order = compare_numbers(&left[..left_digits], &right[..right_digits]);
        if order != Ordering::Equal {
            return order;
        }
        left = &left[left_digits..];
        right = &right[right_digits..];
    }
    Ordering::Equal
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ordered_as_debian_orders() {
        let rising = [
            ["1.0~~", "1.0~~a"],
            ["1.0~~a", "1.0~"],
            ["1.0~", "1.0"],
            ["1.0~rc1", "1.0"],
            ["1.0", "1.0-1"],
            ["1.0-1", "1.0-1.1"],
            ["1.0-1", "1.0-1+b1"],
            ["1.0-1", "1.0a-1"],
            ["1.0a", "1.0+"],
            ["1.2", "1.10"],
            ["9.99", "1:0.1"],
            ["2:1", "10:1"],
            ["1.0-1~deb13u1", "1.0-1"],
            ["2.41-12", "2.41-12+deb13u1"],
            ["1.0-1-1", "1.0-1-2"],
            ["0", "00000000000000000000000000000000000000000001"],
        ];
        for [lower, higher] in rising {
            assert_eq!(compare(lower, higher), Ordering::Less, "{lower} < {higher}");
            assert_eq!(compare(higher, lower), Ordering::Greater, "{higher} > {lower}");
        }
        for [left, right] in [["1.0", "0:1.0"], ["1.0", "1.0-0"], ["1.00", "1.0"], ["1.0", "1.0-"]] {
            assert_eq!(compare(left, right), Ordering::Equal, "{left} = {right}");
        }
    }

    #[test]
    fn pool_names_have_no_epoch() {
        assert_eq!(Version::new("1:2.3-4").without_epoch(), "2.3-4");
        assert_eq!(Version::new("2.3-4").without_epoch(), "2.3-4");
    }

    proptest! {
        #[test]
        fn is_a_total_order(a in "[0-9a-z~+:.-]{0,8}", b in "[0-9a-z~+:.-]{0,8}", c in "[0-9a-z~+:.-]{0,8}") {
            prop_assert_eq!(compare(&a, &a), Ordering::Equal);
            prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
            let mut sorted = [&a, &b, &c];
            sorted.sort_by(|x, y| compare(x, y));
            prop_assert!(compare(sorted[0], sorted[2]) != Ordering::Greater);
        }
    }
}
