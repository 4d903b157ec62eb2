use proptest::prelude::*;

use super::*;

const PACE: Pace = Pace {
    interval: Duration::from_secs(600),
    retry: Duration::from_secs(60),
    timeout: Duration::from_secs(30),
    remedy: Remedy::Retry,
    gate: Gate::Open,
};

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

use Event::{
    Applied, Asked, Blind, Built, Deferred, Deleted, Failed, Finalized, Healthy, Held, Recorded, Tick, Unhealthy,
    Withheld,
};

#[test]
fn a_run_goes_from_build_to_idle() {
    let (state, effects) = after([Asked(Cause::Revision), Built, Applied { wait: false }]);
    let due = Duration::from_secs(603);
    assert_eq!(state, State::Idle { due, failures: 0, patience: None, waits: false });
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
    let (_, effects) = after(waiting.clone().into_iter().chain([Asked(Cause::Drift)]));
    let over = Effect::Conclude(Outcome::Superseded);
    assert_eq!(effects, [Effect::Unwatch, over, Effect::Build(Cause::Drift)], "the history has it, too");
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
    assert_eq!(state, State::Idle { due: Duration::from_secs(93), failures: 1, patience: None, waits: false });
    let (_, effects) = step(state, Tick, &PACE, at(93));
    assert_eq!(effects, [Effect::Build(Cause::Retry)]);
}

#[test]
fn what_has_failed_for_good_is_not_waited_for() {
    let waiting = || after([Asked(Cause::Revision), Built, Applied { wait: true }]).0;
    let (state, effects) = step(waiting(), Unhealthy, &PACE, at(4));
    assert_eq!(effects[..2], [Effect::Unwatch, Effect::Conclude(Outcome::Unhealthy)]);
    assert_eq!(state, State::Idle { due: Duration::from_secs(64), failures: 1, patience: None, waits: false });
    let pace = Pace { remedy: Remedy::Back, ..PACE };
    let (state, effects) = step(waiting(), Unhealthy, &pace, at(4));
    let condemned = Effect::Condemn(Remedy::Back, Outcome::Unhealthy);
    assert_eq!(effects, [Effect::Unwatch, condemned, Effect::Conclude(Outcome::Unhealthy)]);
    assert_eq!(step(state, Recorded, &pace, at(5)).1, [Effect::Build(Cause::Rollback)]);
    // What is applied now says nothing yet.
    let (state, effects) = step(after([Asked(Cause::Revision), Built]).0, Unhealthy, &pace, at(4));
    assert_eq!((state.stage(), effects), (Some(Stage::Applying), vec![]));
}

#[test]
fn trouble_with_the_api_is_retried_soon_and_then_later() {
    let mut state = State::new();
    let mut pauses = vec![];
    let mut clock = Clock { now: Duration::ZERO, chance: 0.999_999 };
    state = step(state, Asked(Cause::Start), &PACE, clock).0;
    for _ in 0..10 {
        let (idle, _) = step(state, Failed { transient: true, halfway: false }, &PACE, clock);
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
        Failed { transient: false, halfway: false },
    ]);
    assert_eq!(effects, [Effect::Conclude(Outcome::Failed), Effect::Finalize]);
    let (state, effects) = step(state, Finalized { done: false }, &PACE, at(10));
    assert_eq!(effects, [Effect::Wake(Duration::from_millis(10_500))]);
    let (state, effects) = step(state, Tick, &PACE, at(11));
    assert_eq!(effects, [Effect::Finalize]);
    assert_eq!(step(state, Finalized { done: true }, &PACE, at(12)), (State::Gone, vec![Effect::Remove]));
}

const BACK: Pace = Pace { remedy: Remedy::Back, ..PACE };

/// A new revision whose health is waited for until 33 s.
fn waiting(pace: &Pace) -> State {
    let events = [Asked(Cause::Revision), Built, Applied { wait: true }];
    events.into_iter().zip(1..).fold(State::new(), |state, (event, now)| step(state, event, pace, at(now)).0)
}

