//! Numbers from their decimal text, exactly: never by way of a floating-point number.
//!
//! ```text
//! -12.345e1   sign, digits 12345, three of them after the point, exponent 1
//!             DECIMAL(p, 1):  12345 · 10^(1 − 3 + 1)  =  1234|5  ▶  −1235     half away from zero
//! ```

/// Digits of the largest decimal.
const DIGITS_MAX: i64 = 38;

/// The parts of a number's text.
struct Parts<'a> {
    negative: bool,
    whole: &'a [u8],
    fraction: &'a [u8],
    exponent: i64,
}

impl<'a> Parts<'a> {
    /// `[+-] digits [. digits] [e [+-] digits]`, with white space around it; a digit on either side of the point.
    fn of(text: &'a [u8]) -> Option<Self> {
        let text = text.trim_ascii();
        let (negative, text) = match text.first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let (whole, rest) = split_digits(text);
        let (fraction, rest) = match rest.first() {
            Some(b'.') => split_digits(&rest[1..]),
            _ => (&rest[..0], rest),
        };
        let exponent = match rest.first() {
            None => 0,
            Some(b'e' | b'E') => exponent(&rest[1..])?,
            Some(_) => return None,
        };
        (!whole.is_empty() || !fraction.is_empty()).then_some(Self { negative, whole, fraction, exponent })
    }

    fn digits(&self) -> impl Iterator<Item = u128> {
        self.whole.iter().chain(self.fraction).map(|digit| u128::from(digit - b'0')).skip_while(|digit| *digit == 0)
    }
}

fn split_digits(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

/// An exponent; those beyond a billion are as good as a billion.
fn exponent(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text.first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if digits.is_empty() {
        return None;
    }
    let mut value = 0i64;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = (value * 10 + i64::from(digit - b'0')).min(1_000_000_000);
    }
    Some(if negative { -value } else { value })
}

/// What becomes of digits beyond the scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beyond {
    /// Round half away from zero.
    Round,
    /// Refuse the number unless they are zeros.
    Refuse,
}

/// The number times 10^`scale`; `None` where the text is no number or has more digits than `precision`.
#[inline]
pub(super) fn decimal(text: &[u8], precision: u8, scale: i8, beyond: Beyond) -> Option<i128> {
    match short_decimal(text, scale) {
        Some(value) => (value.unsigned_abs() < power(precision)).then_some(i128::from(value)),
        None => long_decimal(text, precision, scale, beyond),
    }
}

/// 10^`exponent`, or what no short number reaches.
#[inline]
fn power(exponent: u8) -> u64 {
    10u64.checked_pow(u32::from(exponent)).unwrap_or(u64::MAX)
}

/// The common shape, `[-] digits [. digits]` of at most 18 digits, none beyond the scale; `None` for the others.
#[inline]
fn short_decimal(text: &[u8], scale: i8) -> Option<i64> {
    if text.len() > 18 {
        return None;
    }
    let (negative, unsigned) = match text.first()? {
        b'-' => (true, &text[1..]),
        _ => (false, text),
    };
    let mut value = 0i64;
    let mut point = None;
    for (at, byte) in unsigned.iter().enumerate() {
        match byte {
            b'0'..=b'9' => value = value * 10 + i64::from(byte - b'0'),
            b'.' if point.is_none() => point = Some(at),
            _ => return None,
        }
    }
    let (whole, fraction) = match point {
        Some(at) => (at, unsigned.len() - at - 1),
        None => (unsigned.len(), 0),
    };
    let missing = usize::try_from(scale).ok()?.checked_sub(fraction)?;
    if whole + fraction == 0 || whole + fraction + missing > 18 {
        return None;
    }
    value *= 10i64.pow(missing as u32);
    Some(if negative { -value } else { value })
}

