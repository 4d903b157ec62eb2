//! One evaluation: an expression, what its names stand for, and what is left of the budget.

use std::rc::Rc;

use crate::budget::Budget;
use crate::expression::{Failure, Scope};
use crate::functions;
use crate::node::{Fold, FoldKind, Node};
use crate::operators::index;
use crate::strings;
use crate::value::{TYPES, Text, Value};

pub(crate) struct Evaluation<'a> {
    scope: Scope<'a>,
    locals: Vec<Value<'a>>,
    budget: Budget,
}

impl<'a> Evaluation<'a> {
    pub(crate) fn new(scope: Scope<'a>) -> Self {
        Self { scope, locals: Vec::new(), budget: Budget::new() }
    }

    pub(crate) fn of(&mut self, node: &'a Node) -> Result<Value<'a>, Failure> {
        self.budget.spend(1)?;
        match node {
            Node::Null => Ok(Value::Null),
            Node::Bool(value) => Ok(Value::Bool(*value)),
            Node::Int(value) => Ok(Value::Int(*value)),
            Node::Uint(value) => Ok(Value::Uint(*value)),
            Node::Double(value) => Ok(Value::Double(*value)),
            Node::Text(text) => Ok(Value::Text(Text::Borrowed(text))),
            Node::Bytes(bytes) => Ok(Value::Bytes(Rc::from(bytes.as_slice()))),
            Node::Root(name) => self.root(name),
            Node::Local(between) => {
                let place = self.locals.len().checked_sub(between + 1);
                place.map(|place| self.locals[place].clone()).ok_or_else(|| Failure::Missing("a variable".to_owned()))
            }
            Node::Select { of, field } => {
                let of = self.of(of)?;
                self.select(of, field)
            }
            Node::Has { of, field } => {
                let of = self.of(of)?;
                self.has(of, field)
            }
            Node::OptionalIndex { of, key } => {
                let (of, key) = (self.of(of)?, self.of(key)?);
                self.optional_index(of, &key)
            }
            Node::Not(node) => Ok(Value::Bool(!self.bool(node, "!")?)),
            Node::And(nodes) => self.logical(nodes, "&&", false),
            Node::Or(nodes) => self.logical(nodes, "||", true),
            Node::Conditional(nodes) => {
                let [condition, yes, no] = &**nodes;
                if self.bool(condition, "?:")? { self.of(yes) } else { self.of(no) }
            }
            Node::Operation(operator, nodes) => {
                let [left, right] = &**nodes;
                let (left, right) = (self.of(left)?, self.of(right)?);
                match (operator, &left) {
                    (crate::operators::Operator::Index, Value::Optional(_)) => self.optional_index(left, &right),
                    _ => operator.of(left, &right, &mut self.budget),
                }
            }
            Node::Negate(node) => {
                let value = self.of(node)?;
                let negated = match &value {
                    Value::Int(value) => value.checked_neg().map(Value::Int),
                    Value::Double(value) => Some(Value::Double(-value)),
                    _ => None,
                };
                negated.ok_or_else(|| Failure::overload("-", &[&value]))
            }
            Node::Call(function, arguments) => {
                let arguments = arguments.iter().map(|node| self.of(node)).collect::<Result<Vec<_>, _>>()?;
                functions::call(*function, &arguments, &mut self.budget)
            }
            Node::Matches(of, pattern) => {
                let of = self.of(of)?;
                strings::matches(&of, pattern, &mut self.budget)
            }
            Node::List(nodes) => self.list(nodes),
            Node::Map(nodes) => self.map(nodes),
            Node::Fold(fold) => self.fold(fold),
        }
    }

    fn root(&self, name: &str) -> Result<Value<'a>, Failure> {
        let value = match self.scope {
            Scope::Fields(fields) => fields.get(name),
            Scope::Named(named) => named.iter().find(|(known, _)| *known == name).map(|(_, value)| *value),
        };
        let type_ = || TYPES.into_iter().find(|type_| *type_ == name).map(Value::Type);
        value.map(Value::from).or_else(type_).ok_or_else(|| Failure::Missing(name.to_owned()))
    }

    fn bool(&mut self, node: &'a Node, sign: &str) -> Result<bool, Failure> {
        match self.of(node)? {
            Value::Bool(value) => Ok(value),
            other => Err(Failure::overload(sign, &[&other])),
        }
    }

    /// `&&` and `||`: the value that decides wins over an error beside it, on whichever side.
    fn logical(&mut self, nodes: &'a [Node; 2], sign: &str, decides: bool) -> Result<Value<'a>, Failure> {
        let left = self.bool(&nodes[0], sign);
        if matches!(left, Err(Failure::Budget)) || left == Ok(decides) {
            return left.map(Value::Bool);
        }
        match (left, self.bool(&nodes[1], sign)) {
            (_, Err(Failure::Budget)) => Err(Failure::Budget),
            (_, Ok(right)) if right == decides => Ok(Value::Bool(decides)),
            (Err(error), _) | (Ok(_), Err(error)) => Err(error),
            (Ok(_), Ok(right)) => Ok(Value::Bool(right)),
        }
    }

    /// A field; of an optional value, an optional field.
    fn select(&mut self, of: Value<'a>, field: &'a str) -> Result<Value<'a>, Failure> {
        let key = Value::Text(Text::Borrowed(field));
        match of {
            Value::Optional(_) => self.optional_index(of, &key),
            Value::Object(_) | Value::Map(_) => index(of, &key, &mut self.budget).map_err(|failure| match failure {
                Failure::Missing(_) => Failure::Missing(format!("the field {field}")),
                other => other,
            }),
            other => Err(Failure::overload(&format!("the field {field}"), &[&other])),
        }
    }

