//! The configuration files.

use std::path::{Path, PathBuf};

use super::finding::{Area, Diagnosis};
use crate::config::Files;

pub(super) fn look(paths: &[PathBuf], files: &Files, diagnosis: &mut Diagnosis) {
    for problem in &files.problems {
        let fix = "mend the file; the agent takes it over within seconds, and keeps to what it read before until then";
        diagnosis.fail(Area::Config, problem.to_string(), fix);
    }
    let named = paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
    match (paths.is_empty(), files.problems.is_empty()) {
        (true, _) => diagnosis.ok(Area::Config, "there are no configuration files: the cluster's objects alone count"),
        (false, true) => {
            let objects = super::super::text::count(files.declared.len() as u64, "object");
            diagnosis.ok(Area::Config, format!("{named} can be read: {objects} declared"));
        }
        (false, false) => {}
    }
    for path in paths.iter().filter(|path| is_writable_by_others(path)) {
        let message =
            format!("{} may be written by everybody on this node, who could so decide what it keeps", path.display());
        diagnosis.fail(Area::Config, message, format!("chmod o-w {}", path.display()));
    }
}

fn is_writable_by_others(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o002 != 0)
}
