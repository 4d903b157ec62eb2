//! Numbers as Go writes them.

use serde_json::{Number, Value};

/// The JSON form of a float as Go's encoder writes it: whole numbers below 1e21 lose their fraction, and beyond 17 digits
/// they end in noughts. What is then an integer of 64 bits is read back as one.
pub(crate) fn to_json(value: f64) -> Option<Value> {
    if value.fract() == 0.0 && value.abs() < 1e21 {
        let text = whole(value);
        if let Ok(whole) = text.parse::<i64>() {
            return Some(whole.into());
        }
        if let Ok(whole) = text.parse::<u64>() {
            return Some(whole.into());
        }
    }
    Number::from_f64(value).map(Value::Number)
}

/// The shortest digits of a whole number, filled up with noughts.
fn whole(value: f64) -> String {
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let digits = mantissa.replace('.', "");
    let length = exponent.parse().unwrap_or(0) + 1;
    format!("{sign}{digits:0<length$}")
}

/// Go's `strconv.FormatFloat(value, 'g', -1, 64)`: the shortest text that reads back as the same number.
pub fn general(value: f64) -> String {
    shaped(&format!("{value:e}"))
}

/// The same for a number cut to single precision: how sigs.k8s.io/yaml writes a float that is a key.
#[allow(clippy::cast_possible_truncation)] // the cut is the rule
pub(crate) fn shortest_single(value: f64) -> String {
    shaped(&format!("{:e}", value as f32))
}

/// Lays out Rust's `d.ddde±x` as Go's `%g` does: an exponent below -4 or from 6 on is written as one.
fn shaped(scientific: &str) -> String {
    let Some((mantissa, exponent)) = scientific.split_once('e') else {
        return match scientific {
            "inf" => ".inf".to_owned(),
            "-inf" => "-.inf".to_owned(),
            _ => ".nan".to_owned(),
        };
    };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let digits = mantissa.replace('.', "");
    if !(-4..6).contains(&exponent) {
        let fraction = if digits.len() > 1 { format!(".{}", &digits[1..]) } else { String::new() };
        let mark = if exponent < 0 { '-' } else { '+' };
        return format!("{sign}{}{fraction}e{mark}{:02}", &digits[..1], exponent.abs());
    }
    if exponent < 0 {
        return format!("{sign}0.{}{digits}", "0".repeat(usize::try_from(-exponent - 1).unwrap_or(0)));
    }
    let whole = usize::try_from(exponent + 1).unwrap_or(0);
    if whole >= digits.len() {
        return format!("{sign}{digits}{}", "0".repeat(whole - digits.len()));
    }
    format!("{sign}{}.{}", &digits[..whole], &digits[whole..])
}

#[cfg(test)]
mod tests {
    #[test]
    fn floats_as_go_prints_them() {
        for (value, text) in [
            (1.5, "1.5"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (123_456.5, "123456.5"),
            (1_234_567.5, "1.2345675e+06"),
            (1e30, "1e+30"),
            (-2.5e-7, "-2.5e-07"),
        ] {
            assert_eq!(super::general(value), text);
        }
    }
}
