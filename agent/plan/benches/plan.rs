//! What a plan costs, by the number of objects: all are as they should be but one, whose manifest changed.
//!
//!     cargo bench -p wickie-plan
//!
//! The target is 50 ms for 10,000 objects.

#![allow(clippy::print_stdout, reason = "figures are for people")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use wickie_model::{Digest, Entry, EntryState, Inventory, ObjectId, ObjectMap};
use wickie_plan::{Desired, Mode, Observed, Policy, Request, Ssa, plan};

const SIZES: [usize; 4] = [100, 1_000, 10_000, 100_000];
const ROUNDS: usize = 15;

fn main() {
    println!("{:>8}  {:>10}  {:>10}  {:>12}", "objects", "median", "most", "an object");
    for size in SIZES {
        let case = Case::new(size);
        let mut took: Vec<Duration> = (0..ROUNDS).map(|_| case.time()).collect();
        took.sort();
        let median = took[ROUNDS / 2];
        let each = median.as_nanos() / size as u128;
        println!("{size:>8}  {median:>10.2?}  {:>10.2?}  {each:>9} ns", took[ROUNDS - 1]);
    }
}

struct Case {
    desired: ObjectMap<Desired>,
    inventory: Inventory,
    observed: BTreeMap<ObjectId, Observed>,
}

impl Case {
    fn new(size: usize) -> Case {
        let (mut desired, mut inventory, mut observed) = (Vec::new(), Vec::new(), BTreeMap::new());
        for at in 0..size {
            let (group, kind) =
                [("", "ConfigMap"), ("", "Service"), ("apps", "Deployment"), ("batch", "CronJob")][at % 4];
            let id = ObjectId::new(group, kind, format!("team-{}", at % 40), format!("application-{at}"));
            let digest = Digest::of(&at.to_be_bytes());
            let applied = if at == size / 2 { Digest::of(b"before") } else { digest };
            let entry = Entry {
                version: "v1".to_owned(),
                state: EntryState::Applied,
                manifest: Some(applied),
                fingerprint: None,
            };
            let wanted = Desired {
                version: "v1".to_owned(),
                digest,
                ssa: Ssa::Override,
                force: false,
                paused: false,
                ignored: Default::default(),
            };
            desired.push((id.clone(), wanted));
            inventory.push((id.clone(), entry));
            observed.insert(id, Observed::Same);
        }
        Case { desired: desired.into_iter().collect(), inventory: inventory.into_iter().collect(), observed }
    }

    fn time(&self) -> Duration {
        let policy = Policy {
            prune: true,
            prune_limit: None,
            undo: false,
            awaited: None,
            prune_approved: false,
            complete: true,
            force: false,
            mode: Mode::Enforce,
            extent: wickie_plan::Extent::All,
        };
        let request = Request {
            desired: &self.desired,
            inventory: &self.inventory,
            observed: &self.observed,
            claimed: &BTreeMap::new(),
            policy: &policy,
        };
        let start = Instant::now();
        let planned = plan(&request);
        let took = start.elapsed();
        let steps = planned.map_or(0, |plan| plan.steps().count());
        assert_eq!(steps, 1, "one object changed");
        took
    }
}
