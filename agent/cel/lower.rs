//! From what the parser gives to what is evaluated: names are resolved, macros are seen for what they are, and what is
//! not supported is refused by name.

use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, operators};

use crate::expression::{MAX_DEPTH, MAX_NESTED_MACROS, Variables};
use crate::functions::{self, Function, Style};
use crate::node::{Fold, FoldKind, Node};
use crate::operators::Operator;
use crate::refused::Refused;
use crate::strings;
use crate::value::TYPES;

pub(crate) fn lower(parsed: &IdedExpr, variables: Variables<'_>) -> Result<Node, Refused> {
    Lowering { variables, locals: Vec::new(), depth: 0 }.node(parsed)
}

struct Lowering<'a, 'v> {
    variables: Variables<'v>,
    /// The variables of the macros around, the innermost last.
    locals: Vec<&'a str>,
    depth: usize,
}

impl<'a> Lowering<'a, '_> {
    fn node(&mut self, parsed: &'a IdedExpr) -> Result<Node, Refused> {
        if self.depth >= MAX_DEPTH {
            return Err(Refused::TooDeep);
        }
        self.depth += 1;
        let node = self.inner(parsed);
        self.depth -= 1;
        node
    }

    fn boxed(&mut self, parsed: &'a IdedExpr) -> Result<Box<Node>, Refused> {
        self.node(parsed).map(Box::new)
    }

    fn pair(&mut self, [left, right]: [&'a IdedExpr; 2]) -> Result<Box<[Node; 2]>, Refused> {
        Ok(Box::new([self.node(left)?, self.node(right)?]))
    }

    fn inner(&mut self, parsed: &'a IdedExpr) -> Result<Node, Refused> {
        match &parsed.expr {
            Expr::Literal(literal) => Ok(literal_node(literal)),
            Expr::Ident(name) => self.name(name),
            Expr::Select(select) => {
                let (of, field) = (self.boxed(&select.operand)?, select.field.clone());
                Ok(if select.test { Node::Has { of, field } } else { Node::Select { of, field } })
            }
            Expr::Call(call) => self.call(call),
            Expr::Comprehension(comprehension) => self.fold(comprehension),
            Expr::List(list) => {
                let items = list.elements.iter().enumerate();
                let items = items.map(|(at, item)| Ok((self.node(item)?, list.optional_indices.contains(&at))));
                Ok(Node::List(items.collect::<Result<_, Refused>>()?))
            }
            Expr::Map(map) => {
                let entries = map.entries.iter().map(|entry| match &entry.expr {
                    EntryExpr::MapEntry(entry) => {
                        Ok((self.node(&entry.key)?, self.node(&entry.value)?, entry.optional))
                    }
                    EntryExpr::StructField(_) => Err(Refused::Syntactic { what: "the construction of a message" }),
                });
                Ok(Node::Map(entries.collect::<Result<_, _>>()?))
            }
            Expr::Struct(_) => Err(Refused::Syntactic { what: "the construction of a message" }),
            Expr::Unspecified => Err(Refused::Syntactic { what: "an empty expression" }),
        }
    }

    fn name(&self, name: &str) -> Result<Node, Refused> {
        // With a dot before it, it is never the variable of a macro.
        let (name, absolute) = name.strip_prefix('.').map_or((name, false), |name| (name, true));
        let local = self.locals.iter().rev().position(|local| *local == name).filter(|_| !absolute);
        if let Some(between) = local {
            return Ok(Node::Local(between));
        }
        match self.variables {
            Variables::Only(known) if !known.contains(&name) && !TYPES.contains(&name) => {
                Err(Refused::Variable { name: name.to_owned(), known: known.join(" and ") })
            }
            _ => Ok(Node::Root(name.to_owned())),
        }
    }

    fn call(&mut self, call: &'a CallExpr) -> Result<Node, Refused> {
        match (&call.target, call.func_name.as_str(), call.args.as_slice()) {
            (None, operators::LOGICAL_AND, [left, right]) => Ok(Node::And(self.pair([left, right])?)),
            (None, operators::LOGICAL_OR, [left, right]) => Ok(Node::Or(self.pair([left, right])?)),
            (None, operators::LOGICAL_NOT, [of]) => Ok(Node::Not(self.boxed(of)?)),
            (None, operators::NEGATE, [of]) => Ok(Node::Negate(self.boxed(of)?)),
            (None, operators::CONDITIONAL, [condition, yes, no]) => {
                Ok(Node::Conditional(Box::new([self.node(condition)?, self.node(yes)?, self.node(no)?])))
            }
            (None, operators::OPT_SELECT | operators::OPT_INDEX, [of, key]) => {
                Ok(Node::OptionalIndex { of: self.boxed(of)?, key: self.boxed(key)? })
            }
            (None, name, [left, right]) if Operator::named(name).is_some() => {
                let operator = Operator::named(name).unwrap_or(Operator::Equal);
                Ok(Node::Operation(operator, self.pair([left, right])?))
            }
            (None, name, arguments) => self.function(Style::Global, name.to_owned(), None, arguments),
            (Some(target), name, arguments) => match &target.expr {
                Expr::Ident(library) if functions::LIBRARIES.contains(&library.as_str()) => {
                    self.function(Style::Global, format!("{library}.{name}"), None, arguments)
                }
                _ => self.function(Style::Member, name.to_owned(), Some(target), arguments),
            },
        }
    }

    fn function(
        &mut self,
        style: Style,
        name: String,
        target: Option<&'a IdedExpr>,
        arguments: &'a [IdedExpr],
    ) -> Result<Node, Refused> {
        let operands = arguments.len() + usize::from(target.is_some());
        let Some(function) = functions::find(style, &name, operands) else {
            return Err(Refused::Function { way_out: functions::way_out(&name), name, arguments: arguments.len() });
        };
        let mut nodes = target.into_iter().chain(arguments).map(|of| self.node(of)).collect::<Result<Vec<_>, _>>()?;
        if function == Function::Matches
            && let Some(Node::Text(pattern)) = nodes.last()
        {
            let pattern = strings::pattern(pattern)
                .map_err(|why| Refused::Pattern { pattern: pattern.clone(), why: why.to_string() })?;
            return Ok(Node::Matches(Box::new(nodes.swap_remove(0)), Box::new(pattern)));
        }
        Ok(Node::Call(function, nodes))
    }

    /// What the macros are expanded to, taken back to what they were.
    fn fold(&mut self, from: &'a ComprehensionExpr) -> Result<Node, Refused> {
        let over = self.node(&from.iter_range)?;
        let (kind, test, item) = macro_of(from).ok_or(Refused::Syntactic { what: "an unknown macro" })?;
        if self.locals.len() >= MAX_NESTED_MACROS {
            return Err(Refused::TooManyNested);
        }
        self.locals.push(&from.iter_var);
        let test = test.map(|test| self.node(test)).transpose();
        let item = item.map(|item| self.node(item)).transpose();
        self.locals.pop();
        Ok(Node::Fold(Box::new(Fold { kind, over, test: test?, item: item? })))
    }
}