    fn has(&mut self, of: Value<'a>, field: &'a str) -> Result<Value<'a>, Failure> {
        let key = Value::Text(Text::Borrowed(field));
        let of = match of {
            Value::Optional(None) => return Ok(Value::Bool(false)),
            Value::Optional(Some(value)) => (*value).clone(),
            other => other,
        };
        match of {
            Value::Object(fields) => Ok(Value::Bool(fields.contains_key(field))),
            Value::Map(_) => Ok(Value::Bool(crate::equal::is_in(&key, &of, &mut self.budget)?)),
            other => Err(Failure::overload(&format!("has({field})"), &[&other])),
        }
    }

    fn optional_index(&mut self, of: Value<'a>, key: &Value<'a>) -> Result<Value<'a>, Failure> {
        let of = match of {
            Value::Optional(None) => return Ok(Value::Optional(None)),
            Value::Optional(Some(value)) => (*value).clone(),
            other => other,
        };
        match index(of, key, &mut self.budget) {
            Ok(value) => Ok(Value::some(value)),
            Err(Failure::Missing(_)) => Ok(Value::Optional(None)),
            Err(error) => Err(error),
        }
    }

    fn list(&mut self, nodes: &'a [(Node, bool)]) -> Result<Value<'a>, Failure> {
        let mut items = Vec::with_capacity(nodes.len());
        for (node, optional) in nodes {
            items.extend(self.unwrapped(node, *optional)?);
        }
        Ok(Value::list(items))
    }

    fn map(&mut self, nodes: &'a [(Node, Node, bool)]) -> Result<Value<'a>, Failure> {
        let mut entries: Vec<(Value<'a>, Value<'a>)> = Vec::with_capacity(nodes.len());
        for (key, node, optional) in nodes {
            let key = self.of(key)?;
            if !matches!(key, Value::Bool(_) | Value::Int(_) | Value::Uint(_) | Value::Text(_)) {
                return Err(Failure::Operation(format!("{} is no key of a map", key.type_name())));
            }
            for (known, _) in &entries {
                if crate::equal::equal(known, &key, &mut self.budget)? {
                    return Err(Failure::Operation("a map has a key twice".to_owned()));
                }
            }
            let value = self.unwrapped(node, *optional)?;
            entries.extend(value.map(|value| (key, value)));
        }
        Ok(Value::Map(Rc::new(entries)))
    }

    /// An item of a literal; nothing where it is an optional one that has no value.
    fn unwrapped(&mut self, node: &'a Node, optional: bool) -> Result<Option<Value<'a>>, Failure> {
        match (self.of(node)?, optional) {
            (value, false) => Ok(Some(value)),
            (Value::Optional(value), true) => Ok(value.map(|value| (*value).clone())),
            (other, true) => Err(Failure::overload("?", &[&other])),
        }
    }

    fn fold(&mut self, fold: &'a Fold) -> Result<Value<'a>, Failure> {
        let items = self.of(&fold.over)?.items(&mut self.budget)?;
        let mut kept = Vec::new();
        let mut count = 0;
        // An error gives way to a later item that decides, as on the two sides of && and ||.
        let mut failed = None;
        for item in items {
            self.locals.push(item);
            let test = fold.test.as_ref().map_or(Ok(true), |test| self.bool(test, "a macro's test"));
            let made = match (&test, fold.kind, &fold.item) {
                (Ok(true), FoldKind::Collect, Some(node)) => self.of(node).map(Some),
                (Ok(true), FoldKind::Collect, None) => Ok(self.locals.last().cloned()),
                _ => Ok(None),
            };
            self.locals.pop();
            kept.extend(made?);
            match (test, fold.kind) {
                (Err(Failure::Budget), _) => return Err(Failure::Budget),
                (Ok(false), FoldKind::All) => return Ok(Value::Bool(false)),
                (Ok(true), FoldKind::Exists) => return Ok(Value::Bool(true)),
                (Err(error), FoldKind::All | FoldKind::Exists) => failed = Some(error),
                (Err(error), _) => return Err(error),
                (Ok(holds), _) => count += usize::from(holds),
            }
        }
        match (failed, fold.kind) {
            (Some(error), _) => Err(error),
            (None, FoldKind::All) => Ok(Value::Bool(true)),
            (None, FoldKind::Exists) => Ok(Value::Bool(false)),
            (None, FoldKind::ExistsOne) => Ok(Value::Bool(count == 1)),
            (None, FoldKind::Collect) => Ok(Value::list(kept)),
        }
    }
}
