//! The clock: what validity of keys, age of commits and windows are judged by.

use jiff::{SignedDuration, Timestamp};

use super::finding::{Area, Diagnosis};

/// No agent was made before.
const EARLIEST: Timestamp = Timestamp::constant(1_735_689_600, 0);

/// A difference that shows.
const NOTICED: SignedDuration = SignedDuration::from_secs(30);

/// One that tokens and certificates do not bear.
const HARMFUL: SignedDuration = SignedDuration::from_secs(300);

const SET: &str = "set the clock, and have it kept: systemctl enable --now systemd-timesyncd, or chrony";

/// Holds the node's clock against what is known of the time, and against its own hardware.
pub(super) fn look(now: Timestamp, floor: Option<Timestamp>, diagnosis: &mut Diagnosis) {
    let hardware = std::fs::read_to_string("/sys/class/rtc/rtc0/since_epoch").ok();
    let hardware = hardware.and_then(|text| Timestamp::from_second(text.trim().parse().ok()?).ok());
    judge(now, floor, hardware, diagnosis);
}

pub(super) fn judge(now: Timestamp, floor: Option<Timestamp>, hardware: Option<Timestamp>, diagnosis: &mut Diagnosis) {
    // Nobody reads more than seconds.
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    if now < EARLIEST {
        diagnosis.fail(Area::Clock, format!("the clock says {now}, which cannot be"), SET);
    } else if let Some(floor) = floor.filter(|floor| floor.duration_since(now) > NOTICED) {
        let message =
            format!("the clock says {now}, and {floor} has been seen already; until then the later of the two counts");
        diagnosis.fail(Area::Clock, message, SET);
    } else {
        diagnosis.ok(Area::Clock, format!("the clock says {now}, and nothing speaks against it"));
    }
    match hardware {
        None => diagnosis.warn(
            Area::Clock,
            "there is no hardware clock that can be read: after a power cut the time is wrong until somebody tells it",
            "a time server in reach; meanwhile the newest time that was seen counts, and windows stay shut",
        ),
        Some(hardware) if hardware.duration_since(now).abs() > HARMFUL => diagnosis.warn(
            Area::Clock,
            format!("the hardware clock says {hardware}: that is what counts after the next boot"),
            "hwclock --systohc --utc",
        ),
        Some(_) => {}
    }
}

/// Holds the node's clock against the API server's, which says whole seconds.
pub(super) fn compare(now: Timestamp, server: Timestamp, diagnosis: &mut Diagnosis) {
    let apart = now.duration_since(server);
    let message = format!("this node's clock and the API server's are {:#} apart", round(apart.abs()));
    if apart.abs() > HARMFUL {
        diagnosis.fail(Area::Clock, format!("{message}: tokens and certificates may be refused"), SET);
    } else if apart.abs() > NOTICED {
        diagnosis.warn(Area::Clock, message, SET);
    } else {
        diagnosis.ok(Area::Clock, "the API server's clock agrees");
    }
}

fn round(apart: SignedDuration) -> SignedDuration {
    SignedDuration::from_secs(apart.as_secs())
}
