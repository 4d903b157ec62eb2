//! The field specifications of each transformer: kustomize's defaults, and what `configurations` and `crds` add.
//!
//! `data/fieldspecs.txt` holds the defaults (made by `tests/control-plane/kustomize -tables`).

use crate::fieldspec::FieldSpec;
use crate::id::Gvk;
use std::rc::Rc;

/// One list of places per transformer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tables {
    pub(crate) name_prefix: Vec<FieldSpec>,
    pub(crate) name_suffix: Vec<FieldSpec>,
    pub(crate) namespace: Vec<FieldSpec>,
    pub(crate) common_labels: Vec<FieldSpec>,
    pub(crate) labels: Vec<FieldSpec>,
    pub(crate) template_labels: Vec<FieldSpec>,
    pub(crate) common_annotations: Vec<FieldSpec>,
    pub(crate) var_reference: Vec<FieldSpec>,
    pub(crate) images: Vec<FieldSpec>,
    pub(crate) replicas: Vec<FieldSpec>,
    pub(crate) name_reference: Vec<BackReference>,
}

/// A kind whose name others hold, and where they hold it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BackReference {
    pub(crate) target: Gvk,
    pub(crate) referrers: Vec<FieldSpec>,
}

/// Tables that are shared as long as nobody adds to them.
#[derive(Debug, Clone)]
pub(crate) struct Config(Rc<Tables>);

thread_local! {
    static DEFAULT: Rc<Tables> = Rc::new(Tables::built_in());
}

impl Config {
    /// No places at all: what an accumulation starts from.
    pub(crate) fn empty() -> Config {
        Config(Rc::new(Tables::default()))
    }

    /// kustomize's own places.
    pub(crate) fn built_in() -> Config {
        Config(DEFAULT.with(Rc::clone))
    }

    /// The tables.
    pub(crate) fn tables(&self) -> &Tables {
        &self.0
    }

    /// Adds another's places.
    pub(crate) fn merge(&mut self, other: &Config) -> Result<(), String> {
        if Rc::ptr_eq(&self.0, &other.0) {
            return Ok(());
        }
        if self.0.is_empty() {
            self.0 = Rc::clone(&other.0);
            return Ok(());
        }
        if !other.0.is_empty() {
            Rc::make_mut(&mut self.0).merge(&other.0)?;
        }
        Ok(())
    }

    /// Adds places read from a file.
    pub(crate) fn add(&mut self, tables: &Tables) -> Result<(), String> {
        Rc::make_mut(&mut self.0).merge(tables)
    }
}

impl Tables {
    fn built_in() -> Tables {
        let mut tables = Tables::default();
        for line in include_str!("data/fieldspecs.txt").lines().filter(|line| !line.starts_with('#')) {
            let columns: Vec<&str> = line.split('\t').collect();
            match columns.as_slice() {
                ["target", group, version, kind] => {
                    let target = gvk(group, version, kind);
                    tables.name_reference.push(BackReference { target, referrers: Vec::new() });
                }
                [table, group, version, kind, path, create] => {
                    let spec = FieldSpec {
                        gvk: gvk(group, version, kind),
                        path: (*path).to_owned(),
                        create: *create == "true",
                    };
                    if *table == "nameReference" {
                        if let Some(last) = tables.name_reference.last_mut() {
                            last.referrers.push(spec);
                        }
                    } else if let Some(table) = tables.named_mut(table) {
                        table.push(spec);
                    }
                }
                _ => {}
            }
        }
        tables.sort();
        tables
    }

    /// A table by the name it has in a configuration file; name references are apart.
    pub(crate) fn named_mut(&mut self, name: &str) -> Option<&mut Vec<FieldSpec>> {
        Some(match name {
            "namePrefix" => &mut self.name_prefix,
            "nameSuffix" => &mut self.name_suffix,
            "namespace" => &mut self.namespace,
            "commonLabels" => &mut self.common_labels,
            "labels" => &mut self.labels,
            "templateLabels" => &mut self.template_labels,
            "commonAnnotations" => &mut self.common_annotations,
            "varReference" => &mut self.var_reference,
            "images" => &mut self.images,
            "replicas" => &mut self.replicas,
            _ => return None,
        })
    }

    /// The names under which [`Tables::named_mut`] finds a table.
    pub(crate) const NAMES: [&str; 10] = [
        "namePrefix",
        "nameSuffix",
        "namespace",
        "commonLabels",
        "labels",
        "templateLabels",
        "commonAnnotations",
        "varReference",
        "images",
        "replicas",
    ];

    fn is_empty(&self) -> bool {
        let tables = [
            &self.name_prefix,
            &self.name_suffix,
            &self.namespace,
            &self.common_labels,
            &self.labels,
            &self.template_labels,
            &self.common_annotations,
            &self.var_reference,
            &self.images,
            &self.replicas,
        ];
        self.name_reference.is_empty() && tables.iter().all(|table| table.is_empty())
    }

    fn merge(&mut self, other: &Tables) -> Result<(), String> {
        let mut other = other.clone();
        for name in Tables::NAMES {
            if let (Some(mine), Some(theirs)) = (self.named_mut(name), other.named_mut(name)) {
                merge_all(mine, theirs)
                    .map_err(|path| format!("{name}: {path} is given twice, with create and without; give it once"))?;
            }
        }
        for theirs in other.name_reference {
            match self.name_reference.iter_mut().find(|mine| mine.target == theirs.target) {
                None => self.name_reference.push(theirs),
                Some(mine) => merge_all(&mut mine.referrers, &theirs.referrers).map_err(|path| {
                    format!("nameReference: {path} is given twice, with create and without; give it once")
                })?,
            }
        }
        self.sort();
        Ok(())
    }

    fn sort(&mut self) {
        for name in Tables::NAMES {
            if let Some(table) = self.named_mut(name) {
                table.sort_by_cached_key(|spec| crate::order::rank(&spec.gvk));
            }
        }
        self.name_reference.sort_by_cached_key(|reference| crate::order::rank(&reference.target));
    }
}

/// Adds each place that is not there yet; two that differ in `create` alone are an error, which names the path.
pub(crate) fn merge_all(mine: &mut Vec<FieldSpec>, theirs: &[FieldSpec]) -> Result<(), String> {
    for spec in theirs {
        match mine.iter().find(|have| have.path == spec.path && have.gvk.is_selected_by(&spec.gvk)) {
            None => mine.push(spec.clone()),
            Some(have) if have.create != spec.create => return Err(spec.path.clone()),
            Some(_) => {}
        }
    }
    Ok(())
}

fn gvk(group: &str, version: &str, kind: &str) -> Gvk {
    Gvk { group: group.to_owned(), version: version.to_owned(), kind: kind.to_owned() }
}
