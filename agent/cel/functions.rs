//! The functions there are: the standard library's, and the extensions sets and encoders. Those of texts are in `strings`.

use std::ops::RangeInclusive;
use std::rc::Rc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

use crate::budget::Budget;
use crate::equal::is_in;
use crate::expression::Failure;
use crate::strings;
use crate::value::Value;

/// How it is called: `f(x)` or `x.f()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    Global,
    Member,
}

/// Names before a dot that are a library's and no variable's.
pub(crate) const LIBRARIES: [&str; 3] = ["base64", "optional", "sets"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Function {
    Size,
    Type,
    Dyn,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Matches,
    Contains,
    StartsWith,
    EndsWith,
    CharAt,
    IndexOf,
    LastIndexOf,
    Join,
    LowerAscii,
    UpperAscii,
    Replace,
    Reverse,
    Split,
    Substring,
    Trim,
    SetsContains,
    SetsEquivalent,
    SetsIntersects,
    Base64Encode,
    Base64Decode,
    OptionalOf,
    OptionalOfNonZeroValue,
    OptionalNone,
    HasValue,
    Unwrap,
    Or,
    OrValue,
}

/// Each with how it is called, and with how many operands, the target among them.
const TABLE: &[(Style, &str, RangeInclusive<usize>, Function)] = &[
    (Style::Global, "size", 1..=1, Function::Size),
    (Style::Member, "size", 1..=1, Function::Size),
    (Style::Global, "type", 1..=1, Function::Type),
    (Style::Global, "dyn", 1..=1, Function::Dyn),
    (Style::Global, "bool", 1..=1, Function::Bool),
    (Style::Global, "int", 1..=1, Function::Int),
    (Style::Global, "uint", 1..=1, Function::Uint),
    (Style::Global, "double", 1..=1, Function::Double),
    (Style::Global, "string", 1..=1, Function::String),
    (Style::Global, "bytes", 1..=1, Function::Bytes),
    (Style::Global, "matches", 2..=2, Function::Matches),
    (Style::Member, "matches", 2..=2, Function::Matches),
    (Style::Member, "contains", 2..=2, Function::Contains),
    (Style::Member, "startsWith", 2..=2, Function::StartsWith),
    (Style::Member, "endsWith", 2..=2, Function::EndsWith),
    (Style::Member, "charAt", 2..=2, Function::CharAt),
    (Style::Member, "indexOf", 2..=3, Function::IndexOf),
    (Style::Member, "lastIndexOf", 2..=3, Function::LastIndexOf),
    (Style::Member, "join", 1..=2, Function::Join),
    (Style::Member, "lowerAscii", 1..=1, Function::LowerAscii),
    (Style::Member, "upperAscii", 1..=1, Function::UpperAscii),
    (Style::Member, "replace", 3..=4, Function::Replace),
    (Style::Member, "reverse", 1..=1, Function::Reverse),
    (Style::Member, "split", 2..=3, Function::Split),
    (Style::Member, "substring", 2..=3, Function::Substring),
    (Style::Member, "trim", 1..=1, Function::Trim),
    (Style::Global, "sets.contains", 2..=2, Function::SetsContains),
    (Style::Global, "sets.equivalent", 2..=2, Function::SetsEquivalent),
    (Style::Global, "sets.intersects", 2..=2, Function::SetsIntersects),
    (Style::Global, "base64.encode", 1..=1, Function::Base64Encode),
    (Style::Global, "base64.decode", 1..=1, Function::Base64Decode),
    (Style::Global, "optional.of", 1..=1, Function::OptionalOf),
    (Style::Global, "optional.ofNonZeroValue", 1..=1, Function::OptionalOfNonZeroValue),
    (Style::Global, "optional.none", 0..=0, Function::OptionalNone),
    (Style::Member, "hasValue", 1..=1, Function::HasValue),
    (Style::Member, "value", 1..=1, Function::Unwrap),
    (Style::Member, "or", 2..=2, Function::Or),
    (Style::Member, "orValue", 2..=2, Function::OrValue),
];

/// The function of that name.
pub(crate) fn find(style: Style, name: &str, operands: usize) -> Option<Function> {
    let fits = |(its_style, its_name, counts, _): &&(Style, &str, RangeInclusive<usize>, Function)| {
        *its_style == style && *its_name == name && counts.contains(&operands)
    };
    TABLE.iter().find(fits).map(|(.., function)| *function)
}

/// What to do instead of calling a function that there is not.
pub(crate) fn way_out(name: &str) -> &'static str {
    match name {
        "timestamp" | "duration" | "getFullYear" | "getSeconds" | "getHours" | "getMinutes" => {
            "compare conditions and generations instead of times"
        }
        "optMap" | "optFlatMap" => "use .orValue() and go on from there",
        "format" | "strings.quote" => "compare the parts one by one",
        "has" | "all" | "exists" | "exists_one" | "existsOne" | "map" | "filter" => {
            "check how it is written: has(a.b), a.exists(x, test)"
        }
        _ => "check its spelling, and whether it is called as a.f() or f(a)",
    }
}

