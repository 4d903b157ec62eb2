//! Operators of two operands, but for the logical ones.

use std::cmp::Ordering;
use std::rc::Rc;

use crate::budget::Budget;
use crate::equal::{compare, equal, is_in};
use crate::expression::Failure;
use crate::value::Value;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
    Index,
}

impl Operator {
    /// The operator that the parser calls so.
    pub(crate) fn named(name: &str) -> Option<Self> {
        use cel::common::ast::operators as cel;
        Some(match name {
            cel::ADD => Self::Add,
            cel::SUBSTRACT => Self::Subtract,
            cel::MULTIPLY => Self::Multiply,
            cel::DIVIDE => Self::Divide,
            cel::MODULO => Self::Modulo,
            cel::EQUALS => Self::Equal,
            cel::NOT_EQUALS => Self::NotEqual,
            cel::LESS => Self::Less,
            cel::LESS_EQUALS => Self::LessOrEqual,
            cel::GREATER => Self::Greater,
            cel::GREATER_EQUALS => Self::GreaterOrEqual,
            cel::IN => Self::In,
            cel::INDEX => Self::Index,
            _ => return None,
        })
    }

    /// What it gives, where that is certain.
    pub(crate) fn kind(self) -> Option<&'static str> {
        match self {
            Self::Add => Some("a sum"),
            Self::Subtract | Self::Multiply | Self::Divide | Self::Modulo => Some("a number"),
            Self::Index => None,
            _ => Some("a bool"),
        }
    }

    fn sign(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Modulo => "%",
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::In => "in",
            Self::Index => "[]",
        }
    }

    pub(crate) fn of<'a>(self, left: Value<'a>, right: &Value<'a>, budget: &mut Budget) -> Result<Value<'a>, Failure> {
        let ordered = |budget: &mut Budget, fits: fn(Ordering) -> bool| {
            let ordering = compare(&left, right, budget)?;
            match ordering {
                Some(ordering) => Ok(Value::Bool(ordering.is_some_and(fits))),
                None => Err(Failure::overload(self.sign(), &[&left, right])),
            }
        };
        match self {
            Self::Equal => Ok(Value::Bool(equal(&left, right, budget)?)),
            Self::NotEqual => Ok(Value::Bool(!equal(&left, right, budget)?)),
            Self::Less => ordered(budget, Ordering::is_lt),
            Self::LessOrEqual => ordered(budget, Ordering::is_le),
            Self::Greater => ordered(budget, Ordering::is_gt),
            Self::GreaterOrEqual => ordered(budget, Ordering::is_ge),
            Self::In => Ok(Value::Bool(is_in(&left, right, budget)?)),
            Self::Index => index(left, right, budget),
            Self::Add | Self::Subtract | Self::Multiply | Self::Divide | Self::Modulo => {
                self.arithmetic(&left, right, budget)
            }
        }
    }

    fn arithmetic<'a>(self, left: &Value<'a>, right: &Value<'a>, budget: &mut Budget) -> Result<Value<'a>, Failure> {
        let out_of_range = || Failure::Operation(format!("{} is out of range, or divides by zero", self.sign()));
        match (left, right) {
            (Value::Int(left), Value::Int(right)) => match self {
                Self::Add => left.checked_add(*right),
                Self::Subtract => left.checked_sub(*right),
                Self::Multiply => left.checked_mul(*right),
                Self::Divide => left.checked_div(*right),
                _ => left.checked_rem(*right),
            }
            .map(Value::Int)
            .ok_or_else(out_of_range),
            (Value::Uint(left), Value::Uint(right)) => match self {
                Self::Add => left.checked_add(*right),
                Self::Subtract => left.checked_sub(*right),
                Self::Multiply => left.checked_mul(*right),
                Self::Divide => left.checked_div(*right),
                _ => left.checked_rem(*right),
            }
            .map(Value::Uint)
            .ok_or_else(out_of_range),
            (Value::Double(left), Value::Double(right)) if self != Self::Modulo => Ok(Value::Double(match self {
                Self::Add => left + right,
                Self::Subtract => left - right,
                Self::Multiply => left * right,
                _ => left / right,
            })),
            (left, right) if self == Self::Add => add(left, right, budget),
            _ => Err(Failure::overload(self.sign(), &[left, right])),
        }
    }
}

fn add<'a>(left: &Value<'a>, right: &Value<'a>, budget: &mut Budget) -> Result<Value<'a>, Failure> {
    match (left, right) {
        (Value::Text(left), Value::Text(right)) => {
            let (left, right) = (left.as_str(), right.as_str());
            budget.spend_bytes(left.len() + right.len())?;
            Ok(Value::text([left, right].concat()))
        }
        (Value::Bytes(left), Value::Bytes(right)) => {
            budget.spend_bytes(left.len() + right.len())?;
            Ok(Value::Bytes(Rc::from([&**left, &**right].concat())))
        }
        (Value::Array(_) | Value::List(_), Value::Array(_) | Value::List(_)) => {
            let mut items = left.items(budget)?;
            items.extend(right.items(budget)?);
            Ok(Value::list(items))
        }
        _ => Err(Failure::overload("+", &[left, right])),
    }
}

/// `of[key]`
pub(crate) fn index<'a>(of: Value<'a>, key: &Value<'a>, budget: &mut Budget) -> Result<Value<'a>, Failure> {
    let missing = || match key {
        Value::Text(text) => Failure::Missing(format!("the key {:?}", text.as_str())),
        Value::Int(at) => Failure::Missing(format!("the item {at}")),
        other => Failure::Missing(format!("such a {}", other.type_name())),
    };
    let place = match key {
        Value::Int(at) => usize::try_from(*at).ok(),
        Value::Uint(at) => usize::try_from(*at).ok(),
        // A whole one counts as the int that it equals.
        Value::Double(at) if at.fract() == 0.0 && (0.0..1e15).contains(at) => Some(*at as usize),
        _ => None,
    };
    match (&of, key) {
        (Value::Object(fields), Value::Text(key)) => fields.get(key.as_str()).map(Value::from).ok_or_else(missing),
        (Value::Object(_), _) => Err(missing()),
        (Value::Map(entries), key) => {
            for (known, value) in entries.iter() {
                if equal(known, key, budget)? {
                    return Ok(value.clone());
                }
            }
            Err(missing())
        }
        (Value::Array(items), Value::Int(_) | Value::Uint(_) | Value::Double(_)) => {
            place.and_then(|at| items.get(at)).map(Value::from).ok_or_else(missing)
        }
        (Value::List(items), Value::Int(_) | Value::Uint(_) | Value::Double(_)) => {
            place.and_then(|at| items.get(at)).cloned().ok_or_else(missing)
        }
        _ => Err(Failure::overload("[]", &[&of, key])),
    }
}
