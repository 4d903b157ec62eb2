//! Figures that take minutes, or a process of their own: `cargo test --test source -- --ignored --nocapture figures::NAME`.

use std::time::Duration;

use wickie::config::git::GitUrl;
use wickie_testbench::{Relay, RelayOptions};

use crate::world::World;

/// Files that do not compress away: manifests with digests in them.
fn fill(world: &World, count: usize, size: usize) {
    let mut random = fastrand::Rng::with_seed(7);
    for number in 0..count {
        let text: String = std::iter::repeat_with(|| random.alphanumeric()).take(size).collect();
        world.repo.write(&format!("d{}/f{number}.yaml", number % 50), &text).unwrap();
    }
    world.repo.commit("many", &world.ada.signer()).unwrap();
    world.repo.git(&["repack", "-adq"]).unwrap();
}

#[tokio::test]
#[ignore = "takes minutes"]
async fn a_link_that_breaks_every_200_kb() {
    let world = World::new("figures-link");
    fill(&world, 5_000, 1_300);
    let mut source = world.source();
    source.timeout = Duration::from_secs(600);
    source.name.name = "whole".to_owned();
    let whole = world.poll(&source).await.traffic.received;

    let world = world.emptied();
    let target = world.server.addr();
    let options = RelayOptions {
        delay: Duration::from_millis(300),
        bytes_per_second: Some(64 << 10),
        cut_every: Some(200 << 10),
        ..Default::default()
    };
    let relay = Relay::start(target, options).unwrap();
    source.url = GitUrl::parse(&format!("http://{}/fleet.git", relay.addr())).unwrap();
    let begun = std::time::Instant::now();
    let (mut tries, mut received) = (0, 0);
    loop {
        world.git.ask_at_once(&source);
        let polled = world.poll(&source).await;
        tries += 1;
        received += polled.traffic.received;
        if polled.outcome.is_ok() {
            break;
        }
        assert!(tries < 200, "{:?}", polled.outcome);
    }
    let ratio = received as f64 / whole as f64;
    println!("whole {whole}, through the link {received} ({ratio:.2}) in {tries} tries, {:?}", begun.elapsed());
    assert!(ratio <= 1.3);
}

#[tokio::test]
#[ignore = "needs a process of its own"]
async fn memory_of_a_fetch_of_50_mb() {
    let world = World::new("figures-memory");
    let mut random = fastrand::Rng::with_seed(9);
    let big: String = std::iter::repeat_with(|| random.alphanumeric()).take(10 << 20).collect();
    world.repo.write("big.yaml", &big).unwrap();
    drop(big);
    fill(&world, 800, 50_000);
    let peak = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
    };
    // From here on, the peak is the fetch's.
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = peak();
    let polled = world.poll(&world.source()).await;
    polled.outcome.unwrap();
    println!("received {}, peak {} MiB, {} MiB of it before", polled.traffic.received, peak(), before);
    assert!(peak() < 64 + before);
}