impl Function {
    /// What it gives, where that is certain.
    pub(crate) fn kind(self) -> Option<&'static str> {
        match self {
            Self::Size | Self::Int | Self::IndexOf | Self::LastIndexOf => Some("an int"),
            Self::Uint => Some("a uint"),
            Self::Double => Some("a double"),
            Self::Type => Some("a type"),
            Self::Bytes | Self::Base64Decode => Some("bytes"),
            Self::Split => Some("a list"),
            Self::OptionalOf | Self::OptionalOfNonZeroValue | Self::OptionalNone | Self::Or => Some("an optional"),
            Self::Dyn | Self::Unwrap | Self::OrValue => None,
            Self::String
            | Self::CharAt
            | Self::Join
            | Self::LowerAscii
            | Self::UpperAscii
            | Self::Replace
            | Self::Reverse
            | Self::Substring
            | Self::Trim
            | Self::Base64Encode => Some("a string"),
            _ => Some("a bool"),
        }
    }
}

pub(crate) fn call<'a>(function: Function, operands: &[Value<'a>], budget: &mut Budget) -> Result<Value<'a>, Failure> {
    let wrong = || Failure::overload(&format!("{function:?}"), &operands.iter().collect::<Vec<_>>());
    match (function, operands) {
        (Function::Size, [of]) => size(of, budget)?.ok_or_else(wrong),
        (Function::Type, [of]) => Ok(Value::Type(of.type_name())),
        (Function::Dyn, [of]) => Ok(of.clone()),
        (
            Function::Bool | Function::Int | Function::Uint | Function::Double | Function::String | Function::Bytes,
            [of],
        ) => convert(function, of, budget)?.ok_or_else(wrong),
        (Function::SetsContains, [list, items]) => Ok(Value::Bool(holds_all(list, items, budget)?)),
        (Function::SetsEquivalent, [left, right]) => {
            Ok(Value::Bool(holds_all(left, right, budget)? && holds_all(right, left, budget)?))
        }
        (Function::SetsIntersects, [list, items]) => {
            for item in items.items(budget)? {
                if is_in(&item, list, budget)? {
                    return Ok(Value::Bool(true));
                }
            }
            Ok(Value::Bool(false))
        }
        (Function::Base64Encode, [Value::Bytes(bytes)]) => {
            budget.spend_bytes(2 * bytes.len())?;
            Ok(Value::text(STANDARD.encode(bytes)))
        }
        (Function::Base64Decode, [Value::Text(text)]) => {
            budget.spend_bytes(text.as_str().len())?;
            let decoded = STANDARD.decode(text.as_str()).or_else(|_| STANDARD_NO_PAD.decode(text.as_str()));
            let decoded = decoded.map_err(|error| Failure::Operation(format!("base64.decode: {error}")))?;
            Ok(Value::Bytes(Rc::from(decoded)))
        }
        (Function::OptionalOf, [of]) => Ok(Value::some(of.clone())),
        (Function::OptionalOfNonZeroValue, [of]) if of.is_zero() => Ok(Value::Optional(None)),
        (Function::OptionalOfNonZeroValue, [of]) => Ok(Value::some(of.clone())),
        (Function::OptionalNone, []) => Ok(Value::Optional(None)),
        (Function::HasValue, [Value::Optional(of)]) => Ok(Value::Bool(of.is_some())),
        (Function::Unwrap, [Value::Optional(of)]) => {
            of.as_deref().cloned().ok_or_else(|| Failure::Missing("the value of an optional".to_owned()))
        }
        (Function::Or, [of @ Value::Optional(value), other @ Value::Optional(_)]) => {
            Ok(if value.is_some() { of.clone() } else { other.clone() })
        }
        (Function::OrValue, [Value::Optional(value), other]) => Ok(value.as_deref().unwrap_or(other).clone()),
        _ => strings::call(function, operands, budget)?.ok_or_else(wrong),
    }
}

