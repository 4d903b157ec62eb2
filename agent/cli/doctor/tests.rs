use std::path::Path;

use jiff::Timestamp;

use super::finding::{Area, Diagnosis, Verdict, page};
use super::{api, clock, disk, limits};
use crate::cli::golden;
use crate::cli::look::Look;
use crate::cluster::Access;
use crate::store::Disk;

const LOOK: Look = Look { color: false, width: 80, now: Timestamp::UNIX_EPOCH };

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn access(namespace: &str, resource: &str, verb: &'static str) -> Access {
    let (namespace, resource) = (namespace.to_owned(), resource.to_owned());
    Access { namespace, group: "apps".to_owned(), resource, name: String::new(), verb }
}

/// The verdicts that something came to.
fn verdicts(look: impl FnOnce(&mut Diagnosis)) -> Vec<Verdict> {
    let mut diagnosis = Diagnosis::default();
    look(&mut diagnosis);
    diagnosis.0.into_iter().map(|finding| finding.verdict).collect()
}

#[test]
fn a_bad_night_and_a_good_one() {
    let data = Path::new("/var/lib/wickie");
    let mut bad = Diagnosis::default();
    api::judge(
        &vec![
            (access("shop", "deployments", "patch"), Ok(false)),
            (access("shop", "deployments", "delete"), Ok(false)),
            (access("", "deployments", "watch"), Ok(false)),
            (access("", "events", "create"), Ok(true)),
        ],
        &mut bad,
    );
    clock::judge(at(5), Some(at(1_800_000_000)), None, &mut bad);
    disk::space(data, Disk { available: 8 << 20, total: 1 << 30 }, &mut bad);
    disk::file_system(data, Some(0x0102_1994), &mut bad);
    limits::files(64, &mut bad);
    limits::memory(Some(32 << 20), 3, &mut bad);
    bad.warn(Area::Trust, "GitRepository/flux-system/fleet is taken unsigned\u{1b}[2J", "name its signers");
    golden("doctor-bad-night", &page(&bad.whole(), &LOOK));
    assert!(!bad.whole().ok);

    let mut good = Diagnosis::default();
    api::judge(&vec![(access("", "events", "create"), Ok(true))], &mut good);
    clock::judge(at(1_800_000_100), Some(at(1_800_000_000)), Some(at(1_800_000_101)), &mut good);
    disk::space(data, Disk { available: 8 << 30, total: 16 << 30 }, &mut good);
    disk::file_system(data, Some(0xef53), &mut good);
    limits::files(1_024, &mut good);
    limits::memory(Some(128 << 20), 0, &mut good);
    golden("doctor-good-night", &page(&good.whole(), &LOOK));
    assert!(good.whole().ok);
}

#[test]
fn clocks_that_agree_nearly_and_not_at_all() {
    use Verdict::{Fail, Ok, Warn};
    let now = at(1_800_000_000);
    let compared = |apart: i64| verdicts(|diagnosis| clock::compare(now, at(1_800_000_000 - apart), diagnosis));
    assert_eq!((compared(2), compared(-60), compared(4_000)), (vec![Ok], vec![Warn], vec![Fail]));
    let judged = |floor, hardware| verdicts(|diagnosis| clock::judge(now, floor, hardware, diagnosis));
    assert_eq!(judged(None, Some(now)), [Ok]);
    // A commit may be dated a moment ahead.
    assert_eq!(judged(Some(at(1_800_000_010)), Some(now)), [Ok]);
    assert_eq!(judged(Some(at(1_800_090_000)), Some(now)), [Fail]);
    assert_eq!(judged(None, Some(at(0))), [Ok, Warn]);
}

#[test]
fn what_the_system_says_is_read() {
    let limits = "Limit                     Soft Limit           Hard Limit           Units     \nMax open files            1024                 524288               files     \n";
    assert_eq!(limits::open_files(limits), Some(1_024));
    let unlimited = "Max open files            unlimited            unlimited            files";
    assert_eq!(limits::open_files(unlimited), Some(u64::MAX));
    assert_eq!(limits::killed("low 0\noom 2\noom_kill 1\noom_group_kill 0\n"), Some(1));
    let unknown = verdicts(|diagnosis| {
        api::judge(&vec![(access("", "events", "create"), Err("no answer".to_owned()))], diagnosis);
    });
    assert_eq!(unknown, [Verdict::Warn]);
}