#[test]
fn what_is_condemned_is_written_down_before_anything_is_put_back() {
    let (state, effects) = step(waiting(&BACK), Tick, &BACK, at(33));
    let condemned = [Effect::Condemn(Remedy::Back, Outcome::Unhealthy), Effect::Conclude(Outcome::Unhealthy)];
    assert_eq!(effects, [vec![Effect::Unwatch], condemned.to_vec()].concat());
    // Whatever is asked for meanwhile, nothing runs before the store has it.
    let (state, effects) = step(state, Asked(Cause::Drift), &BACK, at(34));
    assert_eq!((effects, state.is_busy()), (vec![], true));
    let (state, effects) = step(state, Recorded, &BACK, at(35));
    assert_eq!(effects, [Effect::Build(Cause::Rollback)]);
    // What was put back is no trial: it is tried again, however it ends.
    let state =
        [Built, Applied { wait: true }].into_iter().fold(state, |state, event| step(state, event, &PACE, at(36)).0);
    let (state, _) = step(state, Tick, &PACE, at(66));
    assert_eq!(state, State::Idle { due: Duration::from_secs(126), failures: 1, patience: None, waits: false });
}

#[test]
fn what_is_stopped_is_not_tried_again() {
    let pace = Pace { remedy: Remedy::Stop, ..PACE };
    let (state, _) = step(waiting(&pace), Tick, &pace, at(33));
    let (state, effects) = step(state, Recorded, &pace, at(34));
    let due = Duration::from_secs(634);
    assert_eq!(
        (state, effects),
        (State::Idle { due, failures: 0, patience: None, waits: false }, vec![Effect::Wake(due)])
    );
}

#[test]
fn a_newer_revision_a_hold_and_a_deletion_go_before_what_would_be_put_back() {
    let turning = || step(waiting(&BACK), Tick, &BACK, at(33)).0;
    for (event, effect) in [
        (Asked(Cause::Revision), Effect::Build(Cause::Revision)),
        (Held(Hold::Suspended), Effect::Rest(Hold::Suspended)),
        (Deleted, Effect::Finalize),
    ] {
        let (state, _) = step(turning(), event, &BACK, at(34));
        assert_eq!(step(state, Recorded, &BACK, at(35)).1, [effect]);
    }
}

#[test]
fn a_cluster_that_cannot_be_seen_condemns_nothing() {
    let (state, effects) = step(waiting(&BACK), Blind, &BACK, at(33));
    assert_eq!(effects, [Effect::Wake(Duration::from_secs(63))]);
    let (state, effects) = step(state, Tick, &BACK, at(62));
    assert_eq!(effects, [Effect::Wake(Duration::from_secs(63))]);
    let (_, effects) = step(state, Tick, &BACK, at(63));
    assert_eq!(effects[1], Effect::Condemn(Remedy::Back, Outcome::Unhealthy));
}

#[test]
fn a_new_revision_that_stays_halfway_is_condemned_when_its_time_is_over() {
    let halfway = || Failed { transient: false, halfway: true };
    let run = |state: State, cause: Option<Event>, now: u64, end: Event| {
        let state = cause.into_iter().chain([Built]).fold(state, |state, event| step(state, event, &BACK, at(now)).0);
        step(state, end, &BACK, at(now))
    };
    // The first failure begins the time; trouble with the API does not count, and does not extend it.
    let (state, _) = run(State::new(), Some(Asked(Cause::Revision)), 1, Failed { transient: true, halfway: true });
    assert_eq!(state, State::Idle { due: Duration::from_millis(1_500), failures: 1, patience: None, waits: false });
    let (state, _) = run(state, Some(Tick), 2, halfway());
    assert_eq!(
        state,
        State::Idle {
            due: Duration::from_secs(32),
            failures: 2,
            patience: Some(Duration::from_secs(32)),
            waits: false
        }
    );
    let (_, effects) = run(state.clone(), Some(Tick), 32, halfway());
    assert_eq!(effects[0], Effect::Condemn(Remedy::Back, Outcome::Failed));
    // Something newer begins anew.
    let (state, _) = run(state, Some(Asked(Cause::Revision)), 40, halfway());
    assert_eq!(
        state,
        State::Idle {
            due: Duration::from_secs(70),
            failures: 3,
            patience: Some(Duration::from_secs(70)),
            waits: false
        }
    );
}

#[test]
fn repairs_that_are_wanted_again_and_again_do_not_extend_the_wait() {
    let mut state = step(State::new(), Asked(Cause::Revision), &BACK, at(0)).0;
    for second in 1..30 {
        for event in [Asked(Cause::Drift), Built, Applied { wait: true }] {
            state = step(state, event, &BACK, at(second)).0;
        }
    }
    state = step(step(state, Built, &BACK, at(30)).0, Applied { wait: true }, &BACK, at(30)).0;
    let (_, effects) = step(state, Tick, &BACK, at(31));
    assert_eq!(effects[1], Effect::Condemn(Remedy::Back, Outcome::Unhealthy));
}

