use proptest::prelude::*;
use wickie_model::Oid;

use super::*;

fn revision(byte: u8) -> Revision {
    Revision::new(Some("main".to_owned()), Oid::from_bytes([byte; 20]))
}

fn name(text: &str) -> ResourceName {
    ResourceName::new("flux-system", text)
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

struct Case {
    course: Course,
    now: i64,
}

impl Case {
    fn new() -> Self {
        Self { course: Course::default(), now: 0 }
    }

    fn begin(&mut self, byte: u8) -> Vec<Trial> {
        self.now += 1;
        self.course.begin(&name("shop"), &name("fleet"), &revision(byte), at(self.now))
    }

    fn end(&mut self, byte: u8, ending: Ending) -> Option<Trial> {
        self.now += 1;
        self.course.end(&name("fleet"), &revision(byte), ending, "why", at(self.now))
    }

    fn judge(&mut self, byte: u8, ending: Ending, instead: Option<u8>) -> Option<Trial> {
        self.now += 1;
        let judgement = (ending, instead.map(revision));
        self.course.judge(&name("fleet"), &revision(byte), judgement, "why".to_owned(), at(self.now))
    }

    fn follows(&self, byte: u8) -> u8 {
        self.course.follows(&name("fleet"), &revision(byte)).commit().as_bytes()[0]
    }

    fn remedy(&self, asked: OnUnhealthy, byte: u8) -> Remedy {
        self.course.remedy(Some(asked), &name("fleet"), &revision(byte))
    }
}

use OnUnhealthy::{Rollback, Stop};

#[test]
fn a_new_revision_that_is_not_healthy_gives_way_to_the_last_healthy_one_until_a_newer_comes() {
    let mut case = Case::new();
    case.begin(1);
    case.end(1, Ending::Healthy);
    case.begin(2);
    assert_eq!((case.follows(2), case.remedy(Rollback, 2)), (2, Remedy::Back));
    case.judge(2, Ending::RolledBack, Some(1)).unwrap();
    assert_eq!(case.follows(2), 1);
    // What was put back is not itself put away, and its runs are no trial of a revision.
    assert_eq!(case.remedy(Rollback, 1), Remedy::Retry);
    assert_eq!(case.end(1, Ending::Unhealthy), None);
    assert_eq!(case.follows(3), 3);
    case.begin(3);
    assert_eq!(case.remedy(Rollback, 3), Remedy::Back);
    assert_eq!(case.course.healthy(&name("fleet")), Some(&revision(1)));
    // A source that comes back to the condemned one does not bring it back.
    assert_eq!(case.follows(2), 1);
}

#[test]
fn what_the_cluster_was_driven_to_last_is_told_from_what_was_only_built() {
    let mut case = Case::new();
    let source = name("fleet");
    assert_eq!((case.course.last(&source), case.course.back(&source)), (None, None));
    case.begin(1);
    case.end(1, Ending::Healthy);
    case.begin(2);
    // It could not be built: the cluster has what it had.
    case.end(2, Ending::Refused);
    assert_eq!(case.course.last(&source), Some(&revision(1)));
    case.begin(3);
    assert_eq!((case.course.last(&source), case.course.back(&source)), (Some(&revision(3)), None));
    case.judge(3, Ending::RolledBack, Some(1)).unwrap();
    assert_eq!((case.course.last(&source), case.course.back(&source)), (Some(&revision(1)), Some(&revision(1))));
    assert_eq!(case.course.last(&name("another")), None);
    // As soon as another has begun, nothing is on its way back.
    case.begin(4);
    assert_eq!((case.course.last(&source), case.course.back(&source)), (Some(&revision(4)), None));
}

#[test]
fn the_first_revision_ever_has_nothing_to_go_back_to() {
    let mut case = Case::new();
    case.begin(1);
    assert_eq!((case.remedy(Rollback, 1), case.remedy(Stop, 1)), (Remedy::Retry, Remedy::Stop));
    // What was only applied was not shown to be healthy.
    case.end(1, Ending::Applied);
    case.begin(2);
    assert_eq!(case.remedy(Rollback, 2), Remedy::Retry);
}

#[test]
fn a_revision_that_was_healthy_is_not_put_away_for_what_happens_later() {
    let mut case = Case::new();
    case.begin(1);
    case.end(1, Ending::Healthy);
    case.begin(2);
    case.end(2, Ending::Healthy);
    assert_eq!((case.remedy(Rollback, 2), case.remedy(Stop, 2)), (Remedy::Retry, Remedy::Retry));
    assert_eq!(case.end(2, Ending::Unhealthy), None);
    // Also when the source goes back to it.
    case.begin(3);
    case.begin(2);
    assert_eq!(case.remedy(Rollback, 2), Remedy::Retry);
}

#[test]
fn another_source_has_a_course_of_its_own() {
    let mut case = Case::new();
    case.begin(1);
    case.end(1, Ending::Healthy);
    let other = name("other");
    case.course.begin(&name("shop"), &other, &revision(2), at(9));
    assert_eq!(case.course.remedy(Some(Rollback), &other, &revision(2)), Remedy::Retry);
}

#[test]
fn what_is_stopped_stays_and_is_freed_by_health_or_by_somebody() {
    let mut case = Case::new();
    case.begin(1);
    case.judge(1, Ending::Stopped, None);
    assert_eq!(case.follows(1), 1);
    assert!(case.course.against(&name("fleet"), &revision(1)).is_some());
    assert_eq!(case.end(1, Ending::Unhealthy), None);
    assert!(case.end(1, Ending::Healthy).is_some());
    assert!(case.course.against(&name("fleet"), &revision(1)).is_none());
    case.begin(2);
    case.judge(2, Ending::SetBack, Some(1));
    assert_eq!(case.follows(2), 1);
    case.course.acquit(&name("fleet"), &revision(2), at(99)).unwrap();
    assert_eq!((case.follows(2), case.remedy(Rollback, 2)), (2, Remedy::Back));
}

#[test]
fn what_is_overtaken_is_superseded_and_what_goes_on_is_not_written_again() {
    let mut case = Case::new();
    assert_eq!(case.begin(1).len(), 1);
    assert_eq!(case.begin(1), []);
    let endings: Vec<_> = case.begin(2).iter().map(|trial| trial.ending).collect();
    assert_eq!(endings, [Ending::Superseded, Ending::Trying]);
    assert!(case.end(2, Ending::Failed).is_some());
    assert_eq!(case.end(2, Ending::Failed), None);
    let endings: Vec<_> = case.begin(3).iter().map(|trial| trial.ending).collect();
    assert_eq!(endings, [Ending::Trying]);
}

proptest! {
    /// Whatever happened: what is followed is the newest, or what a judgement of the newest names; nothing is condemned
    /// in favour of what was not healthy; a restart from what was written down follows the same.
    #[test]
    fn what_is_followed_is_the_newest_or_was_healthy(steps in prop::collection::vec((0u8..6, 0u8..6), 1..80)) {
        let mut case = Case::new();
        let mut written: Vec<Trial> = Vec::new();
        let mut healthy = std::collections::BTreeSet::new();
        let mut newest = 0;
        for (step, byte) in steps {
            let mut changed = Vec::new();
            match step {
                0 | 1 => {
                    newest = byte;
                    if case.follows(newest) == newest {
                        changed = case.begin(newest);
                    }
                }
                2 => changed.extend(case.end(newest, Ending::Healthy)),
                3 => changed.extend(case.end(newest, Ending::Unhealthy)),
                4 => match case.remedy(Rollback, newest) {
                    Remedy::Back => {
                        let target = case.course.healthy(&name("fleet")).unwrap().commit().as_bytes()[0];
                        prop_assert_ne!(target, newest);
                        changed.extend(case.judge(newest, Ending::RolledBack, Some(target)));
                    }
                    remedy => prop_assert_eq!(remedy, Remedy::Retry),
                },
                _ => { case.now += 1; changed.extend(case.course.acquit(&name("fleet"), &revision(newest), at(case.now))); }
            }
            for trial in changed {
                if trial.ending == Ending::Healthy {
                    healthy.insert(trial.revision.clone());
                }
                // As the store does it: what begins anew goes to the end.
                match written.iter_mut().find(|old| old.revision == trial.revision) {
                    Some(old) if old.began_at == trial.began_at => *old = trial,
                    _ => {
                        written.retain(|old| old.revision != trial.revision);
                        written.push(trial);
                    }
                }
            }
            let follows = case.follows(newest);
            prop_assert!(follows == newest || healthy.contains(&revision(follows)));
            let again = Course::new(written.clone());
            let same = again.follows(&name("fleet"), &revision(newest)) == &revision(follows);
            prop_assert!(same, "a restart follows something else");
            prop_assert_eq!(
                again.remedy(Some(Rollback), &name("fleet"), &revision(newest)),
                case.remedy(Rollback, newest)
            );
        }
    }
}
