//! Submodules: what `.gitmodules` says, what of it is believed, and where a submodule is.
//!
//! The commit of a submodule is named by the tree of its superproject: whoever signed that has signed this, and a
//! server can put nothing in its place. Where a GitRepository is declared for the same URL beside the superproject's, its
//! own `verify` counts for the commit too, and its credentials are the ones that are shown.
//!
//! `.gitmodules` comes from outside and names paths and hosts. What git itself refuses in it (fsck.c: gitmodulesName,
//! gitmodulesPath, gitmodulesUrl, gitmodulesUpdate) is refused here, and besides: another scheme than https, http and
//! ssh, two submodules of one name or path. As in Flux (go-git): a gitlink that `.gitmodules` does not list is left empty,
//! submodules of submodules are followed ten deep, and with `sparseCheckout` none is checked out. Unlike there,
//! credentials, client certificate and `ca.crt` of the superproject are for its own host alone; its proxy is for all.

use wickie_model::Oid;

use super::error::Fault;
use super::object::ObjectError;
use super::repository::Repository;
use super::scope::{self, Scope};
use super::tree::{FileMode, Target};
use crate::config::git::GitUrl;

/// The file that lists the submodules of a project.
pub(crate) const FILE: &str = ".gitmodules";

/// How deep projects may lie within each other; go-git's own bound.
pub(crate) const DEEPEST: usize = 10;

/// How many submodules a project may have.
const MOST: usize = 100;

/// A longer file is no list of submodules.
const LONGEST: usize = 1 << 20;

/// A submodule as `.gitmodules` lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Module {
    pub(crate) name: String,
    /// From the root of its project.
    pub(crate) path: String,
    /// As written: it may be relative to that of the project.
    pub(crate) url: String,
}

/// A submodule that is in scope.
#[derive(Clone, Debug)]
pub(crate) struct Submodule {
    pub(crate) module: Module,
    pub(crate) commit: Oid,
    pub(crate) scope: Scope,
}

impl Repository {
    /// What the `.gitmodules` of a project lists; nothing where it has none.
    pub(crate) async fn modules(&self, root: Oid) -> Result<Vec<Module>, Fault> {
        let entries = self.tree(root).await?.ok_or(ObjectError::Missing { kind: "tree", oid: root })?;
        let Some(file) = entries.into_iter().find(|entry| entry.name == FILE) else { return Ok(Vec::new()) };
        if file.target != Target::File(FileMode::Regular) {
            return Err(refused(file.oid, "it is not a plain file".to_owned()).into());
        }
        let bytes = self.blob(file.oid).await?.ok_or(ObjectError::Missing { kind: "file", oid: file.oid })?;
        Ok(parse(&bytes).map_err(|detail| refused(file.oid, detail))?)
    }

    /// The submodules of a project that are in scope. Folders that are not here are passed over: those in scope are.
    pub(crate) async fn submodules(&self, root: Oid, scope: &Scope) -> Result<Vec<Submodule>, Fault> {
        let mut found = Vec::new();
        if !scope.has_modules() {
            return Ok(found);
        }
        for module in self.modules(root).await? {
            if let Some((commit, scope)) = self.gitlink(root, scope, &module.path).await? {
                found.push(Submodule { module, commit, scope });
            }
        }
        Ok(found)
    }

    async fn gitlink(&self, root: Oid, scope: &Scope, path: &str) -> Result<Option<(Oid, Scope)>, Fault> {
        let (mut tree, mut scope) = (root, scope.clone());
        let mut names = scope::names(path).peekable();
        while let Some(name) = names.next() {
            let Some(within) = scope.enter(name) else { return Ok(None) };
            let Some(entries) = self.tree(tree).await? else { return Ok(None) };
            let Some(entry) = entries.into_iter().find(|entry| entry.name == name) else { return Ok(None) };
            match entry.target {
                Target::Directory => (tree, scope) = (entry.oid, within),
                Target::Submodule if names.peek().is_none() => return Ok(Some((entry.oid, within.with_modules()))),
                Target::Submodule | Target::File(_) => return Ok(None),
            }
        }
        Ok(None)
    }
}

fn refused(oid: Oid, detail: String) -> ObjectError {
    ObjectError::Malformed { kind: ".gitmodules file", oid, detail }
}

/// Reads a `.gitmodules` file (gitmodules(5), git-config(1)).
fn parse(bytes: &[u8]) -> Result<Vec<Module>, String> {
    if bytes.len() > LONGEST {
        return Err(format!("it is longer than {LONGEST} bytes"));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n");
    let mut modules: Vec<Module> = Vec::new();
    let mut within = false;
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let at = |what: &str| format!("line {}: {what}", number + 1);
        let mut line = line.trim().to_owned();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if line.starts_with('[') {
            within = false;
            if let Some(name) = section(&line).map_err(|what| at(&what))? {
                within = true;
                begin(&mut modules, name).map_err(|what| at(&what))?;
            }
            continue;
        }
        while line.ends_with('\\') && !line.ends_with("\\\\") {
            line.pop();
            line.push_str(lines.next().ok_or_else(|| at("it ends within a value"))?.1);
        }
        let (key, value) = line.split_once('=').unwrap_or((&line, "true"));
        let value = unquoted(value).map_err(|what| at(&what))?;
        if let Some(module) = modules.last_mut().filter(|_| within) {
            set(module, &key.trim().to_ascii_lowercase(), value).map_err(|what| at(&what))?;
        }
    }
    modules.iter().try_for_each(|module| check(module, &modules))?;
    Ok(modules)
}