#[test]
fn deletions_that_wait_come_with_the_next_run() {
    let until = Duration::from_secs(30);
    let (state, effects) = after([Asked(Cause::Revision), Built, Deferred { until }]);
    assert_eq!(effects, [Effect::Conclude(Outcome::Deferred), Effect::Wake(until)]);
    assert_eq!(step(state.clone(), Asked(Cause::Dependency), &PACE, at(5)).1, [Effect::Build(Cause::Dependency)]);
    assert_eq!(step(state, Tick, &PACE, at(30)).1, [Effect::Build(Cause::Interval)]);
}

const OPENS: Moment = Duration::from_secs(500);
const SHUT: Pace = Pace { gate: Gate::Shut { opens: Some(OPENS), repairs: true }, ..PACE };

/// One whose new revision waits for the window, as found at 3 s.
fn withheld() -> State {
    let events = [Asked(Cause::Revision), Built, Withheld];
    events.into_iter().zip(1..).fold(State::new(), |state, (event, now)| step(state, event, &SHUT, at(now)).0)
}

#[test]
fn what_waits_for_the_window_is_done_when_it_opens() {
    let state = withheld();
    let due = Duration::from_secs(603);
    assert_eq!(state, State::Idle { due, failures: 0, patience: None, waits: true });
    // It is looked at again when it opens, not when the interval is over.
    let (state, effects) = step(state, Tick, &SHUT, at(4));
    assert_eq!(effects, [Effect::Wake(OPENS)]);
    let (state, effects) = step(state, Tick, &PACE, at(500));
    assert_eq!((effects, state.extent()), (vec![Effect::Build(Cause::Window)], Extent::All));
    let (state, _) = [Built, Applied { wait: false }]
        .into_iter()
        .fold((state, vec![]), |(state, _), event| step(state, event, &PACE, at(501)));
    assert_eq!(state, State::Idle { due: Duration::from_secs(1101), failures: 0, patience: None, waits: false });
}

#[test]
fn drift_is_repaired_while_something_waits_and_that_goes_on_waiting() {
    let (state, effects) = step(withheld(), Asked(Cause::Drift), &SHUT, at(10));
    assert_eq!((effects, state.extent()), (vec![Effect::Build(Cause::Drift)], Extent::Repairs));
    let state =
        [Built, Applied { wait: false }].into_iter().fold(state, |state, event| step(state, event, &SHUT, at(11)).0);
    assert_eq!(state, State::Idle { due: Duration::from_secs(611), failures: 0, patience: None, waits: true });
    // Where drift waits, too, a run may only look.
    let looks = Pace { gate: Gate::Shut { opens: None, repairs: false }, ..PACE };
    assert_eq!(step(withheld(), Asked(Cause::Drift), &looks, at(10)).0.extent(), Extent::Nothing);
    // When it opens is not known: the clock may be set at any time.
    assert_eq!(step(withheld(), Tick, &looks, at(10)).1, [Effect::Wake(Duration::from_secs(603))]);
    let (state, effects) = step(State::new(), Asked(Cause::Request), &looks, at(0));
    let (_, after) =
        step(step(state, Built, &looks, at(0)).0, Withheld, &Pace { interval: OPENS * 10, ..looks }, at(0));
    assert_eq!((effects, &after[1]), (vec![Effect::Build(Cause::Request)], &Effect::Wake(gate::LOOK_AGAIN)));
}

#[test]
fn a_window_that_shuts_while_it_is_built_shuts_and_one_that_shuts_later_does_not() {
    let (state, _) = step(State::new(), Asked(Cause::Revision), &PACE, at(1));
    assert_eq!(step(state.clone(), Built, &SHUT, at(2)).0.extent(), Extent::Repairs);
    let (state, _) = step(state, Built, &PACE, at(2));
    let (state, effects) = step(state, Applied { wait: true }, &SHUT, at(3));
    assert_eq!((effects.len(), state.stage(), state.extent()), (2, Some(Stage::Waiting), Extent::All));
    // What was built while it was shut may be an earlier revision: it is not applied in full when it opens meanwhile.
    let (state, _) = step(State::new(), Asked(Cause::Drift), &SHUT, at(1));
    assert_eq!(step(state, Built, &PACE, at(2)).0.extent(), Extent::Repairs);
}

