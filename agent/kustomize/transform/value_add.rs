//! The ValueAddTransformer: one value written into fields of many objects, whole or as a part of a path.

use super::namespace::{self, Subjects};
use super::of_object;
use crate::fieldspec;
use crate::resource::Resource;
use crate::select::{Matcher, Selector};
use crate::yaml::{Map, Node};

/// Where to write.
#[derive(Debug, Clone, Default)]
pub(crate) struct ValueTarget {
    pub(crate) selector: Option<Selector>,
    pub(crate) field_path: String,
    /// Above nought: the field is a file path, and the value goes in before this part.
    pub(crate) file_path_position: i64,
}

/// Writes `value` at each target.
pub(super) fn apply(resources: &mut [Resource], value: &str, targets: &[ValueTarget]) -> Result<(), String> {
    for target in targets {
        let matcher = target.selector.as_ref().map(Matcher::new).transpose()?;
        for resource in resources.iter_mut() {
            if matcher.as_ref().is_some_and(|matcher| !matcher.selects(resource)) {
                continue;
            }
            write(resource, value, target).map_err(|cause| of_object(resource, &cause))?;
        }
    }
    Ok(())
}

fn write(resource: &mut Resource, value: &str, target: &ValueTarget) -> Result<(), String> {
    if target.field_path == "metadata/namespace" {
        return namespace::one(resource, value, &[], false, Subjects::DefaultOnly);
    }
    let mut path: Vec<String> = Vec::new();
    for part in target.field_path.split('/') {
        match path.last_mut() {
            Some(last) if last.ends_with('\\') => {
                last.pop();
                last.push('/');
                last.push_str(part);
            }
            _ => path.push(part.to_owned()),
        }
    }
    path.retain(|part| !part.trim().is_empty());
    let mut here = &mut resource.node;
    for (at, part) in path.iter().enumerate() {
        let word = here.kind_word();
        let Node::Map(map) = here else {
            return Err(format!("{}: {part}: expected a mapping, found {word}", target.field_path));
        };
        if !map.contains(part) {
            let last = at + 1 == path.len();
            map.push(part.as_str(), if last { Node::plain("") } else { Node::Map(Map::new()) });
        }
        here = map.get_mut(part).ok_or_else(|| format!("{part} cannot be made"))?;
    }
    let old = here.as_text().unwrap_or_default().to_owned();
    let new = if target.file_path_position > 0 {
        insert_part(&old, usize::try_from(target.file_path_position - 1).unwrap_or(usize::MAX), value)
    } else {
        value.to_owned()
    };
    fieldspec::retext(here, &new)
}

/// Puts a part into a path (`filesys.InsertPathPart` in kyaml); a leading slash stays in front.
fn insert_part(path: &str, position: usize, part: &str) -> String {
    let (root, rest) = path.strip_prefix('/').map_or(("", path), |rest| ("/", rest));
    let mut parts: Vec<&str> = rest.split('/').filter(|part| !part.is_empty()).collect();
    parts.insert(position.min(parts.len()), part);
    format!("{root}{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::insert_part;

    #[test]
    fn the_examples_of_kustomize() {
        for (path, position, result) in [
            ("", 0, "PEACH"),
            ("/", 0, "/PEACH"),
            ("pie", 0, "PEACH/pie"),
            ("/pie", 0, "/PEACH/pie"),
            ("raw", 1, "raw/PEACH"),
            ("/raw", 9, "/raw/PEACH"),
            ("a/nice/warm/pie", 3, "a/nice/warm/PEACH/pie"),
        ] {
            assert_eq!(insert_part(path, position, "PEACH"), result);
        }
    }
}
