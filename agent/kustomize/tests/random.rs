//! Random overlays build to the same bytes as with the real kustomize.
//!
//! `WICKIE_RANDOM` is how many seeds are tried (300), `WICKIE_SEED` where they start (1). What differs is written to the
//! target folder in the form of `tests/cases`, ready to be kept.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

mod grow;
mod support;

use std::path::Path;
use support::{Judge, difference};

#[test]
fn random_overlays() {
    let number = |name: &str, default: u64| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let Some(mut judge) = Judge::start() else { return };
    let first = number("WICKIE_SEED", 1);
    let (mut built, mut refused, mut crashed, mut failures) = (0, 0, 0, Vec::new());
    for seed in first..first + number("WICKIE_RANDOM", 300) {
        let case = grow::case(seed);
        let failure = match (judge.build(&case), case.wickie()) {
            (Ok(wanted), Ok(got)) if wanted == got => {
                built += 1;
                continue;
            }
            (Err(cause), Err(error)) => {
                refused += 1;
                if std::env::var_os("WICKIE_SHOW_REFUSED").is_some() {
                    eprintln!("{seed}: {error}\n    kustomize: {}", cause.lines().next().unwrap_or_default());
                }
                continue;
            }
            // A crash of kustomize's own says nothing of what is right.
            (Err(cause), _) if cause.starts_with("panic: ") => {
                crashed += 1;
                continue;
            }
            (Ok(wanted), Ok(got)) => difference(&wanted, &got),
            (Ok(_), Err(error)) => format!("kustomize builds it, wickie says: {error}"),
            (Err(error), Ok(_)) => format!("wickie builds it, kustomize says: {error}"),
        };
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("seed-{seed}"));
        let _ = std::fs::remove_dir_all(&folder);
        case.write(&folder);
        failures.push(format!("seed {seed} ({}): {failure}", folder.display()));
        if failures.len() >= 20 {
            break;
        }
    }
    eprintln!(
        "{built} equal, {refused} refused by both, {} different, {crashed} on which kustomize crashed",
        failures.len()
    );
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    assert!(built > refused / 4, "the random trees hardly build: {built} of {}", built + refused);
}
