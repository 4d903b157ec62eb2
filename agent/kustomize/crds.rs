//! Files that `crds` names: OpenAPI definitions of custom kinds, whose vendor extensions say which fields hold labels,
//! annotations and names of other objects (`accumulator/loadconfigfromcrds.go` in kustomize).

use crate::config::{BackReference, Tables, merge_all};
use crate::error::Error;
use crate::fieldspec::FieldSpec;
use crate::id::Gvk;
use crate::yaml::{self, Dialect, Map, Node};

/// The places that a file of definitions names.
pub(crate) fn read(file: &str, bytes: &[u8]) -> Result<Tables, Error> {
    let mut tables = Tables::default();
    let trees = yaml::trees(file, bytes, Dialect::Kubernetes)?;
    let Some(definitions) = trees.first().and_then(|tree| tree.root.as_map()) else {
        return Ok(tables);
    };
    for (name, definition) in definitions.iter() {
        let Some(properties) = properties(definition) else {
            continue;
        };
        if !["kind", "apiVersion", "metadata"].iter().all(|key| properties.contains(key)) {
            continue;
        }
        let kind = name.rsplit('.').next().unwrap_or(name);
        let gvk = Gvk { kind: kind.to_owned(), ..Gvk::default() };
        let mut walk = Walk { definitions, gvk: &gvk, tables: &mut tables, depth: 0 };
        walk.definition(name, &[]);
    }
    Ok(tables)
}

fn properties(definition: &Node) -> Option<&Map> {
    definition.get("Schema").or_else(|| definition.get("schema"))?.get("properties")?.as_map()
}

struct Walk<'w> {
    definitions: &'w Map,
    gvk: &'w Gvk,
    tables: &'w mut Tables,
    depth: usize,
}

/// Definitions may refer to themselves; no real path is this long.
const DEEPEST: usize = 32;

impl Walk<'_> {
    fn definition(&mut self, name: &str, path: &[String]) {
        let Some(properties) = self.definitions.get(name).and_then(properties) else {
            return;
        };
        if self.depth >= DEEPEST {
            return;
        }
        for (name, property) in properties.iter() {
            let mut path = path.to_vec();
            path.push(name.to_owned());
            self.property(property, &path);
            if let Some(reference) = property.get("$ref").and_then(Node::as_text) {
                self.depth += 1;
                self.definition(reference, &path);
                self.depth -= 1;
            }
        }
    }

    fn property(&mut self, property: &Node, path: &[String]) {
        let text = |key: &str| property.get(key).and_then(Node::as_text);
        let spec = |path: &[String]| FieldSpec { gvk: self.gvk.clone(), path: path.join("/"), create: false };
        // A clash in `create` cannot arise: nothing here creates.
        if text("x-kubernetes-annotation").is_some() {
            let _ = merge_all(&mut self.tables.common_annotations, &[spec(path)]);
        }
        if text("x-kubernetes-label-selector").is_some() {
            let _ = merge_all(&mut self.tables.common_labels, &[spec(path)]);
        }
        if text("x-kubernetes-identity").is_some() {
            let _ = merge_all(&mut self.tables.name_prefix, &[spec(path)]);
        }
        let (Some(version), Some(kind)) =
            (text("x-kubernetes-object-ref-api-version"), text("x-kubernetes-object-ref-kind"))
        else {
            return;
        };
        let mut path = path.to_vec();
        path.push(text("x-kubernetes-object-ref-name-key").unwrap_or("name").to_owned());
        let target = Gvk { group: String::new(), version: version.to_owned(), kind: kind.to_owned() };
        let referrers = vec![spec(&path)];
        match self.tables.name_reference.iter_mut().find(|known| known.target == target) {
            None => self.tables.name_reference.push(BackReference { target, referrers }),
            Some(known) => {
                let _ = merge_all(&mut known.referrers, &referrers);
            }
        }
    }
}
