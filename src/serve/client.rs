//! A client, and how long it may take for what.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};

/// One connection. Reading and writing end at the deadline of what is done just now, however little
/// comes at a time.
#[derive(Debug)]
pub struct Client {
    socket: OwnedFd,
    pub(super) favoured: bool,
    now: Mutex<Now>,
}

#[derive(Debug, Clone, Copy)]
struct Now {
    /// It is the client's turn, since then.
    silent_since: Option<Instant>,
    deadline: Instant,
}

impl Client {
    pub(super) fn new(socket: OwnedFd, favoured: bool) -> Client {
        let now = Instant::now();
        Client {
            socket,
            favoured,
            now: Mutex::new(Now {
                silent_since: Some(now),
                deadline: now,
            }),
        }
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It may take so long for a whole request, or for taking the answer.
    pub fn has_its_turn(&self, patience: Duration) {
        let now = Instant::now();
        *self.now() = Now {
            silent_since: Some(now),
            deadline: now + patience,
        };
    }

    /// Its request is there, and the answer comes about: it is not the client's turn.
    pub fn is_answered(&self) {
        self.now().silent_since = None;
    }

    /// How long it has been its turn.
    pub(super) fn silence(&self) -> Option<Duration> {
        self.now().silent_since.map(|since| since.elapsed())
    }

    /// Has whoever serves it find its end.
    pub(super) fn send_away(&self) {
        self.now().silent_since = None;
        let _ = shutdown(&self.socket, Shutdown::Both);
    }

    /// The connection.
    pub fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// Whether nobody is there any more who could take an answer.
    pub fn has_gone(&self) -> bool {
        let mut asked = [PollFd::new(&self.socket, PollFlags::empty())];
        let told = poll(&mut asked, Some(&Timespec::default()));
        told.is_ok()
            && asked[0]
                .revents()
                .intersects(PollFlags::HUP | PollFlags::ERR)
    }

    fn wait(&self, event: PollFlags) -> io::Result<()> {
        let deadline = self.now().deadline;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let mut asked = [PollFd::new(&self.socket, event)];
            let left = Timespec::try_from(left).unwrap_or_default();
            match poll(&mut asked, Some(&left)) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Read for &Client {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            self.wait(PollFlags::IN)?;
            match recv(&self.socket, &mut *buffer, RecvFlags::DONTWAIT) {
                Ok((read, _)) => return Ok(read),
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Write for &Client {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            self.wait(PollFlags::OUT)?;
            match send(
                &self.socket,
                bytes,
                SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
            ) {
                Ok(written) => return Ok(written),
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
