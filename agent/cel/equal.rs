//! Equality, order and membership. Numbers of different types are the same if they stand for the same number; values of
//! different types else are not equal, and not ordered.

use std::cmp::Ordering;

use crate::budget::Budget;
use crate::expression::Failure;
use crate::value::Value;

pub(crate) fn equal(left: &Value<'_>, right: &Value<'_>, budget: &mut Budget) -> Result<bool, Failure> {
    budget.spend(1)?;
    match (left, right) {
        (Value::Null, Value::Null) => Ok(true),
        (Value::Bool(left), Value::Bool(right)) => Ok(left == right),
        (Value::Text(left), Value::Text(right)) => {
            let (left, right) = (left.as_str(), right.as_str());
            budget.spend_bytes(left.len().min(right.len()))?;
            Ok(left == right)
        }
        (Value::Bytes(left), Value::Bytes(right)) => {
            budget.spend_bytes(left.len().min(right.len()))?;
            Ok(left == right)
        }
        (Value::Type(left), Value::Type(right)) => Ok(left == right),
        (Value::Optional(left), Value::Optional(right)) => match (left, right) {
            (Some(left), Some(right)) => equal(left, right, budget),
            (left, right) => Ok(left.is_none() && right.is_none()),
        },
        (Value::Array(_) | Value::List(_), Value::Array(_) | Value::List(_)) => {
            let (left, right) = (left.items(budget)?, right.items(budget)?);
            if left.len() != right.len() {
                return Ok(false);
            }
            for (left, right) in left.iter().zip(&right) {
                if !equal(left, right, budget)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        (Value::Object(_) | Value::Map(_), Value::Object(_) | Value::Map(_)) => {
            let keys = left.items(budget)?;
            if keys.len() != right.items(budget)?.len() {
                return Ok(false);
            }
            for key in &keys {
                let left = crate::operators::index(left.clone(), key, budget)?;
                match crate::operators::index(right.clone(), key, budget) {
                    Ok(right) if equal(&left, &right, budget)? => {}
                    Err(Failure::Budget) => return Err(Failure::Budget),
                    _ => return Ok(false),
                }
            }
            Ok(true)
        }
        _ => Ok(numbers(left, right) == Some(Some(Ordering::Equal))),
    }
}

/// How two numbers compare: nothing where they are not both numbers, and nothing inside where one is no number at all.
fn numbers(left: &Value<'_>, right: &Value<'_>) -> Option<Option<Ordering>> {
    Some(match (left, right) {
        (Value::Int(left), Value::Int(right)) => Some(left.cmp(right)),
        (Value::Uint(left), Value::Uint(right)) => Some(left.cmp(right)),
        (Value::Double(left), Value::Double(right)) => left.partial_cmp(right),
        (Value::Int(left), Value::Uint(right)) => Some(i128::from(*left).cmp(&i128::from(*right))),
        (Value::Uint(left), Value::Int(right)) => Some(i128::from(*left).cmp(&i128::from(*right))),
        (Value::Double(left), Value::Int(right)) => with_whole(*left, i128::from(*right)),
        (Value::Double(left), Value::Uint(right)) => with_whole(*left, i128::from(*right)),
        (Value::Int(left), Value::Double(right)) => with_whole(*right, i128::from(*left)).map(Ordering::reverse),
        (Value::Uint(left), Value::Double(right)) => with_whole(*right, i128::from(*left)).map(Ordering::reverse),
        _ => return None,
    })
}

/// A double against a whole number, without rounding the latter.
fn with_whole(double: f64, whole: i128) -> Option<Ordering> {
    if double.is_nan() {
        return None;
    }
    // A double beyond 128 bits saturates, and no whole number here comes near.
    let floor = double.floor();
    Some((floor as i128).cmp(&whole).then(if double > floor { Ordering::Greater } else { Ordering::Equal }))
}

/// How they are ordered: nothing where they are not of an ordered type, and nothing inside where neither comes first.
pub(crate) fn compare(
    left: &Value<'_>,
    right: &Value<'_>,
    budget: &mut Budget,
) -> Result<Option<Option<Ordering>>, Failure> {
    budget.spend(1)?;
    Ok(match (left, right) {
        (Value::Bool(left), Value::Bool(right)) => Some(Some(left.cmp(right))),
        (Value::Text(left), Value::Text(right)) => {
            budget.spend_bytes(left.as_str().len().min(right.as_str().len()))?;
            Some(Some(left.as_str().cmp(right.as_str())))
        }
        (Value::Bytes(left), Value::Bytes(right)) => {
            budget.spend_bytes(left.len().min(right.len()))?;
            Some(Some(left.cmp(right)))
        }
        _ => numbers(left, right),
    })
}

/// `item in of`: an item of a list, a key of a map.
pub(crate) fn is_in(item: &Value<'_>, of: &Value<'_>, budget: &mut Budget) -> Result<bool, Failure> {
    match (of, item) {
        (Value::Object(fields), Value::Text(key)) => {
            budget.spend(1)?;
            Ok(fields.contains_key(key.as_str()))
        }
        (Value::Array(_) | Value::List(_) | Value::Object(_) | Value::Map(_), item) => {
            for known in of.items(budget)? {
                if equal(&known, item, budget)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        _ => Err(Failure::overload("in", &[item, of])),
    }
}
