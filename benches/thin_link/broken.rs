//! 5 MB of small files through a link that is late, slow and breaks every 200 KB.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use wickie::source::Git;
use wickie_testbench::{RelayOptions, histories};

use crate::judge::{Judge, grouped};
use crate::stand::{Lane, Stand, store, try_git};

/// Tries of the real git, which begins anew each time.
const TRIES: usize = 8;

pub(crate) async fn run(judge: &mut Judge) {
    let stand = Stand::new("thin-link-broken");
    histories::noise(&stand.repo, 5_000, 1_300, &stand.signer()).unwrap();
    let good = Lane::to(&stand.tls, RelayOptions::default());
    let polled = Git::new(store(&stand.scratch.join("whole"))).poll(&stand.source(&good.url), Timestamp::now()).await;
    polled.outcome.unwrap();
    let (whole, whole_wire) = (polled.traffic.received, good.relay.passed());
    println!("\n5,000 files (5 MB) through 300 ms of delay and 64 KB/s, cut every 200 KB on average, over TLS\n");
    println!("uninterrupted: {} bytes, {} on the wire", grouped(whole), grouped(whole_wire));

    let options = RelayOptions {
        delay: Duration::from_millis(300),
        bytes_per_second: Some(64 << 10),
        cut_every: Some(200 << 10),
        ..Default::default()
    };
    let lane = Lane::to(&stand.tls, options.clone());
    let (git, source) = (Git::new(store(&stand.scratch.join("broken"))), stand.source(&lane.url));
    let (begun, mut tries, mut received) = (Instant::now(), 0, 0);
    loop {
        // As somebody would who waits for it; left alone, the agent waits longer from try to try.
        git.ask_at_once(&source);
        let polled = git.poll(&source, Timestamp::now()).await;
        (tries, received) = (tries + 1, received + polled.traffic.received);
        match polled.outcome {
            Ok(_) => break,
            Err(error) if tries >= 200 => panic!("{error:?}"),
            Err(_) => {}
        }
    }
    let ratio = received as f64 / whole as f64;
    println!(
        "wickie: complete after {tries} tries and {:.0} s: {} bytes ({ratio:.2} times), {} on the wire",
        begun.elapsed().as_secs_f64(),
        grouped(received),
        grouped(lane.relay.passed())
    );
    judge.at_most("bytes over a link that breaks, of an uninterrupted fetch's", ratio, 1.3);

    let lane = Lane::to(&stand.tls, options);
    let folder = stand.scratch.join("clone").display().to_string();
    let (begun, mut completed) = (Instant::now(), None);
    for number in 1..=TRIES {
        if try_git(&stand, std::path::Path::new("/"), &["clone", "--quiet", "--depth=1", &lane.url, &folder]).await.0 {
            completed = Some(number);
            break;
        }
    }
    let came = match completed {
        Some(number) => format!("complete after {number} tries"),
        None => format!("not complete after {TRIES} tries"),
    };
    println!(
        "git clone --depth 1: {came} and {:.0} s: {} bytes on the wire",
        begun.elapsed().as_secs_f64(),
        grouped(lane.relay.passed())
    );
}
