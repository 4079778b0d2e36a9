//! The digits of a float as JSON writers of the peer choose them: Florian Loitsch's Grisu2 ("Printing
//! Floating-Point Numbers Quickly and Accurately with Integers", 2010). They always read back as the same float
//! and are the shortest such digits in all but one of a thousand cases; a truly shortest algorithm would differ
//! from the peer in those, and with it the names of store paths.

use std::sync::OnceLock;

/// A number `fraction * 2^exponent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Scaled {
    fraction: u64,
    exponent: i32,
}

impl Scaled {
    fn normalised(self) -> Scaled {
        let shift = self.fraction.leading_zeros();
        Scaled { fraction: self.fraction << shift, exponent: self.exponent - shift as i32 }
    }

    /// The upper half of the product, rounded.
    fn times(self, other: Scaled) -> Scaled {
        let product = u128::from(self.fraction) * u128::from(other.fraction) + (1 << 63);
        Scaled { fraction: (product >> 64) as u64, exponent: self.exponent + other.exponent + 64 }
    }
}

/// Digits and exponent of a finite value above zero: `0.d1d2… * 10^point`.
pub(super) fn digits(value: f64) -> (String, i32) {
    let (low, middle, high) = with_boundaries(value);
    let (power, power_exponent) = cached_power(high.exponent);
    // One unit inside the interval on both sides, because the products are rounded.
    let low = low.times(power).fraction + 1;
    let middle = middle.times(power);
    let high = high.times(power).fraction - 1;
    let (digits, exponent) = generate(low, middle.fraction, high, -middle.exponent as u32);
    let point = digits.len() as i32 + exponent - power_exponent;
    (String::from_utf8(digits).expect("digits are ASCII"), point)
}

/// The value between the midpoints to its neighbours, all with the exponent of the upper one.
fn with_boundaries(value: f64) -> (Scaled, Scaled, Scaled) {
    const HIDDEN_BIT: u64 = 1 << 52;
    const BIAS: i32 = 1075;
    let bits = value.to_bits();
    let stored = bits & (HIDDEN_BIT - 1);
    let middle = match (bits >> 52) as i32 {
        0 => Scaled { fraction: stored, exponent: 1 - BIAS },
        exponent => Scaled { fraction: stored | HIDDEN_BIT, exponent: exponent - BIAS },
    };
    // Below a power of two the neighbours stand closer.
    let is_closer = stored == 0 && (bits >> 52) > 1;
    let high = Scaled { fraction: 2 * middle.fraction + 1, exponent: middle.exponent - 1 }.normalised();
    let low = if is_closer {
        Scaled { fraction: 4 * middle.fraction - 1, exponent: middle.exponent - 2 }
    } else {
        Scaled { fraction: 2 * middle.fraction - 1, exponent: middle.exponent - 1 }
    };
    let aligned = low.fraction << (low.exponent - high.exponent);
    (Scaled { fraction: aligned, exponent: high.exponent }, middle.normalised(), high)
}

/// Digits of some number between `low` and `high`, as close to `middle` as changing the last digit allows, and
/// the power of ten of the last digit. All three numbers have `fraction_bits` bits behind the binary point.
fn generate(low: u64, middle: u64, high: u64, fraction_bits: u32) -> (Vec<u8>, i32) {
    let mut width = high - low;
    let mut distance = high - middle;
    let one = 1u64 << fraction_bits;
    let mut whole = (high >> fraction_bits) as u32;
    let mut fraction = high & (one - 1);
    let mut digits = Vec::with_capacity(17);
    let mut exponent = whole.checked_ilog10().map_or(0, |digits| digits as i32 + 1);
    while exponent > 0 {
        exponent -= 1;
        let power = 10u32.pow(exponent as u32);
        digits.push(b'0' + (whole / power) as u8);
        whole %= power;
        let rest = (u64::from(whole) << fraction_bits) + fraction;
        if rest <= width {
            move_closer(&mut digits, distance, width, rest, u64::from(power) << fraction_bits);
            return (digits, exponent);
        }
    }
    loop {
        fraction *= 10;
        width *= 10;
        distance *= 10;
        digits.push(b'0' + (fraction >> fraction_bits) as u8);
        fraction &= one - 1;
        exponent -= 1;
        if fraction <= width {
            move_closer(&mut digits, distance, width, fraction, one);
            return (digits, exponent);
        }
    }
}

/// Lowers the last digit while that brings the number closer to the value. Distances are from the upper end;
/// `unit` is the weight of the last digit.
fn move_closer(digits: &mut [u8], distance: u64, width: u64, rest: u64, unit: u64) {
    let mut rest = rest;
    let last = digits.last_mut().expect("at least one digit was made");
    while rest < distance
        && width - rest >= unit
        && (rest + unit < distance || distance - rest > rest + unit - distance)
    {
        *last -= 1;
        rest += unit;
    }
}

