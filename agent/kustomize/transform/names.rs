//! References to objects whose names changed.
//!
//! The configuration says which fields of which kinds hold the name of which other kind. A reference is followed when
//! exactly one object had the old name, has the wanted kind, and can be seen from the referrer (`filters/nameref` and
//! `accumulator/namereferencetransformer.go` in kustomize).

use super::of_object;
use crate::config::BackReference;
use crate::fieldspec::{self, FieldSpec, Make};
use crate::id::{Gvk, Id, text_at};
use crate::resource::Resource;
use crate::yaml::{Map, Node};
use std::collections::{HashMap, HashSet};

/// Rewrites every reference in every object.
pub(crate) fn apply(resources: &mut [Resource], references: &[BackReference]) -> Result<(), String> {
    let candidates: Vec<Candidate> = resources.iter().map(Candidate::of).collect();
    let mut by_name: HashMap<&str, Vec<usize>> = HashMap::new();
    for (at, candidate) in candidates.iter().enumerate() {
        let names: HashSet<&str> = candidate.previous.iter().map(|id| id.name.as_str()).collect();
        for name in names {
            by_name.entry(name).or_default().push(at);
        }
    }
    for (at, resource) in resources.iter_mut().enumerate() {
        let referrer = &candidates[at];
        let original = resource.original_id();
        let namespaces = bound_namespaces(&resource.node).map_err(|cause| of_object(resource, &cause))?;
        let role = role_reference(&resource.node);
        for reference in references {
            for spec in &reference.referrers {
                if !original.gvk.is_selected_by(&spec.gvk) {
                    continue;
                }
                let search = Search {
                    candidates: &candidates,
                    by_name: &by_name,
                    referrer,
                    namespaces: &namespaces,
                    target: &reference.target,
                    role: role.as_ref().filter(|_| spec.path.ends_with("roleRef/name")),
                };
                let anywhere = FieldSpec { gvk: Gvk::default(), ..spec.clone() };
                fieldspec::apply(&mut resource.node, &anywhere, Make::Nothing, &mut |node| search.update(node))
                    .map_err(|cause| of_object(resource, &cause))?;
            }
        }
    }
    Ok(())
}

/// What must be known of an object that others may refer to.
struct Candidate {
    id: Id,
    previous: Vec<Id>,
    prefixes: Vec<String>,
    suffixes: Vec<String>,
}

impl Candidate {
    fn of(resource: &Resource) -> Candidate {
        Candidate {
            id: resource.id(),
            previous: resource.previous_ids().collect(),
            prefixes: resource.memory.prefixes.clone(),
            suffixes: resource.memory.suffixes.clone(),
        }
    }

    fn had_kind(&self, gvk: &Gvk) -> bool {
        self.previous.iter().any(|id| id.gvk.is_selected_by(gvk))
    }

    fn original_namespace(&self) -> &str {
        self.previous.first().unwrap_or(&self.id).effective_namespace()
    }
}

struct Search<'s> {
    candidates: &'s [Candidate],
    by_name: &'s HashMap<&'s str, Vec<usize>>,
    referrer: &'s Candidate,
    namespaces: &'s HashSet<String>,
    target: &'s Gvk,
    role: Option<&'s Gvk>,
}

