//! A bad link: a TCP relay that delays, throttles, cuts and corrupts, each by a seed.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::door::Door;
use crate::front::lock;

/// How bad. With the defaults, and any seed, it is a good link.
#[derive(Clone, Debug, Default)]
pub struct RelayOptions {
    /// Decides where cuts and flipped bits fall. The same seed and the same traffic give the same trouble.
    pub seed: u64,
    /// Each piece comes this much later, in each direction.
    pub delay: Duration,
    /// The rate of each direction of each connection.
    pub bytes_per_second: Option<u64>,
    /// A connection breaks after this many bytes in one direction, on average.
    pub cut_every: Option<u64>,
    /// A bit flips every so many bytes, on average.
    pub corrupt_every: Option<u64>,
}

/// A relay to one address; ends when dropped.
pub struct Relay {
    door: Door,
    options: Arc<Mutex<RelayOptions>>,
    passed: Arc<AtomicU64>,
    connections: Arc<AtomicU64>,
}

impl Relay {
    /// Relays to `target`.
    ///
    /// # Errors
    /// When loopback has no port left.
    pub fn start(target: SocketAddr, options: RelayOptions) -> Result<Self> {
        let (options, passed) = (Arc::new(Mutex::new(options)), Arc::new(AtomicU64::new(0)));
        let connections = Arc::new(AtomicU64::new(0));
        let (current, count, made) = (options.clone(), passed.clone(), connections.clone());
        let door = Door::open("relay", move |stream| {
            let options = lock(&current).clone();
            // Each connection its own row of numbers: their order in time then changes nothing.
            let seed = options.seed.wrapping_add(made.fetch_add(1, Ordering::Relaxed) << 1);
            relay(stream, target, options, seed, count.clone())
        })?;
        Ok(Self { door, options, passed, connections })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.door.addr()
    }

    /// Bytes that passed so far, both directions.
    pub fn passed(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }

    /// Connections that were made so far.
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// For connections from now on.
    pub fn set(&self, options: RelayOptions) {
        *lock(&self.options) = options;
    }

    /// Refuses connections, and breaks those that are there.
    pub fn down(&self) {
        self.door.shut();
    }

    /// Takes connections again, on the same port.
    pub fn up(&self) {
        self.door.reopen();
    }
}

async fn relay(near: TcpStream, target: SocketAddr, options: RelayOptions, seed: u64, passed: Arc<AtomicU64>) {
    let Ok(far) = TcpStream::connect(target).await else { return };
    let _ = far.set_nodelay(true);
    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
    let there = Link::new(&options, seed, passed.clone()).copy(near_in, far_out);
    let back = Link::new(&options, seed.wrapping_add(1), passed).copy(far_in, near_out);
    // An end of one direction is passed on; trouble in one breaks both.
    let _ = tokio::try_join!(there, back);
}

/// One direction of one connection.
struct Link {
    options: RelayOptions,
    random: fastrand::Rng,
    passed: Arc<AtomicU64>,
    to_cut: Option<u64>,
    to_flip: Option<u64>,
}

impl Link {
    fn new(options: &RelayOptions, seed: u64, passed: Arc<AtomicU64>) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let to_cut = options.cut_every.map(|mean| around(&mut random, mean));
        let to_flip = options.corrupt_every.map(|mean| around(&mut random, mean));
        Self { options: options.clone(), random, passed, to_cut, to_flip }
    }

    /// Two halves: what comes in is cut, flipped and held to the rate, what goes out is late by the delay. So a delay costs no rate.
    async fn copy(self, from: impl AsyncRead + Unpin, to: impl AsyncWrite + Unpin) -> Result<()> {
        let (passed, (pieces, on_the_way)) = (self.passed.clone(), mpsc::channel(QUEUE));
        tokio::try_join!(self.take(from, pieces), give(on_the_way, to, passed)).map(drop)
    }

    async fn take(mut self, mut from: impl AsyncRead + Unpin, pieces: mpsc::Sender<Piece>) -> Result<()> {
        let mut buffer = vec![0; 8 * 1024];
        loop {
            let read = from.read(&mut buffer).await?;
            if read == 0 {
                pieces.send((Instant::now() + self.options.delay, Some(Vec::new()))).await?;
                return Ok(());
            }
            let mut piece = &mut buffer[..read];
            if let Some(left) = self.to_cut {
                let keep = usize::try_from(left).unwrap_or(usize::MAX).min(piece.len());
                piece = &mut piece[..keep];
            }
            self.flip(piece);
            if let Some(rate) = self.options.bytes_per_second {
                tokio::time::sleep(Duration::from_secs_f64(piece.len() as f64 / rate.max(1) as f64)).await;
            }
            let due = Instant::now() + self.options.delay;
            pieces.send((due, Some(piece.to_vec()))).await?;
            if let Some(left) = &mut self.to_cut {
                *left -= piece.len() as u64;
                if *left == 0 {
                    pieces.send((due, None)).await?;
                    return Ok(());
                }
            }
        }
    }

    fn flip(&mut self, mut piece: &mut [u8]) {
        while let (Some(left), Some(mean)) = (self.to_flip, self.options.corrupt_every) {
            let size = piece.len() as u64;
            if left >= size {
                self.to_flip = Some(left - size);
                return;
            }
            let (_, rest) = piece.split_at_mut(usize::try_from(left).unwrap_or_default());
            rest[0] ^= 1 << self.random.u8(..8);
            piece = &mut rest[1..];
            self.to_flip = Some(around(&mut self.random, mean));
        }
    }
}

/// When it is due, and the bytes: none at the end, nothing at all where the connection breaks.
type Piece = (Instant, Option<Vec<u8>>);

/// Pieces that may be on their way at once.
const QUEUE: usize = 1_024;

async fn give(
    mut pieces: mpsc::Receiver<Piece>,
    mut to: impl AsyncWrite + Unpin,
    passed: Arc<AtomicU64>,
) -> Result<()> {
    while let Some((due, piece)) = pieces.recv().await {
        tokio::time::sleep_until(due).await;
        let Some(piece) = piece else { anyhow::bail!("cut on order") };
        if piece.is_empty() {
            return Ok(to.shutdown().await?);
        }
        // Before it is written: whoever has received it finds it counted.
        passed.fetch_add(piece.len() as u64, Ordering::Relaxed);
        to.write_all(&piece).await?;
    }
    Ok(())
}

/// Between half and one and a half of the mean, at least 1.
fn around(random: &mut fastrand::Rng, mean: u64) -> u64 {
    (mean / 2 + random.u64(..=mean)).max(1)
}