/// The powers of ten in steps of 8, and how far the product's exponent may be from zero.
const POWER_MIN: i32 = -300;
const POWER_STEP: i32 = 8;
const POWERS: usize = 79;
const EXPONENT_MIN: i32 = -60;

/// A power of ten that brings a number with this binary exponent into reach, and its decimal exponent.
fn cached_power(exponent: i32) -> (Scaled, i32) {
    static TABLE: OnceLock<Vec<Scaled>> = OnceLock::new();
    let table = TABLE.get_or_init(|| {
        (0..POWERS as i32).map(|index| power_of_ten(POWER_MIN + index * POWER_STEP)).collect()
    });
    // The least decimal exponent that is enough: log10(2) is 78913 / 2^18 to six digits.
    let bits = EXPONENT_MIN - exponent - 1;
    let decimal = bits * 78913 / (1 << 18) + i32::from(bits > 0);
    let index = (decimal - POWER_MIN + POWER_STEP - 1) / POWER_STEP;
    (table[index as usize], POWER_MIN + index * POWER_STEP)
}

/// `10^exponent` to 64 bits, rounded.
fn power_of_ten(exponent: i32) -> Scaled {
    // An exact multiple: 10^e, or 2^1280 / 10^-e, which leaves far more than 64 bits.
    const SHIFT: usize = 1280;
    let mut number = vec![1u32];
    if exponent < 0 {
        number = vec![0; SHIFT / 32];
        number.push(1);
    }
    for _ in 0..exponent.unsigned_abs() {
        if exponent > 0 { multiply_by_ten(&mut number) } else { divide_by_ten(&mut number) }
    }
    let scale = if exponent < 0 { -(SHIFT as i32) } else { 0 };
    let bits = 32 * number.len() - number.last().map_or(0, |top| top.leading_zeros() as usize);
    let bit = |index: usize| u64::from(number[index / 32] >> (index % 32) & 1);
    let fraction =
        (0..64).fold(0, |sum, place| (sum << 1) | if bits > place { bit(bits - 1 - place) } else { 0 });
    let rounding = if bits > 64 { bit(bits - 65) } else { 0 };
    // Rounding up never carries out of 64 ones here, or the first digits would be those of a power of two.
    Scaled { fraction: fraction + rounding, exponent: scale + bits as i32 - 64 }
}

fn multiply_by_ten(number: &mut Vec<u32>) {
    let mut carry = 0u64;
    for digit in number.iter_mut() {
        let product = u64::from(*digit) * 10 + carry;
        *digit = product as u32;
        carry = product >> 32;
    }
    if carry > 0 {
        number.push(carry as u32);
    }
}

fn divide_by_ten(number: &mut Vec<u32>) {
    let mut rest = 0u64;
    for digit in number.iter_mut().rev() {
        let value = rest << 32 | u64::from(*digit);
        *digit = (value / 10) as u32;
        rest = value % 10;
    }
    if number.last() == Some(&0) {
        number.pop();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn powers_are_rounded() {
        for (exponent, fraction, binary) in [
            (0, 1 << 63, -63),
            (4, 10_000 << 50, -50),
            (20, 100_000_000_000_000_000_000u128.unbounded_shr(3) as u64, 3),
            (-4, 0xD1B7_1758_E219_652C, -77),
            (324, 0x9E19_DB92_B4E3_1BA9, 1013),
            (-300, 0xAB70_FE17_C79A_C6CA, -1060),
        ] {
            assert_eq!(power_of_ten(exponent), Scaled { fraction, exponent: binary }, "{exponent}");
        }
    }

    #[test]
    fn digits_are_those_of_the_peer() {
        for (value, expected, point) in [
            (1.0, "1", 1),
            (0.1, "1", 0),
            (123.456, "123456", 3),
            (5e-324, "5", -323),
            (f64::MAX, "17976931348623157", 309),
            (f64::MIN_POSITIVE, "22250738585072014", -307),
            (9007199254740992.0, "9007199254740992", 16),
            // Not the shortest, or not the closest: 667.598036432632 and 6.195626866399892e-221 would do.
            (667.598036432632, "6675980364326319", 3),
            (6.195626866399892e-221, "61956268663998915", -220),
        ] {
            assert_eq!(digits(value), (expected.to_owned(), point), "{value:e}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn digits_read_back(bits in 1u64..0x7ff0_0000_0000_0000) {
            let value = f64::from_bits(bits);
            let (digits, point) = digits(value);
            prop_assert!(digits.len() <= 17);
            let text = format!("0.{digits}e{point}");
            prop_assert_eq!(text.parse::<f64>().unwrap().to_bits(), bits, "{}", text);
        }
    }
}
