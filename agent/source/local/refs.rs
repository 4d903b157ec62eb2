//! References: loose files over the packed list.
//!
//! Source: gitrepository-layout(5), git-pack-refs(1).

use std::collections::BTreeMap;

use wickie_model::Oid;

use super::LocalError;
use super::layout::Layout;
use super::objects::Objects;
use crate::config::git::RefName;
use crate::source::object::Tag;
use crate::source::protocol::Ref;
use crate::store::ObjectKind;

/// A longer list of packed references is refused.
const LARGEST_LIST: u64 = 16 << 20;

/// A longer loose reference is none.
const LARGEST_REF: u64 = 2 << 10;

/// References that point to references, one after the other; git allows five.
const DEEPEST: usize = 5;

/// Folders in folders of references.
const DEEPEST_FOLDER: usize = 32;

type Found = BTreeMap<String, (Oid, Option<Oid>)>;

/// What a reference holds.
enum Held {
    Id(Oid),
    Another(String),
}

/// The references that begin with one of `prefixes`, at most `most`; what tags point at as far as the list says it.
pub(super) fn list(layout: &Layout, prefixes: &[String], most: u32) -> Result<Vec<Ref>, LocalError> {
    let wanted = |name: &str| prefixes.iter().any(|prefix| name.starts_with(prefix.as_str()));
    let mut found = packed(layout, &wanted, most)?;
    for name in prefixes.iter().map(|prefix| folder(prefix)).collect::<std::collections::BTreeSet<_>>() {
        let mut loose = Vec::new();
        walk(layout, name, 0, most, &mut loose)?;
        for name in loose.into_iter().filter(|name| wanted(name)) {
            if let Some(oid) = resolve(layout, &name, most)? {
                found.insert(name, (oid, None));
            }
        }
    }
    if found.len() > most as usize {
        return Err(LocalError::TooMuch { what: "references", limit: most.into() });
    }
    Ok(found.into_iter().map(|(name, (oid, peeled))| Ref { name, oid, peeled }).collect())
}

/// The folder that holds everything beneath a prefix: `refs/heads` of `refs/heads/ma`.
fn folder(prefix: &str) -> &str {
    prefix.rsplit_once('/').map_or("refs", |(folder, _)| folder)
}

fn walk(layout: &Layout, folder: &str, depth: usize, most: u32, names: &mut Vec<String>) -> Result<(), LocalError> {
    if depth > DEEPEST_FOLDER {
        return Err(LocalError::TooMuch { what: "folders of references in each other", limit: DEEPEST_FOLDER as u64 });
    }
    for (name, is_folder) in layout.names(folder, most)? {
        let path = format!("{folder}/{name}");
        if is_folder {
            walk(layout, &path, depth + 1, most, names)?;
        } else if RefName::new(&path).is_ok() {
            names.push(path);
        }
        if names.len() > most as usize {
            return Err(LocalError::TooMuch { what: "references", limit: most.into() });
        }
    }
    Ok(())
}

/// Follows a reference to an id; `None` if it leads nowhere.
fn resolve(layout: &Layout, name: &str, most: u32) -> Result<Option<Oid>, LocalError> {
    let mut name = name.to_owned();
    for _ in 0..=DEEPEST {
        match loose(layout, &name)? {
            Some(Held::Id(oid)) => return Ok(Some(oid)),
            Some(Held::Another(target)) => name = target,
            None => {
                let listed = packed(layout, &|listed: &str| listed == name, most)?;
                return Ok(listed.get(&name).map(|(oid, _)| *oid));
            }
        }
    }
    Ok(None)
}

fn loose(layout: &Layout, name: &str) -> Result<Option<Held>, LocalError> {
    let Some(file) = layout.file(name)? else { return Ok(None) };
    let bytes = file.whole(LARGEST_REF)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| file.malformed("it is not text"))?.trim_end();
    if let Some(target) = text.strip_prefix("ref:") {
        let target = RefName::new(target.trim()).ok().filter(|target| target.as_str().starts_with("refs/"));
        let target = target.ok_or_else(|| file.malformed("it points to what is no reference"))?;
        return Ok(Some(Held::Another(target.to_string())));
    }
    // What it holds is not shown: it might be any file of the medium.
    text.parse().map(|oid| Some(Held::Id(oid))).map_err(|_| file.malformed("it holds no object id"))
}