/// Which macro it was, its test, and what it collects where that is not the item itself.
fn macro_of(from: &ComprehensionExpr) -> Option<(FoldKind, Option<&IdedExpr>, Option<&IdedExpr>)> {
    let Expr::Call(step) = &from.loop_step.expr else { return None };
    match (step.func_name.as_str(), step.args.as_slice()) {
        (operators::LOGICAL_AND, [_, test]) => Some((FoldKind::All, Some(test), None)),
        (operators::LOGICAL_OR, [_, test]) => Some((FoldKind::Exists, Some(test), None)),
        (operators::ADD, [_, item]) => Some((FoldKind::Collect, None, Some(only(item)?))),
        (operators::CONDITIONAL, [test, kept, _]) => match &from.accu_init.expr {
            Expr::Literal(LiteralValue::Int(_)) => Some((FoldKind::ExistsOne, Some(test), None)),
            _ => {
                let Expr::Call(kept) = &kept.expr else { return None };
                let item = only(kept.args.get(1)?)?;
                let itself = matches!(&item.expr, Expr::Ident(name) if *name == from.iter_var);
                Some((FoldKind::Collect, Some(test), (!itself).then_some(item)))
            }
        },
        _ => None,
    }
}

/// The item of a list of one.
fn only(list: &IdedExpr) -> Option<&IdedExpr> {
    match &list.expr {
        Expr::List(list) if list.elements.len() == 1 => list.elements.first(),
        _ => None,
    }
}

fn literal_node(literal: &LiteralValue) -> Node {
    match literal {
        LiteralValue::Boolean(value) => Node::Bool(*value.inner()),
        LiteralValue::Bytes(value) => Node::Bytes(value.inner().to_vec()),
        LiteralValue::Double(value) => Node::Double(*value.inner()),
        LiteralValue::Int(value) => Node::Int(*value.inner()),
        LiteralValue::Null => Node::Null,
        LiteralValue::String(value) => Node::Text(value.inner().to_owned()),
        LiteralValue::UInt(value) => Node::Uint(*value.inner()),
    }
}