#[inline(never)]
fn long_decimal(text: &[u8], precision: u8, scale: i8, beyond: Beyond) -> Option<i128> {
    let parts = Parts::of(text)?;
    let count = parts.digits().count() as i64;
    if count == 0 {
        return Some(0);
    }
    let shift = parts.exponent - parts.fraction.len() as i64 + i64::from(scale);
    let kept = count + shift;
    if kept > DIGITS_MAX {
        return None;
    }
    let mut value = 0u128;
    let mut up = false;
    for (digit, at) in parts.digits().zip(0i64..) {
        if at < kept {
            value = value * 10 + digit;
        } else if beyond == Beyond::Refuse && digit != 0 {
            return None;
        } else if at == kept {
            up = digit >= 5;
        }
    }
    value *= 10u128.pow(u32::try_from(shift.max(0)).ok()?);
    value += u128::from(up);
    let fits = value < 10u128.pow(u32::from(precision));
    let value = i128::try_from(value).ok().filter(|_| fits)?;
    Some(if parts.negative { -value } else { value })
}

/// A whole number; `2.0` and `1e3` are whole.
#[inline]
pub(super) fn integer(text: &[u8]) -> Option<i64> {
    match short_decimal(text, 0) {
        Some(value) => Some(value),
        None => i64::try_from(long_decimal(text, DIGITS_MAX as u8, 0, Beyond::Refuse)?).ok(),
    }
}

/// The nearest finite floating-point number.
pub(super) fn double(text: &str) -> Option<f64> {
    Parts::of(text.as_bytes())?;
    text.trim_ascii().parse().ok().filter(|number: &f64| number.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two(text: &str) -> Option<i128> {
        decimal(text.as_bytes(), 12, 2, Beyond::Round)
    }

    #[test]
    fn decimals_are_exact_and_round_half_away_from_zero() {
        assert_eq!(two("499"), Some(49_900));
        assert_eq!(two("-0.1"), Some(-10));
        assert_eq!(two("499.005"), Some(49_901));
        assert_eq!(two("-499.005"), Some(-49_901));
        assert_eq!(two("499.00499999999999999999999999"), Some(49_900));
        assert_eq!(two(" +4.99e2 "), Some(49_900));
        assert_eq!(two("0.004"), Some(0));
        assert_eq!(two("0.005"), Some(1));
        assert_eq!(two("5e-3"), Some(1));
        assert_eq!(two("1e-1000000000000"), Some(0));
        assert_eq!(two(".5"), Some(50));
        assert_eq!(two("5."), Some(500));
        assert_eq!(two("0000000000000000000000000000000000000000000001"), Some(100));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert_eq!(two("9999999999.99"), Some(999_999_999_999));
        assert_eq!(two("9999999999.995"), None);
        assert_eq!(two("10000000000"), None);
        assert_eq!(two("-10000000000"), None);
        assert_eq!(two("1e1000000000000"), None);
        for text in ["", " ", "-", ".", "e5", "1e", "1e+", "abc", "1,000", "0x10", "1 2", "--1", "1.2.3", "NaN", "inf"]
        {
            assert_eq!(two(text), None, "{text}");
            assert_eq!(integer(text.as_bytes()), None, "{text}");
            assert_eq!(double(text), None, "{text}");
        }
        let widest = "99999999999999999999999999999999999999";
        assert_eq!(decimal(widest.as_bytes(), 38, 0, Beyond::Round), Some(10i128.pow(38) - 1));
        assert_eq!(decimal(format!("{widest}.5").as_bytes(), 38, 0, Beyond::Round), None);
        assert_eq!(decimal(format!("{widest}9").as_bytes(), 38, 0, Beyond::Round), None);
    }

    #[test]
    fn integers_up_to_their_limits() {
        assert_eq!(integer(b"9223372036854775807"), Some(i64::MAX));
        assert_eq!(integer(b"-9223372036854775808"), Some(i64::MIN));
        assert_eq!(integer(b"9223372036854775808"), None);
        assert_eq!(integer(b"2.0"), Some(2));
        assert_eq!(integer(b"1.5e1"), Some(15));
        assert_eq!(integer(b"2.5"), None);
        assert_eq!(integer(b"-0"), Some(0));
    }

    #[test]
    fn doubles_are_finite() {
        assert_eq!(double("1e308"), Some(1e308));
        assert_eq!(double("1e309"), None);
        assert_eq!(double("-0.1"), Some(-0.1));
    }
}