/// The packed list, of the names that are wanted.
fn packed(layout: &Layout, wanted: &dyn Fn(&str) -> bool, most: u32) -> Result<Found, LocalError> {
    let mut found = Found::new();
    let Some(file) = layout.file("packed-refs")? else { return Ok(found) };
    let bytes = file.whole(LARGEST_LIST)?;
    let malformed = || file.malformed("a line of it is no reference");
    let mut last: Option<String> = None;
    for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty() && !line.starts_with(b"#")) {
        let line = std::str::from_utf8(line).map_err(|_| malformed())?.trim_end_matches('\r');
        if let Some(peeled) = line.strip_prefix('^') {
            let peeled = peeled.parse().map_err(|_| malformed())?;
            if let Some(entry) = last.as_ref().and_then(|last| found.get_mut(last)) {
                entry.1 = Some(peeled);
            }
            continue;
        }
        let (oid, name) = line.split_once(' ').ok_or_else(malformed)?;
        let oid = oid.parse().map_err(|_| malformed())?;
        last = None;
        if wanted(name) && RefName::new(name).is_ok() {
            if found.len() >= most as usize {
                return Err(LocalError::TooMuch { what: "references", limit: most.into() });
            }
            found.insert(name.to_owned(), (oid, None));
            last = Some(name.to_owned());
        }
    }
    Ok(found)
}

/// Says of each tag what it points at in the end, where the list did not.
pub(super) fn peeled(mut refs: Vec<Ref>, objects: &mut Objects) -> Result<Vec<Ref>, LocalError> {
    for found in refs.iter_mut().filter(|found| found.peeled.is_none() && found.name.starts_with("refs/tags/")) {
        let mut oid = found.oid;
        for _ in 0..=DEEPEST {
            match objects.read(oid)? {
                Some(object) if object.kind == ObjectKind::Tag => {
                    // A tag of something else than a commit stays as it is: nobody follows it.
                    let Ok(tag) = Tag::parse(oid, &object.bytes) else { break };
                    oid = tag.target;
                    found.peeled = Some(oid);
                }
                _ => break,
            }
        }
    }
    Ok(refs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loose_reference_wins_and_links_are_followed_within_bounds() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let (one, two) = ("1".repeat(40), "2".repeat(40));
        write(
            "packed-refs",
            &format!(
                "# pack-refs with: peeled fully-peeled sorted \n{one} refs/heads/a/b\n{one} refs/heads/main\n{one} refs/tags/v1\n^{two}\n"
            ),
        );
        write("refs/heads/main", &format!("{two}\n"));
        write("refs/heads/alias", "ref: refs/heads/a/b\n");
        write("refs/heads/loop", "ref: refs/heads/loop\n");
        write("refs/heads/x.lock", "");
        let layout = Layout { path: dir.path().to_owned() };
        let list = |prefix: &str| {
            let found = list(&layout, &[prefix.to_owned()], 100).unwrap();
            found.into_iter().map(|found| (found.name, found.oid.to_string())).collect::<Vec<_>>()
        };
        assert_eq!(list("refs/heads/main"), [("refs/heads/main".to_owned(), two.clone())]);
        let all = list("refs/heads/");
        assert_eq!(all.iter().map(|(name, _)| &name[11..]).collect::<Vec<_>>(), ["a/b", "alias", "main"]);
        assert_eq!(all[1].1, one);
        assert_eq!(list("refs/tags/"), [("refs/tags/v1".to_owned(), one)]);
        assert_eq!(list("refs/none/"), []);
        write("refs/heads/secret", "root:x:0:0\n");
        let error = super::list(&layout, &["refs/heads/secret".to_owned()], 100).unwrap_err();
        assert!(!error.to_string().contains("root"), "{error}");
    }
}
