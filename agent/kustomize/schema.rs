//! Which lists a strategic merge patch merges, and by which keys.
//!
//! kustomize takes this from the Kubernetes OpenAPI schema. `data/mergekeys.txt` holds the part of that schema which
//! leads to such a list (made by `tests/control-plane/kustomize -tables`); a kustomization may bring a schema of its
//! own in the `openapi` field, which then replaces the built-in one (`openapi.SetSchema` in kyaml).

use crate::yaml::Node;
use std::collections::HashMap;
use std::sync::OnceLock;

/// A schema: types by number, and the kinds that have one.
#[derive(Debug, Default)]
pub(crate) struct Schema {
    types: Vec<HashMap<String, Shape>>,
    kinds: HashMap<(String, String), usize>,
}

/// What the schema says about a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Shape {
    /// An object of a type.
    Object(usize),
    /// A list; its elements may have a type.
    List { strategy: String, keys: Vec<String>, element: Option<usize> },
    /// A map whose values are all of one type.
    Map(usize),
    /// Known, and nothing below it merges.
    Leaf,
}

impl Shape {
    /// The same shape where all type numbers are higher by `offset`.
    fn moved(&self, offset: usize) -> Shape {
        match self {
            Shape::Object(of) => Shape::Object(of + offset),
            Shape::Map(of) => Shape::Map(of + offset),
            Shape::List { strategy, keys, element } => {
                Shape::List { strategy: strategy.clone(), keys: keys.clone(), element: element.map(|of| of + offset) }
            }
            Shape::Leaf => Shape::Leaf,
        }
    }

    /// Whether the elements of this list are merged rather than replaced.
    pub(crate) fn is_merged_list(&self) -> bool {
        matches!(self, Shape::List { strategy, .. } if strategy.split(',').any(|part| part == "merge"))
    }
}

