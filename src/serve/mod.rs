//! What listens: sockets that are nobody else's, and clients that are served a few at a time, by
//! threads that are there before they come.
//!
//! ```text
//!   listener ──accept──> pool: one of its threads ──> whoever serves: control/server.rs, metrics/server.rs
//! ```
//!
//! A thread that is made for a client needs memory mapped, which waits while the capture's own pages
//! wait for a disk that hangs. So all are made at the start, and none later.

pub mod client;
mod pool;
pub mod socket;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::net::{Shutdown, SocketFlags, accept_with, shutdown};

use crate::sys::capabilities;
pub use client::Client;
use pool::Pool;

/// How clients are served.
pub struct Service {
    /// The threads' name.
    pub name: &'static str,
    /// Clients at a time.
    pub clients_max: usize,
    /// Whether a client may take the place of another one that says nothing.
    pub is_favoured: fn(&OwnedFd) -> bool,
    /// What one is told that finds no place.
    pub full: &'static [u8],
    /// Serves one to its end.
    pub serve: Arc<dyn Fn(&Client) + Send + Sync>,
}

/// A thread that accepts. It ends when this is dropped.
#[derive(Debug)]
pub struct Accepting {
    listener: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Accepting {
    /// Accepts clients of a socket that listens.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn start(listener: OwnedFd, service: Service) -> io::Result<Accepting> {
        let (name, listener) = (service.name, Arc::new(listener));
        let listening = Arc::clone(&listener);
        let pool = Pool::start(service)?;
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || accept(&listening, &pool))?;
        Ok(Accepting {
            listener,
            thread: Some(thread),
        })
    }
}

impl Drop for Accepting {
    fn drop(&mut self) {
        let ended = shutdown(&*self.listener, Shutdown::Both).is_ok();
        if let Some(thread) = self.thread.take().filter(|_| ended) {
            let _ = thread.join();
        }
    }
}

fn accept(listener: &OwnedFd, pool: &Pool) {
    /// After an error that may go by itself: no descriptor is left.
    const PAUSE: Duration = Duration::from_millis(100);
    let _ = capabilities::give_up();
    loop {
        match accept_with(listener, SocketFlags::CLOEXEC) {
            Ok(socket) => pool.take(socket),
            // It listens no more.
            Err(rustix::io::Errno::INVAL) => return,
            Err(_) => thread::sleep(PAUSE),
        }
    }
}