/// How many characters, bytes, items or entries; nothing where there is no such thing.
fn size<'a>(of: &Value<'_>, budget: &mut Budget) -> Result<Option<Value<'a>>, Failure> {
    let size = match of {
        Value::Text(text) => {
            budget.spend_bytes(text.as_str().len())?;
            text.as_str().chars().count()
        }
        Value::Bytes(bytes) => bytes.len(),
        Value::Array(items) => items.len(),
        Value::List(items) => items.len(),
        Value::Object(fields) => fields.len(),
        Value::Map(entries) => entries.len(),
        _ => return Ok(None),
    };
    Ok(Some(Value::Int(i64::try_from(size).unwrap_or(i64::MAX))))
}

/// Whether every one of `items` is in `list`.
fn holds_all(list: &Value<'_>, items: &Value<'_>, budget: &mut Budget) -> Result<bool, Failure> {
    for item in items.items(budget)? {
        if !is_in(&item, list, budget)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Another type's value that stands for the same; nothing where that type takes no such value.
fn convert<'a>(to: Function, of: &Value<'a>, budget: &mut Budget) -> Result<Option<Value<'a>>, Failure> {
    if let Value::Text(text) = of {
        budget.spend_bytes(text.as_str().len())?;
    }
    let out_of_range = || Failure::Operation(format!("{to:?} does not hold such a value"));
    // What a double may be to fit: its bounds are powers of two, and exact.
    let fits = |value: f64, low: f64, high: f64| value > low - 1.0 && value < high;
    let found = match (to, of) {
        (Function::Bool, Value::Bool(_))
        | (Function::Int, Value::Int(_))
        | (Function::Uint, Value::Uint(_))
        | (Function::Double, Value::Double(_))
        | (Function::String, Value::Text(_))
        | (Function::Bytes, Value::Bytes(_)) => of.clone(),
        (Function::Bool, Value::Text(text)) => match text.as_str() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Value::Bool(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Value::Bool(false),
            _ => return Err(out_of_range()),
        },
        (Function::Int, Value::Uint(value)) => Value::Int(i64::try_from(*value).map_err(|_| out_of_range())?),
        (Function::Int, Value::Double(value)) if fits(*value, -(2f64.powi(63)), 2f64.powi(63)) => {
            Value::Int(*value as i64)
        }
        (Function::Int, Value::Text(text)) => Value::Int(text.as_str().parse().map_err(|_| out_of_range())?),
        (Function::Uint, Value::Int(value)) => Value::Uint(u64::try_from(*value).map_err(|_| out_of_range())?),
        (Function::Uint, Value::Double(value)) if fits(*value, 0.0, 2f64.powi(64)) => Value::Uint(*value as u64),
        (Function::Uint, Value::Text(text)) => Value::Uint(text.as_str().parse().map_err(|_| out_of_range())?),
        (Function::Int | Function::Uint, Value::Double(_)) => return Err(out_of_range()),
        (Function::Double, Value::Int(value)) => Value::Double(*value as f64),
        (Function::Double, Value::Uint(value)) => Value::Double(*value as f64),
        (Function::Double, Value::Text(text)) => Value::Double(text.as_str().parse().map_err(|_| out_of_range())?),
        (Function::String, Value::Bool(value)) => Value::text(value.to_string()),
        (Function::String, Value::Int(value)) => Value::text(value.to_string()),
        (Function::String, Value::Uint(value)) => Value::text(value.to_string()),
        (Function::String, Value::Double(value)) => Value::text(value.to_string()),
        (Function::String, Value::Bytes(bytes)) => {
            budget.spend_bytes(bytes.len())?;
            Value::text(std::str::from_utf8(bytes).map_err(|_| out_of_range())?)
        }
        (Function::Bytes, Value::Text(text)) => Value::Bytes(Rc::from(text.as_str().as_bytes())),
        _ => return Ok(None),
    };
    Ok(Some(found))
}
