//! Numbers as the reference's C++ streams print and read them.
//!
//! Error texts and JSON keys carry such numbers, so they are part of what clients see. Follows
//! `std::ostream` at 15 significant digits and stout's `numify`.

/// `value` with at most 15 significant digits, no trailing zeros, exponent form outside
/// `1e-4..1e15` (C's `%.15g`).
pub fn format_general(value: f64) -> String {
    if !value.is_finite() {
        return if value.is_nan() {
            "nan".into()
        } else if value > 0.0 {
            "inf".into()
        } else {
            "-inf".into()
        };
    }
    let scientific = format!("{value:.14e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if value != 0.0 && !(-4..15).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!(
            "{}e{sign}{:02}",
            trim_zeros(mantissa),
            exponent.unsigned_abs()
        );
    }
    let decimals = usize::try_from(14 - exponent).unwrap_or(0);
    trim_zeros(&format!("{value:.decimals$}")).to_owned()
}

/// Reads a real number, decimal or `0x` hexadecimal integer; `None` for anything else.
pub fn parse_real(text: &str) -> Option<f64> {
    if let Some(hex) = parse_hex(text) {
        return Some(hex as f64);
    }
    text.parse().ok()
}

/// Reads a natural number, decimal or `0x` hexadecimal; `None` for anything else.
pub fn parse_natural(text: &str) -> Option<u64> {
    parse_hex(text).or_else(|| text.parse().ok())
}

fn parse_hex(text: &str) -> Option<u64> {
    let digits = text
        .strip_prefix("0x")
        .or_else(|| text.strip_prefix("0X"))?;
    // `from_str_radix` alone would take a sign here.
    digits
        .bytes()
        .all(|b| b.is_ascii_hexdigit())
        .then(|| u64::from_str_radix(digits, 16).ok())?
}

fn trim_zeros(text: &str) -> &str {
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.')
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn general_form_is_that_of_c_streams() {
        for (value, text) in [
            (0.0, "0"),
            (4.0, "4"),
            (0.1, "0.1"),
            (1024.125, "1024.125"),
            (-2.5, "-2.5"),
            (0.001, "0.001"),
            (1.0 / 7.0, "0.142857142857143"),
            (10.0 / 7.0, "1.42857142857143"),
            (123_456_789_012_345.0, "123456789012345"),
            (1e15, "1e+15"),
            (1.5e-7, "1.5e-07"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
        ] {
            assert_eq!(format_general(value), text);
        }
    }

    #[test]
    fn naturals_take_hexadecimal_but_no_sign_in_it() {
        assert_eq!(parse_natural("0x1F"), Some(31));
        assert_eq!(parse_natural("0x-1"), None);
        assert_eq!(parse_natural("0x"), None);
        assert_eq!(parse_natural("-1"), None);
        assert_eq!(parse_natural("4000"), Some(4000));
        assert_eq!(parse_real("0x10"), Some(16.0));
        assert_eq!(parse_real("2.5"), Some(2.5));
        assert_eq!(parse_real("host"), None);
    }
}
