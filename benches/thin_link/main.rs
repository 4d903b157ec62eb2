//! What a thin link carries: polls, commits, first fetches, a link that breaks, and the memory of a large fetch; each beside the real git.
//!
//!     cargo bench --bench thin_link [-- steps|folder|broken|memory ...]
//!
//! The server is `git http-backend`, over HTTP for what requests and answers come to with their headers, and over TLS for what is on the wire.
//! Both sides go through a relay that counts. `WICKIE_BINARY` names the binary whose memory is measured; everything else is measured in this
//! process, and is the same in every profile. Goals that were missed are named at the end, and the exit code says whether there are any.

#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::panic, reason = "figures are for people")]

mod broken;
mod folder;
mod judge;
mod memory;
mod stand;
mod steps;

use std::process::ExitCode;

use judge::Judge;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let named: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let wanted = |name: &str| named.is_empty() || named.iter().any(|given| given == name);
    let mut judge = Judge::default();
    if wanted("steps") {
        steps::run(&mut judge).await;
    }
    if wanted("folder") {
        folder::run(&mut judge).await;
    }
    if wanted("broken") {
        broken::run(&mut judge).await;
    }
    if wanted("memory") {
        memory::run(&mut judge).await;
    }
    judge.verdict()
}
