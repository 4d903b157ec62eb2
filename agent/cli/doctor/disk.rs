//! The disk that the store is on, and the store.

use std::path::Path;

use super::super::text;
use super::finding::{Area, Diagnosis};
use crate::store::{DataDir, Disk, Store};

/// What a store may need at the least, beside what is kept free.
const SCARCE: u64 = 64 << 20;

/// Looks, and opens the store for reading where it is whole.
pub(super) async fn look(dir: &DataDir, diagnosis: &mut Diagnosis) -> Option<Store> {
    let path = dir.path();
    if !path.is_dir() {
        let message = format!("{} is not there: nothing was kept here yet", path.display());
        diagnosis.warn(Area::Disk, message, "wickie run makes it; another agent's is named by --data-dir");
        return None;
    }
    if let Some(disk) = Disk::of(path) {
        space(path, disk, diagnosis);
    }
    file_system(path, magic(path), diagnosis);
    if !dir.database().exists() {
        diagnosis.warn(
            Area::Disk,
            format!("there is no store in {}", path.display()),
            "wickie run makes it, from Git and from what the cluster has",
        );
        return None;
    }
    let aside =
        "stop the agent and start it: it sets a damaged store aside, and makes a new one from Git and the cluster";
    let store = match Store::open_for_reading(dir) {
        Ok(store) => store,
        Err(error) => {
            diagnosis.fail(Area::Disk, crate::chain::chain(&error), aside);
            return None;
        }
    };
    match store.damage().await {
        Ok(None) => {}
        Ok(Some(damage)) => {
            diagnosis.fail(Area::Disk, format!("the store is damaged: {damage}"), aside);
            return None;
        }
        Err(error) => {
            diagnosis.fail(Area::Disk, crate::chain::chain(&error), aside);
            return None;
        }
    }
    match store.size().await {
        Ok(size) => diagnosis.ok(
            Area::Disk,
            format!("the store is whole: {}, and {} of log", text::bytes(size.file), text::bytes(size.log)),
        ),
        Err(error) => diagnosis.fail(Area::Disk, crate::chain::chain(&error), aside),
    }
    Some(store)
}

pub(super) fn space(path: &Path, disk: Disk, diagnosis: &mut Diagnosis) {
    let message =
        format!("{} of {} are free at {}", text::bytes(disk.available), text::bytes(disk.total), path.display());
    let fix = "make room on that disk, or bound the store by wickie run --max-store";
    if disk.available < disk.reserve() {
        let reserve = text::bytes(disk.reserve());
        diagnosis.fail(Area::Disk, format!("{message}: less than {reserve}, so nothing new is fetched"), fix);
    } else if disk.available < disk.reserve() + SCARCE {
        diagnosis.warn(Area::Disk, message, fix);
    } else {
        diagnosis.ok(Area::Disk, message);
    }
}

/// What a file system says it is. Source: statfs(2), linux/magic.h.
fn magic(path: &Path) -> Option<u32> {
    // The type is as wide as a word on some machines; the numbers are not.
    rustix::fs::statfs(path).ok().and_then(|found| u32::try_from(found.f_type & 0xffff_ffff).ok())
}

pub(super) fn file_system(path: &Path, magic: Option<u32>, diagnosis: &mut Diagnosis) {
    let here = path.display();
    match magic {
        Some(0x0102_1994 | 0x8584_58f6) => diagnosis.fail(
            Area::Disk,
            format!("{here} is in memory (tmpfs): after a reboot nothing is known any more"),
            "--data-dir on a disk of this node",
        ),
        Some(0x6969 | 0xff53_4d42 | 0xfe53_4d42 | 0x517b) => diagnosis.fail(
            Area::Disk,
            format!("{here} is on a network file system, on which the store's log does not work"),
            "--data-dir on a disk of this node",
        ),
        Some(0x794c_7630) => diagnosis.warn(
            Area::Disk,
            format!("{here} is in the layer of a container (overlay): it goes when the container does"),
            "mount a folder of the node there, as the DaemonSet of wickie install does",
        ),
        _ => {}
    }
}
