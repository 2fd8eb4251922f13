//! The threads that serve, and who has which place.

use std::hint::black_box;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::net::{SendFlags, send};

use super::{Client, Service};
use crate::sys::capabilities;

/// A client that has said nothing, or taken nothing, for so long gives its place to the next one.
const SILENT: Duration = Duration::from_secs(1);
/// What serving takes of memory, at the most.
const HEAP_BYTES: usize = 256 << 10;

pub(super) struct Pool {
    service: Service,
    to_threads: Sender<Arc<Client>>,
    clients: Clients,
}

/// Those that have a place.
type Clients = Arc<Mutex<Vec<Arc<Client>>>>;

fn locked(clients: &Clients) -> MutexGuard<'_, Vec<Arc<Client>>> {
    clients.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    pub(super) fn start(service: Service) -> io::Result<Pool> {
        let (to_threads, waiting) = mpsc::channel();
        let waiting = Arc::new(Mutex::new(waiting));
        let clients = Clients::default();
        for _ in 0..service.clients_max {
            let (serve, waiting) = (Arc::clone(&service.serve), Arc::clone(&waiting));
            let clients = Arc::clone(&clients);
            thread::Builder::new()
                .name(format!("{}-client", service.name))
                .spawn(move || {
                    let _ = capabilities::give_up();
                    // The thread's own heap is made now, not when a client comes.
                    drop(black_box(vec![1_u8; HEAP_BYTES]));
                    while let Some(client) = next(&waiting) {
                        serve(&client);
                        locked(&clients).retain(|other| !Arc::ptr_eq(other, &client));
                    }
                })?;
        }
        Ok(Pool {
            service,
            to_threads,
            clients,
        })
    }

    /// Has it served. Where there is no place, one that says nothing is sent away for it, or it is.
    pub(super) fn take(&self, socket: OwnedFd) {
        let favoured = (self.service.is_favoured)(&socket);
        let client = Arc::new(Client::new(socket, favoured));
        let mut clients = locked(&self.clients);
        if clients.len() >= self.service.clients_max {
            let may_go = |other: &&Arc<Client>| {
                // One that does not take its answer is silent, too.
                let silent = other.silence().is_some_and(|silence| silence >= SILENT);
                silent || favoured && !other.favoured
            };
            let silent = clients.iter().filter(may_go);
            let Some(at) =
                silent.min_by_key(|other| (other.favoured, std::cmp::Reverse(other.silence())))
            else {
                // Its buffer is empty: this does not wait.
                let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
                let _ = send(client.socket(), self.service.full, flags);
                return;
            };
            at.send_away();
            let gone = Arc::clone(at);
            clients.retain(|other| !Arc::ptr_eq(other, &gone));
        }
        clients.push(Arc::clone(&client));
        let _ = self.to_threads.send(client);
    }
}

fn next(waiting: &Mutex<Receiver<Arc<Client>>>) -> Option<Arc<Client>> {
    let waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
    waiting.recv().ok()
}