/// The name of a `[submodule "name"]`; nothing for another section.
fn section(line: &str) -> Result<Option<String>, String> {
    let broken = || format!("{line:?} is no section");
    let inner = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')).ok_or_else(broken)?;
    let (kind, name) = inner.split_once(char::is_whitespace).unwrap_or((inner, ""));
    if !kind.eq_ignore_ascii_case("submodule") {
        return Ok(None);
    }
    let quoted = name.trim().strip_prefix('"').and_then(|name| name.strip_suffix('"')).ok_or_else(broken)?;
    let mut name = String::new();
    let mut chars = quoted.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => name.push(chars.next().ok_or_else(broken)?),
            '"' => return Err(broken()),
            c => name.push(c),
        }
    }
    Ok(Some(name))
}

fn begin(modules: &mut Vec<Module>, name: String) -> Result<(), String> {
    // A name becomes a folder in git's own folder.
    if name.is_empty() || scope_free(&name) || name.starts_with('-') {
        return Err(format!("{name:?} is no name for a submodule"));
    }
    if modules.iter().any(|module| module.name == name) {
        return Err(format!("the submodule {name:?} is there twice"));
    }
    if modules.len() >= MOST {
        return Err(format!("there are more than {MOST} submodules"));
    }
    modules.push(Module { name, path: String::new(), url: String::new() });
    Ok(())
}

/// Whether a path may lead out of the folder it is in.
fn scope_free(path: &str) -> bool {
    path.starts_with('/') || path.split(['/', '\\']).any(|part| part == "..")
}

fn set(module: &mut Module, key: &str, value: String) -> Result<(), String> {
    let field = match key {
        "path" => &mut module.path,
        "url" => &mut module.url,
        "update" if value.trim_start().starts_with('!') => {
            return Err("update names a program to run, which is never run".to_owned());
        }
        _ => return Ok(()),
    };
    match field.is_empty() {
        true => *field = value,
        false => return Err(format!("{key} is given twice")),
    }
    Ok(())
}

/// The value of a key: quotes and escapes taken away, a comment too.
fn unquoted(value: &str) -> Result<String, String> {
    let (mut read, mut quoted, mut kept) = (String::new(), false, 0);
    let mut chars = value.trim().chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => quoted = !quoted,
            '#' | ';' if !quoted => break,
            '\\' => match chars.next() {
                Some('n') => read.push('\n'),
                Some('t') => read.push('\t'),
                Some(c @ ('"' | '\\')) => read.push(c),
                _ => return Err("a backslash stands before what it cannot".to_owned()),
            },
            c => read.push(c),
        }
        if quoted || !c.is_whitespace() {
            kept = read.len();
        }
    }
    if quoted {
        return Err("a quote is not closed".to_owned());
    }
    read.truncate(kept);
    Ok(read)
}

fn check(module: &Module, all: &[Module]) -> Result<(), String> {
    let Module { name, path, url } = module;
    let wrong = |what: &str| Err(format!("submodule {name:?}: {what}"));
    let hidden = |part: &str| part.is_empty() || part == "." || part.eq_ignore_ascii_case(".git");
    if path.is_empty() || path.starts_with('-') || scope_free(path) || path.split('/').any(hidden) {
        return wrong(&format!("{path:?} is no path within the repository"));
    }
    if all.iter().filter(|other| other.path == *path).count() > 1 {
        return wrong(&format!("the path {path:?} is another one's too"));
    }
    if url.is_empty() || url.starts_with('-') || url.chars().any(char::is_control) {
        return wrong(&format!("{url:?} is no URL"));
    }
    Ok(())
}

/// Where a submodule is: as its URL is written, or from that of its project. What lies on this node's own disk is not for
/// a repository to name.
pub(crate) fn locate(project: &GitUrl, url: &str) -> Result<GitUrl, String> {
    let relative = url.starts_with("./") || url.starts_with("../") || url == "." || url == "..";
    let text = match relative {
        true => beside(project, url)?,
        false => scp(url).unwrap_or_else(|| url.to_owned()),
    };
    let url = GitUrl::parse(&text).map_err(|error| error.to_string())?;
    match url.as_url().scheme() {
        "https" | "http" | "ssh" if !url.host().starts_with('-') => Ok(url),
        "https" | "http" | "ssh" => Err(format!("{:?} is no host", url.host())),
        scheme => Err(format!("a submodule is fetched over https, http or ssh, and not over {scheme}")),
    }
}

