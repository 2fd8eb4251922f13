//! The measured thing: datagrams to an echo behind the router, one at a time, and back.

use std::io::{self, ErrorKind};
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use lwnflog::sys::cpu::pin_thread;
use serde::{Deserialize, Serialize};

use super::route::Route;
use crate::child::Interrupt;

/// With its headers a frame of 64 bytes.
const PAYLOAD_BYTES: usize = 22;
/// A probe that is not back by then is lost.
const PATIENCE: Duration = Duration::from_secs(1);
/// How soon the echo sees that it is not needed any more.
const ECHO_POLL: Duration = Duration::from_millis(20);

/// How to probe.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) probes: u64,
    pub(super) probes_per_second: u64,
    /// Probes sent before, and not looked at: addresses are resolved, code is used for the first
    /// time.
    pub(super) warm_up: u64,
    /// Where probe and echo run, which never do at the same time; wherever the scheduler likes,
    /// without.
    pub(super) core: Option<usize>,
}

/// Round trips of one round, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Times {
    pub(super) probes: u64,
    pub(super) lost: u64,
    pub(super) min_us: f64,
    pub(super) median_us: f64,
    pub(super) p99_us: f64,
    pub(super) max_us: f64,
}

impl Times {
    /// None if no probe came back.
    fn of(probes: u64, mut round_trips: Vec<Duration>) -> Option<Self> {
        round_trips.sort_unstable();
        let us = |time: &Duration| time.as_nanos() as f64 / 1e3;
        // The nearest rank: so many percent of the probes took no longer than this.
        let percentile = |percent: usize| {
            let rank = (round_trips.len() * percent).div_ceil(100).max(1);
            round_trips.get(rank - 1).map(us)
        };
        Some(Self {
            probes,
            lost: probes - round_trips.len() as u64,
            min_us: us(round_trips.first()?),
            median_us: percentile(50)?,
            p99_us: percentile(99)?,
            max_us: us(round_trips.last()?),
        })
    }
}

/// Sends all probes of a round.
pub(super) fn round(route: &Route, plan: Plan, interrupt: &Interrupt) -> Result<Times> {
    let bind = |address| UdpSocket::bind((address, 0));
    let echo_socket = route
        .far
        .run(|| bind(route.far_address()))?
        .context("cannot open the echo's socket")?;
    let socket = route
        .lab
        .sender()
        .run(|| bind(route.lab.tx().address))?
        .and_then(|socket| socket.connect(echo_socket.local_addr()?).map(|()| socket))
        .context("cannot open the probe's socket")?;
    let over = AtomicBool::new(false);
    let (round_trips, echoed) = thread::scope(|scope| {
        let echo = scope.spawn(|| echo(&echo_socket, plan.core, &over));
        let probe = scope.spawn(|| probe(&socket, plan, interrupt));
        let round_trips = probe.join();
        over.store(true, Ordering::Relaxed);
        (round_trips, echo.join())
    });
    echoed
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        .context("the echo failed")?;
    let round_trips = round_trips
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        .context("the probe failed")?;
    interrupt.check()?;
    Times::of(plan.probes, round_trips).context("no probe came back")
}

/// Sends back what comes.
fn echo(socket: &UdpSocket, core: Option<usize>, over: &AtomicBool) -> io::Result<()> {
    core.map_or(Ok(()), pin_thread)?;
    socket.set_read_timeout(Some(ECHO_POLL))?;
    let mut payload = [0; PAYLOAD_BYTES];
    while !over.load(Ordering::Relaxed) {
        match socket.recv_from(&mut payload) {
            Ok((len, from)) => {
                socket.send_to(&payload[..len], from)?;
            }
            Err(error) if is_temporary(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The round trips of the probes that came back; those of the warm-up are not among them.
fn probe(socket: &UdpSocket, plan: Plan, interrupt: &Interrupt) -> io::Result<Vec<Duration>> {
    plan.core.map_or(Ok(()), pin_thread)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut round_trips = Vec::with_capacity(usize::try_from(plan.probes).unwrap_or(0));
    let interval = Duration::from_secs(1) / u32::try_from(plan.probes_per_second).unwrap_or(1);
    let mut due = Instant::now();
    for number in 0..plan.warm_up + plan.probes {
        if interrupt.happened() {
            break;
        }
        thread::sleep(due.saturating_duration_since(Instant::now()));
        // One that took long delays those behind it: they do not come in a burst.
        due = Instant::now() + interval;
        let round_trip = round_trip(socket, number)?;
        if number >= plan.warm_up {
            round_trips.extend(round_trip);
        }
    }
    Ok(round_trips)
}

/// None if the probe was lost. [`Instant`] is CLOCK_MONOTONIC.
fn round_trip(socket: &UdpSocket, number: u64) -> io::Result<Option<Duration>> {
    let mut sent = [0; PAYLOAD_BYTES];
    sent[..8].copy_from_slice(&number.to_be_bytes());
    let mut received = [0; PAYLOAD_BYTES];
    let begun = Instant::now();
    socket.send(&sent)?;
    loop {
        let came = socket.recv(&mut received);
        let taken = begun.elapsed();
        match came {
            Ok(_) if received == sent => return Ok(Some(taken)),
            Ok(_) => {} // one that was given up
            Err(error) if is_temporary(&error) => {}
            Err(error) => return Err(error),
        }
        if taken >= PATIENCE {
            return Ok(None);
        }
    }
}

/// Nothing came in time, or a signal did.
fn is_temporary(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let us = Duration::from_micros;
        let times = Times::of(202, (1..=200).rev().map(us).collect()).unwrap();
        assert_eq!((times.probes, times.lost), (202, 2));
        assert_eq!((times.median_us, times.p99_us), (100.0, 198.0));
        assert_eq!((times.min_us, times.max_us), (1.0, 200.0));
        let one = Times::of(1, vec![us(7)]).unwrap();
        assert_eq!((one.median_us, one.p99_us), (7.0, 7.0));
        assert_eq!(Times::of(5, Vec::new()), None);
    }
}