#[test]
fn harm_is_undone_while_the_window_is_shut_and_a_trial_goes_on_to_its_end() {
    let shut = Pace { gate: SHUT.gate, ..BACK };
    let (state, _) = step(waiting(&BACK), Tick, &shut, at(33));
    let (state, effects) = step(state, Recorded, &shut, at(34));
    assert_eq!((effects, state.extent()), (vec![Effect::Build(Cause::Rollback)], Extent::All));
    // One that was applied in part is tried until it is condemned; a newer one has to wait.
    let halfway = || Failed { transient: false, halfway: true };
    let begun = [Asked(Cause::Revision), Built]
        .into_iter()
        .fold(State::new(), |state, event| step(state, event, &BACK, at(1)).0);
    let (state, _) = step(begun, halfway(), &shut, at(1));
    let (state, _) = step(state, Tick, &shut, at(31));
    assert_eq!(state.extent(), Extent::All);
    let (state, _) = step(state, Asked(Cause::Revision), &shut, at(31));
    let (state, _) = [Built, Failed { transient: true, halfway: true }]
        .into_iter()
        .fold((state, vec![]), |(state, _), event| step(state, event, &shut, at(31)));
    assert_eq!((state.stage(), state.extent()), (Some(Stage::Building), Extent::Repairs));
}

#[test]
fn the_end_waits_for_the_window_until_it_opens_or_somebody_opens_it() {
    let (state, effects) = step(withheld(), Deleted, &SHUT, at(10));
    assert_eq!(effects, [Effect::Withhold, Effect::Wake(OPENS)]);
    let (state, effects) = step(state, Tick, &SHUT, at(11));
    assert_eq!(effects, [Effect::Withhold, Effect::Wake(OPENS)]);
    for event in [Tick, Deleted] {
        assert_eq!(step(state.clone(), event, &PACE, at(20)).1, [Effect::Finalize]);
    }
    // What has begun is not held again.
    let (state, _) = step(state, Tick, &PACE, at(500));
    let (state, _) = step(state, Finalized { done: false }, &SHUT, at(501));
    assert_eq!(step(state, Tick, &SHUT, at(502)).1, [Effect::Finalize]);
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        prop::sample::select(vec![Cause::Revision, Cause::Drift, Cause::Interval, Cause::Request]).prop_map(Asked),
        Just(Held(Hold::Suspended)),
        Just(Tick),
        Just(Built),
        any::<bool>().prop_map(|wait| Applied { wait }),
        Just(Deferred { until: Duration::from_secs(1_000) }),
        Just(Healthy),
        any::<(bool, bool)>().prop_map(|(transient, halfway)| Failed { transient, halfway }),
        Just(Blind),
        Just(Recorded),
        Just(Deleted),
        any::<bool>().prop_map(|done| Finalized { done }),
        Just(Withheld),
    ]
}

proptest! {
    /// No order of events starts a second run beside a running one, or leaves a state that nothing leads out of.
    #[test]
    fn one_run_at_a_time_and_always_a_way_on(
        events in prop::collection::vec((any_event(), 0u64..100, any::<bool>()), 1..60),
        remedy in prop::sample::select(vec![Remedy::Retry, Remedy::Stop, Remedy::Back]),
    ) {
        let pace = Pace { remedy, ..PACE };
        let mut state = State::new();
        let mut now = 0;
        let mut working = false;
        let mut watching = false;
        for (event, pause, open) in events {
            let pace = Pace { gate: if open { Gate::Open } else { SHUT.gate }, ..pace };
            now += pause;
            let answers_work = matches!(event, Built | Applied { .. } | Deferred { .. } | Failed { .. } | Withheld);
            if answers_work && !working {
                continue;
            }
            let before = state.stage();
            let turning = matches!(state, State::Turning(_));
            let recorded = event == Recorded;
            let (next, effects) = step(state, event, &pace, at(now));
            if turning && !recorded {
                prop_assert!(effects.is_empty(), "something was done before it was written down");
            }
            for effect in &effects {
                match effect {
                    Effect::Build(_) => {
                        prop_assert!(!watching, "a run began while health was watched");
                        working = true;
                    }
                    Effect::Watch { .. } => { working = false; watching = true; }
                    Effect::Condemn(asked, _) => prop_assert!(*asked == remedy && remedy != Remedy::Retry),
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