fn beside(project: &GitUrl, url: &str) -> Result<String, String> {
    let mut at = project.as_url().clone();
    let mut parts: Vec<String> = at.path().split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect();
    for part in url.split('/').filter(|part| !part.is_empty() && *part != ".") {
        match part {
            ".." => drop(parts.pop().ok_or("it leads out of the host of its project")?),
            part => parts.push(part.to_owned()),
        }
    }
    at.set_path(&parts.join("/"));
    Ok(at.to_string())
}

/// `user@host:path`, as ssh has it.
fn scp(url: &str) -> Option<String> {
    let (host, path) = url.split_once(':')?;
    let is_host = !host.is_empty() && !host.contains('/') && !path.starts_with('/') && host.contains('@');
    is_host.then(|| format!("ssh://{host}/{path}"))
}

/// Whether two URLs name one repository.
pub(crate) fn same_repository(one: &GitUrl, other: &GitUrl) -> bool {
    let bare = |url: &GitUrl| {
        let text = url.to_string();
        let text = text.trim_end_matches('/');
        text.strip_suffix(".git").unwrap_or(text).to_owned()
    };
    bare(one) == bare(other)
}

/// Whether credentials for one may be shown to the other.
pub(crate) fn same_host(one: &GitUrl, other: &GitUrl) -> bool {
    let of = |url: &GitUrl| {
        let url = url.as_url();
        (url.scheme().to_owned(), url.host_str().map(str::to_owned), url.port_or_known_default())
    };
    of(one) == of(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_as_git_reads_it() {
        let text = "# ours\n[submodule \"lib\"]\n\tpath = vendor/lib ; here\n\turl = \"https://git.example/lib#1\"\n\tbranch = main\n\
                    [core]\n\tpath = /etc\n[Submodule \"a \\\"b\\\"\"]\n  URL=../b.git\n  path = b\\\n/c\n";
        let modules = parse(text.as_bytes()).unwrap();
        let read: Vec<_> =
            modules.iter().map(|module| (module.name.as_str(), module.path.as_str(), module.url.as_str())).collect();
        assert_eq!(read, [("lib", "vendor/lib", "https://git.example/lib#1"), ("a \"b\"", "b/c", "../b.git")]);
        assert_eq!(parse(b"").unwrap(), []);
    }

    #[test]
    fn traps_are_refused_by_name() {
        let module =
            |name: &str, path: &str, url: &str| format!("[submodule \"{name}\"]\npath = {path}\nurl = {url}\n");
        let fine = module("a", "a", "../a");
        for (text, said) in [
            (module("../../.git/hooks", "a", "../a"), "no name"),
            (module("-c", "a", "../a"), "no name"),
            (module("a", "../a", "../a"), "no path"),
            (module("a", "/etc", "../a"), "no path"),
            (module("a", "b\\\\..\\\\c", "../a"), "no path"),
            (module("a", "x/.GIT", "../a"), "no path"),
            (module("a", "-x", "../a"), "no path"),
            (module("a", "", "../a"), "no path"),
            (module("a", "a", "--upload-pack=touch /tmp/x"), "no URL"),
            (module("a", "a", "\"https://git.example/\\nhost=evil\""), "no URL"),
            (format!("{fine}{fine}"), "twice"),
            (format!("{fine}{}", module("b", "a", "../b")), "another one's"),
            (format!("{fine}path = b\n"), "twice"),
            (format!("{fine}update = !touch /tmp/x\n"), "program"),
            ("[submodule \"a\"\n".to_owned(), "no section"),
            (format!("{fine}path = \"x\n"), "quote"),
            ((0..=MOST).map(|at| module(&format!("m{at}"), &format!("p{at}"), "../a")).collect(), "more than"),
        ] {
            let error = parse(text.as_bytes()).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn a_submodule_is_found_from_its_project() {
        let project = GitUrl::parse("https://git.example:8443/org/fleet.git").unwrap();
        for (url, at) in [
            ("../lib.git", Some("https://git.example:8443/org/lib.git")),
            ("../../other/lib", Some("https://git.example:8443/other/lib")),
            ("./lib", Some("https://git.example:8443/org/fleet.git/lib")),
            ("../../../x", None),
            ("https://else.example/x.git", Some("https://else.example/x.git")),
            ("git@else.example:org/x.git", Some("ssh://git@else.example/org/x.git")),
            ("file:///etc", None),
            ("/srv/x.git", None),
            ("ext::sh -c id", None),
            ("https://user:pass@else.example/x", None),
            ("git@-oProxyCommand=id:x", None),
        ] {
            assert_eq!(locate(&project, url).ok().map(|url| url.to_string()).as_deref(), at, "{url}");
        }
        let other = |url: &str| GitUrl::parse(url).unwrap();
        assert!(locate(&other("file:///srv/fleet.git"), "../lib.git").is_err());
        assert!(same_host(&project, &other("https://git.example:8443/x")));
        for url in ["https://git.example/x", "http://git.example:8443/x", "https://git.example.evil:8443/x"] {
            assert!(!same_host(&project, &other(url)), "{url}");
        }
        assert!(same_repository(&project, &other("https://git.example:8443/org/fleet/")));
    }
}
