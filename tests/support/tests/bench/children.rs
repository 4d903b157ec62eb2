use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use wickie_testbench::child::Child;
use wickie_testbench::{Scratch, eventually};

#[tokio::test]
async fn a_child_ends_with_sigterm_and_its_code_is_known() {
    let scratch = Scratch::new("child");
    let mut command = Command::new("sh");
    command.args(["-c", "trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.05; done"]);
    let mut child = Child::spawn("sh", &command, &scratch.join("log")).expect("starts");
    eventually("the trap is set", Duration::from_secs(20), || async {
        anyhow::ensure!(child.log_tail(1) == "ready", "{}", child.log_tail(1));
        Ok(())
    })
    .await;
    assert_eq!(child.stop(Duration::from_secs(20)).await.expect("ends"), 7);
    assert_eq!(child.log_tail(1), "bye");
}

#[tokio::test]
async fn a_child_that_ends_early_is_named_with_the_end_of_its_log() {
    let scratch = Scratch::new("child");
    let mut command = Command::new("sh");
    command.args(["-c", "echo the reason >&2; exit 3"]);
    let mut child = Child::spawn("the thing", &command, &scratch.join("log")).expect("starts");
    let error = eventually("it ends", Duration::from_secs(20), || {
        let ended = child.check().err().ok_or("still runs");
        async { ended }
    })
    .await;
    let text = error.to_string();
    assert!(text.contains("the thing ended with code 3") && text.contains("the reason"), "{text}");
}

/// Nothing by itself. The next test starts this binary with a variable set, and then it is a process that starts a child and waits.
#[test]
fn starts_a_child_and_waits() {
    let Ok(log) = std::env::var("BENCH_CHILD_LOG") else { return };
    let mut command = Command::new("sleep");
    command.arg("600");
    let child = Child::spawn("sleep", &command, &PathBuf::from(log)).expect("starts");
    println!("child {}", child.pid());
    std::thread::sleep(Duration::from_secs(600));
}

#[tokio::test]
async fn sigkill_of_the_test_process_takes_its_children_along() {
    let scratch = Scratch::new("child");
    let mut parent = Command::new(std::env::current_exe().expect("a test has a binary"))
        .args(["--exact", "--nocapture", "children::starts_a_child_and_waits"])
        .env("BENCH_CHILD_LOG", scratch.join("log"))
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let lines = BufReader::new(parent.stdout.take().expect("piped")).lines();
    let pid = lines.map_while(Result::ok).find_map(|line| line.split_once("child ").map(|(_, pid)| pid.to_owned()));
    let proc = PathBuf::from(format!("/proc/{}", pid.expect("it prints the pid")));
    assert!(proc.exists());
    parent.kill().expect("SIGKILL");
    parent.wait().expect("gone");
    eventually("the child is gone too", Duration::from_secs(20), || async {
        anyhow::ensure!(!proc.exists(), "{} is there", proc.display());
        Ok(())
    })
    .await;
}