impl Schema {
    /// The schema that comes with kustomize.
    pub(crate) fn built_in() -> &'static Schema {
        static BUILT_IN: OnceLock<Schema> = OnceLock::new();
        BUILT_IN.get_or_init(|| Schema::from_table(include_str!("data/mergekeys.txt")))
    }

    fn from_table(table: &str) -> Schema {
        let mut schema = Schema::default();
        for line in table.lines().filter(|line| !line.starts_with('#')) {
            let words: Vec<&str> = line.split(' ').collect();
            let number = |word: &str| word.parse().ok();
            match words.as_slice() {
                ["type", _, _] => schema.types.push(HashMap::new()),
                ["kind", version, kind, of] => {
                    if let Some(of) = number(of) {
                        schema.kinds.insert(((*version).to_owned(), (*kind).to_owned()), of);
                    }
                }
                [field, how, rest @ ..] => {
                    let shape = match (*how, rest) {
                        ("object", [of]) => number(of).map(Shape::Object),
                        ("map", [of]) => number(of).map(Shape::Map),
                        ("list", [strategy, keys, of @ ..]) => Some(Shape::List {
                            strategy: strategy.replace('-', ""),
                            keys: keys.split(',').filter(|key| *key != "-").map(str::to_owned).collect(),
                            element: of.first().and_then(|of| number(of)),
                        }),
                        _ => None,
                    };
                    if let (Some(shape), Some(fields)) = (shape, schema.types.last_mut()) {
                        fields.insert((*field).to_owned(), shape);
                    }
                }
                _ => {}
            }
        }
        schema
    }

    /// Reads an OpenAPI (Swagger 2) document, as the `openapi.path` field of a kustomization names one.
    pub(crate) fn from_open_api(document: &Node) -> Schema {
        let mut schema = Schema::default();
        let Some(definitions) = document.get("definitions").and_then(Node::as_map) else {
            return schema;
        };
        let numbers: HashMap<&str, usize> = definitions.iter().enumerate().map(|(at, (name, _))| (name, at)).collect();
        for (at, (_, definition)) in definitions.iter().enumerate() {
            let mut fields = HashMap::new();
            for (name, property) in
                definition.get("properties").and_then(Node::as_map).into_iter().flat_map(|map| map.iter())
            {
                fields.insert(name.to_owned(), schema.describe(property, &numbers));
            }
            schema.types.resize_with(schema.types.len().max(at + 1), HashMap::new);
            schema.types[at] = fields;
            for gvk in definition.get("x-kubernetes-group-version-kind").and_then(Node::as_seq).unwrap_or_default() {
                let part = |key| crate::id::text_at(gvk, key);
                let api_version = match part("group") {
                    "" => part("version").to_owned(),
                    group => format!("{group}/{}", part("version")),
                };
                schema.kinds.insert((api_version, part("kind").to_owned()), at);
            }
        }
        schema
    }

    fn describe(&mut self, property: &Node, numbers: &HashMap<&str, usize>) -> Shape {
        let referred = |node: &Node| {
            let name = crate::id::text_at(node, "$ref").strip_prefix("#/definitions/")?;
            numbers.get(name).copied()
        };
        if let Some(of) = referred(property) {
            return Shape::Object(of);
        }
        if crate::id::text_at(property, "type") == "array" {
            let text = |key| crate::id::text_at(property, key);
            let listed = property.get("x-kubernetes-list-map-keys").and_then(Node::as_seq);
            let keys = match (text("x-kubernetes-patch-strategy"), listed) {
                ("", _) => Vec::new(),
                (_, Some(keys)) => keys.iter().filter_map(Node::as_text).map(str::to_owned).collect(),
                _ => Some(text("x-kubernetes-patch-merge-key"))
                    .filter(|key| !key.is_empty())
                    .map(str::to_owned)
                    .into_iter()
                    .collect(),
            };
            let element =
                property.get("items").and_then(|items| referred(items).or_else(|| self.nested(items, numbers)));
            return Shape::List { strategy: text("x-kubernetes-patch-strategy").to_owned(), keys, element };
        }
        if let Some(values) = property.get("additionalProperties") {
            return referred(values).or_else(|| self.nested(values, numbers)).map_or(Shape::Leaf, Shape::Map);
        }
        self.nested(property, numbers).map_or(Shape::Leaf, Shape::Object)
    }

    /// A type written in place gets a number above all named ones.
    fn nested(&mut self, node: &Node, numbers: &HashMap<&str, usize>) -> Option<usize> {
        let properties = node.get("properties")?.as_map()?;
        let fields =
            properties.iter().map(|(name, property)| (name.to_owned(), self.describe(property, numbers))).collect();
        self.types.resize_with(self.types.len().max(numbers.len()), HashMap::new);
        self.types.push(fields);
        Some(self.types.len() - 1)
    }

    /// This schema's kinds, and the built-in ones besides.
    pub(crate) fn over_built_in(mut self) -> Schema {
        let built_in = Schema::built_in();
        let offset = self.types.len();
        for fields in &built_in.types {
            self.types.push(fields.iter().map(|(name, shape)| (name.clone(), shape.moved(offset))).collect());
        }
        for (kind, at) in &built_in.kinds {
            self.kinds.entry(kind.clone()).or_insert(at + offset);
        }
        self
    }

    /// The shape of an object by its kind.
    pub(crate) fn of_kind(&self, api_version: &str, kind: &str) -> Option<Shape> {
        self.kinds.get(&(api_version.to_owned(), kind.to_owned())).copied().map(Shape::Object)
    }

    /// The shape of a member.
    pub(crate) fn field(&self, of: &Shape, name: &str) -> Option<Shape> {
        match of {
            Shape::Object(number) => {
                Some(self.types.get(*number).and_then(|fields| fields.get(name)).cloned().unwrap_or(Shape::Leaf))
            }
            Shape::Map(number) => Some(Shape::Object(*number)),
            Shape::List { .. } | Shape::Leaf => None,
        }
    }

    /// The shape of a list's elements.
    pub(crate) fn element(&self, of: &Shape) -> Option<Shape> {
        match of {
            Shape::List { element: Some(number), .. } => Some(Shape::Object(*number)),
            Shape::List { .. } => Some(Shape::Leaf),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_merge_by_two_keys() {
        let schema = Schema::built_in();
        let mut shape = schema.of_kind("apps/v1", "Deployment").unwrap();
        for field in ["spec", "template", "spec", "containers"] {
            shape = schema.field(&shape, field).unwrap();
        }
        assert!(shape.is_merged_list());
        let container = schema.element(&shape).unwrap();
        let ports = schema.field(&container, "ports").unwrap();
        assert!(matches!(ports, Shape::List { keys, .. } if keys == ["containerPort", "protocol"]));
        assert!(!schema.field(&container, "args").unwrap().is_merged_list());
    }
}