impl Search<'_> {
    fn update(&self, node: &mut Node) -> Result<(), String> {
        match node {
            _ if node.is_null() => Ok(()),
            Node::Scalar(_) => self.scalar(node),
            Node::Map(map) => self.mapping(map),
            Node::Seq(items) => items.iter_mut().try_for_each(|item| match item {
                _ if item.is_null() => Ok(()),
                Node::Scalar(_) => self.scalar(item),
                Node::Map(map) => self.mapping(map),
                Node::Seq(_) => Err("expected names or mappings, found a sequence in a sequence".to_owned()),
            }),
        }
    }

    fn scalar(&self, node: &mut Node) -> Result<(), String> {
        let old = node.as_text().unwrap_or_default().to_owned();
        let found = self.select(&old, |_| true, |a, b| a.id.name == b.id.name)?;
        match found {
            Some(candidate) if candidate.id.name != old => fieldspec::retext(node, &candidate.id.name),
            _ => Ok(()),
        }
    }

    fn mapping(&self, map: &mut Map) -> Result<(), String> {
        let Some(name) = map.get("name") else {
            return Err("the configured path leads to a mapping without a name".to_owned());
        };
        let old = name.as_text().unwrap_or_default().to_owned();
        let namespace = map.get("namespace").map(|node| node.as_text().unwrap_or_default().to_owned());
        let originally = namespace.as_ref().is_some_and(|namespace| {
            self.visible().any(|candidate| {
                !is_nowhere(candidate.original_namespace()) && candidate.original_namespace() == namespace
            })
        });
        let fits = |candidate: &Candidate| match &namespace {
            None => true,
            Some(namespace) if originally => candidate.original_namespace() == namespace,
            Some(namespace) => candidate.id.effective_namespace() == namespace,
        };
        let same = |a: &Candidate, b: &Candidate| a.id.name == b.id.name && a.id.namespace == b.id.namespace;
        let Some(found) = self.select(&old, fits, same)? else {
            return Ok(());
        };
        if found.id.name == old && found.id.namespace.is_empty() {
            return Ok(());
        }
        set(map, "name", &found.id.name);
        if !found.id.namespace.is_empty() {
            set(map, "namespace", &found.id.namespace);
        }
        Ok(())
    }

    /// The objects that the referrer can see at all.
    fn visible(&self) -> impl Iterator<Item = &Candidate> {
        self.candidates.iter().filter(|candidate| self.sees(candidate))
    }

    fn sees(&self, candidate: &Candidate) -> bool {
        self.referrer.id.cluster_scoped
            || candidate.id.cluster_scoped
            || candidate.id.effective_namespace() == self.referrer.id.effective_namespace()
            || self.namespaces.contains(&candidate.id.namespace)
    }

    fn select(
        &self,
        old: &str,
        fits: impl Fn(&Candidate) -> bool,
        same: impl Fn(&Candidate, &Candidate) -> bool,
    ) -> Result<Option<&Candidate>, String> {
        let named = self.by_name.get(old).into_iter().flatten().map(|at| &self.candidates[*at]);
        let mut found: Vec<&Candidate> = named
            .filter(|candidate| self.sees(candidate) && fits(candidate))
            .filter(|candidate| candidate.had_kind(self.target))
            .filter(|candidate| self.role.is_none_or(|role| candidate.had_kind(role)))
            .filter(|candidate| self.shares_namespace(candidate))
            .collect();
        if found.len() == 1 {
            return Ok(found.pop());
        }
        found.retain(|candidate| same_layers(candidate, self.referrer, true));
        if found.len() > 1 {
            found.retain(|candidate| same_layers(candidate, self.referrer, false));
        }
        match found.split_first() {
            None => Ok(None),
            Some((first, rest)) if rest.iter().all(|other| same(first, other)) => Ok(Some(first)),
            Some(_) => {
                let names: Vec<String> = found.iter().map(|candidate| candidate.id.to_string()).collect();
                Err(format!("{old:?} may mean each of {}; give them different names", names.join(", ")))
            }
        }
    }

    fn shares_namespace(&self, candidate: &Candidate) -> bool {
        self.referrer.id.cluster_scoped
            || candidate.id.cluster_scoped
            || candidate.id.gvk.kind == "ServiceAccount"
            || candidate.id.effective_namespace() == self.referrer.id.effective_namespace()
    }
}

fn is_nowhere(namespace: &str) -> bool {
    namespace.starts_with('_')
}

/// Whether two objects went through the same layers of prefixes and suffixes, as far as both did.
fn same_layers(a: &Candidate, b: &Candidate, empty_fits: bool) -> bool {
    let fits = |a: &[String], b: &[String]| match (a.is_empty(), b.is_empty()) {
        (true, true) => true,
        (false, false) => {
            let shorter = a.len().min(b.len());
            a[a.len() - shorter..] == b[b.len() - shorter..]
        }
        _ => empty_fits,
    };
    fits(&a.prefixes, &b.prefixes) && fits(&a.suffixes, &b.suffixes)
}

fn set(map: &mut Map, key: &str, text: &str) {
    match map.get_mut(key) {
        Some(Node::Scalar(scalar)) => scalar.retext(text),
        Some(other) => *other = Node::plain(text),
        None => map.push(key, Node::text(text)),
    }
}

/// Namespaces of the service accounts that a RoleBinding names: it may refer to objects there.
fn bound_namespaces(node: &Node) -> Result<HashSet<String>, String> {
    let mut namespaces = HashSet::new();
    if text_at(node, "kind") != "RoleBinding" {
        return Ok(namespaces);
    }
    for subject in node.get("subjects").and_then(Node::as_seq).unwrap_or_default() {
        let Some(namespace) = subject.get("namespace") else {
            continue;
        };
        if text_at(subject, "kind") != "ServiceAccount" {
            continue;
        }
        match namespace {
            Node::Scalar(scalar) if scalar.tag == crate::yaml::Tag::Str => {
                namespaces.insert(scalar.text.as_ref().to_owned());
            }
            _ => return Err("subjects: a service account's namespace must be text".to_owned()),
        }
    }
    Ok(namespaces)
}

/// The kind in `roleRef`.
fn role_reference(node: &Node) -> Option<Gvk> {
    let role = node.get("roleRef")?;
    let part = |key| role.get(key).and_then(Node::as_text).map(str::to_owned);
    Some(Gvk { group: part("apiGroup")?, version: String::new(), kind: part("kind")? })
}
