use proptest::prelude::*;

use super::*;

const PACE: Pace =
    Pace { interval: Duration::from_secs(600), retry: Duration::from_secs(60), timeout: Duration::from_secs(30) };

fn at(seconds: u64) -> Clock {
    Clock { now: Duration::from_secs(seconds), chance: 0.0 }
}

/// Feeds events in turn, a second apart; gives the last state and the effects of the last event.
fn after(events: impl IntoIterator<Item = Event>) -> (State, Vec<Effect>) {
    let mut now = 0;
    events.into_iter().fold((State::new(), vec![]), |(state, _), event| {
        now += 1;
        step(state, event, &PACE, at(now))
    })
}

use Event::{Applied, Asked, Built, Deleted, Failed, Finalized, Healthy, Held, Tick};

#[test]
fn a_run_goes_from_build_to_idle() {
    let (state, effects) = after([Asked(Cause::Revision), Built, Applied { wait: false }]);
    let due = Duration::from_secs(603);
    assert_eq!(state, State::Idle { due, failures: 0 });
    assert_eq!(effects, [Effect::Conclude(Outcome::Done), Effect::Wake(due)]);
}

#[test]
fn what_is_asked_while_a_stage_works_is_done_next() {
    let (_, effects) =
        after([Asked(Cause::Drift), Asked(Cause::Revision), Asked(Cause::Drift), Built, Applied { wait: false }]);
    assert_eq!(effects, [Effect::Conclude(Outcome::Done), Effect::Build(Cause::Revision)]);
}

#[test]
fn a_new_revision_does_not_wait_for_the_health_of_the_old_one() {
    let (_, effects) = after([Asked(Cause::Revision), Built, Applied { wait: true }, Asked(Cause::Revision)]);
    assert_eq!(effects, [Effect::Unwatch, Effect::Conclude(Outcome::Superseded), Effect::Build(Cause::Revision)]);
}

#[test]
fn a_repair_while_waiting_keeps_the_deadline() {
    let waiting = [Asked(Cause::Revision), Built, Applied { wait: true }];
    let repaired = waiting.into_iter().chain([Asked(Cause::Drift), Built, Applied { wait: true }]);
    let (_, effects) = after(repaired);
    let until = Duration::from_secs(33);
    assert_eq!(effects, [Effect::Watch { until }, Effect::Wake(until)]);
}

#[test]
fn health_is_waited_for_until_the_deadline_and_no_longer() {
    let (state, _) = after([Asked(Cause::Revision), Built, Applied { wait: true }]);
    let (state, effects) = step(state, Tick, &PACE, at(32));
    assert_eq!(effects, [Effect::Wake(Duration::from_secs(33))]);
    let (state, effects) = step(state, Tick, &PACE, at(33));
    assert_eq!(effects[..2], [Effect::Unwatch, Effect::Conclude(Outcome::Unhealthy)]);
    assert_eq!(state, State::Idle { due: Duration::from_secs(93), failures: 1 });
    let (_, effects) = step(state, Tick, &PACE, at(93));
    assert_eq!(effects, [Effect::Build(Cause::Retry)]);
}

#[test]
fn trouble_with_the_api_is_retried_soon_and_then_later() {
    let mut state = State::new();
    let mut pauses = vec![];
    let mut clock = Clock { now: Duration::ZERO, chance: 0.999_999 };
    state = step(state, Asked(Cause::Start), &PACE, clock).0;
    for _ in 0..10 {
        let (idle, _) = step(state, Failed { transient: true }, &PACE, clock);
        let State::Idle { due, .. } = idle else { panic!("{idle:?}") };
        pauses.push((due - clock.now).as_secs_f64().round());
        clock.now = due;
        state = step(idle, Tick, &PACE, clock).0;
    }
    assert_eq!(pauses, [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0, 60.0]);
}

#[test]
fn a_hold_during_a_run_takes_effect_after_it() {
    let (state, effects) = after([Asked(Cause::Revision), Held(Hold::Suspended), Built, Applied { wait: true }]);
    assert_eq!(state, State::Held(Hold::Suspended));
    assert_eq!(effects, [Effect::Conclude(Outcome::Superseded), Effect::Rest(Hold::Suspended)]);
    assert_eq!(step(state, Tick, &PACE, at(9999)).1, []);
}

#[test]
fn deletion_outlives_everything_else() {
    let (state, effects) = after([
        Asked(Cause::Revision),
        Deleted,
        Asked(Cause::Request),
        Held(Hold::Suspended),
        Failed { transient: false },
    ]);
    assert_eq!(effects, [Effect::Conclude(Outcome::Failed), Effect::Finalize]);
    let (state, effects) = step(state, Finalized { done: false }, &PACE, at(10));
    assert_eq!(effects, [Effect::Wake(Duration::from_millis(10_500))]);
    let (state, effects) = step(state, Tick, &PACE, at(11));
    assert_eq!(effects, [Effect::Finalize]);
    assert_eq!(step(state, Finalized { done: true }, &PACE, at(12)), (State::Gone, vec![Effect::Remove]));
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        prop::sample::select(vec![Cause::Revision, Cause::Drift, Cause::Interval, Cause::Request]).prop_map(Asked),
        Just(Held(Hold::Suspended)),
        Just(Tick),
        Just(Built),
        any::<bool>().prop_map(|wait| Applied { wait }),
        Just(Healthy),
        any::<bool>().prop_map(|transient| Failed { transient }),
        Just(Deleted),
        any::<bool>().prop_map(|done| Finalized { done }),
    ]
}

proptest! {
    /// No order of events starts a second run beside a running one, or leaves a state that nothing leads out of.
    #[test]
    fn one_run_at_a_time_and_always_a_way_on(events in prop::collection::vec((any_event(), 0u64..100), 1..60)) {
        let mut state = State::new();
        let mut now = 0;
        let mut working = false;
        let mut watching = false;
        for (event, pause) in events {
            now += pause;
            let answers_work = matches!(event, Built | Applied { .. } | Failed { .. });
            if answers_work && !working {
                continue;
            }
            let before = state.stage();
            let (next, effects) = step(state, event, &PACE, at(now));
            for effect in &effects {
                match effect {
                    Effect::Build(_) => {
                        prop_assert!(!watching, "a run began while health was watched");
                        working = true;
                    }
                    Effect::Watch { .. } => { working = false; watching = true; }
                    Effect::Unwatch => { prop_assert!(watching); watching = false; }
                    Effect::Conclude(_) => { working = false; if before == Some(Stage::Waiting) { watching = false; } }
                    _ => {}
                }
            }
            prop_assert_eq!(next.stage().is_some(), working || watching);
            if let State::Idle { .. } = next {
                prop_assert!(before.is_none() || effects.iter().any(|effect| matches!(effect, Effect::Wake(_))));
            }
            state = next;
        }
    }
}
