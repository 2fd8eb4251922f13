//! The listening side. A client that hangs or sends nonsense is left; the capture does not wait.

use std::fs::{self, Permissions};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::Scrape;
use super::place::Place;
use super::text::{CONTENT_TYPE, render};
use crate::sys::capabilities;

/// Clients at a time; others are left.
const CLIENTS_MAX: usize = 8;
/// Bytes of a request.
const REQUEST_BYTES_MAX: usize = 8192;
const HEADERS_MAX: usize = 64;
/// How long a client may take for its request, and for taking the answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks whoever captures for a scrape.
pub type Deliver = Arc<dyn Fn(Sender<Scrape>) + Send + Sync>;

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

trait Stream: Read + Write + Send {}
impl<S: Read + Write + Send> Stream for S {}

impl Listener {
    fn open(place: &Place) -> io::Result<Listener> {
        match place {
            Place::Tcp(address) => TcpListener::bind(address).map(Listener::Tcp),
            Place::Unix(path) => {
                if UnixStream::connect(path).is_err() {
                    let _ = fs::remove_file(path); // of one that was killed
                }
                let listener = UnixListener::bind(path)?;
                fs::set_permissions(path, Permissions::from_mode(0o660))?;
                Ok(Listener::Unix(listener))
            }
        }
    }

    fn accept(&self) -> io::Result<Box<dyn Stream>> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                Ok(Box::new(stream))
            }
            Listener::Unix(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                Ok(Box::new(stream))
            }
        }
    }

    fn place(&self, asked: &Place) -> Place {
        match self {
            Listener::Tcp(listener) => listener.local_addr().map_or(asked.clone(), Place::Tcp),
            Listener::Unix(_) => asked.clone(),
        }
    }
}

/// A listening server; it ends when this is dropped.
#[derive(Debug)]
pub struct Server {
    place: Place,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens.
    ///
    /// # Errors
    /// What the system says.
    pub fn start(place: &Place, deliver: Deliver) -> io::Result<Server> {
        let listener = Listener::open(place)?;
        let place = listener.place(place);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name("metrics".to_owned())
            .spawn(move || accept(&listener, &stopped, &deliver))?;
        Ok(Server {
            place,
            stop,
            thread: Some(thread),
        })
    }

    /// Where it listens: the port, where 0 was asked for.
    pub fn place(&self) -> &Place {
        &self.place
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let woken = match &self.place {
            Place::Tcp(address) => TcpStream::connect_timeout(address, PATIENCE).is_ok(),
            Place::Unix(path) => {
                let woken = UnixStream::connect(path).is_ok();
                let _ = fs::remove_file(path);
                woken
            }
        };
        if let Some(thread) = self.thread.take().filter(|_| woken) {
            let _ = thread.join();
        }
    }
}

fn accept(listener: &Listener, stop: &AtomicBool, deliver: &Deliver) {
    /// After an error that may go by itself: no descriptor is left.
    const PAUSE: Duration = Duration::from_millis(100);
    let _ = capabilities::give_up();
    let clients = Arc::new(AtomicUsize::new(0));
    while !stop.load(Ordering::Relaxed) {
        let Ok(mut stream) = listener.accept() else {
            thread::sleep(PAUSE);
            continue;
        };
        if stop.load(Ordering::Relaxed) || clients.load(Ordering::Relaxed) >= CLIENTS_MAX {
            continue;
        }
        clients.fetch_add(1, Ordering::Relaxed);
        let (deliver, counted) = (Arc::clone(deliver), Arc::clone(&clients));
        let served = thread::Builder::new()
            .name("metrics-client".to_owned())
            .spawn(move || {
                let _ = serve(&mut *stream, &deliver);
                counted.fetch_sub(1, Ordering::Relaxed);
            });
        if served.is_err() {
            clients.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn serve(stream: &mut dyn Stream, deliver: &Deliver) -> io::Result<()> {
    let (status, body) = match read_request(stream)? {
        Some((method, path)) => answer(&method, &path, deliver),
        None => ("400 Bad Request", "this is no HTTP request\n".to_owned()),
    };
    let kind = if status.starts_with("200") {
        CONTENT_TYPE
    } else {
        "text/plain"
    };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )?;
    stream.flush()
}

/// The method and the path asked for; `None` of what is no request.
fn read_request(stream: &mut dyn Stream) -> io::Result<Option<(String, String)>> {
    let (mut request, mut filled) = (vec![0; REQUEST_BYTES_MAX], 0);
    loop {
        let read = stream.read(&mut request[filled..])?;
        if read == 0 {
            return Ok(None);
        }
        filled += read;
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut parsed = httparse::Request::new(&mut headers);
        match parsed.parse(&request[..filled]) {
            Ok(httparse::Status::Complete(_)) => {
                let words = parsed.method.zip(parsed.path);
                return Ok(words.map(|(method, path)| (method.to_owned(), path.to_owned())));
            }
            Ok(httparse::Status::Partial) if filled < REQUEST_BYTES_MAX => {}
            _ => return Ok(None),
        }
    }
}

fn answer(method: &str, path: &str, deliver: &Deliver) -> (&'static str, String) {
    let path = path.split('?').next().unwrap_or_default();
    match (method, path) {
        ("GET", "/metrics") => {}
        ("GET", _) => return ("404 Not Found", "the figures are at /metrics\n".to_owned()),
        _ => {
            return (
                "405 Method Not Allowed",
                "this can be read only\n".to_owned(),
            );
        }
    }
    let (to_here, scrapes) = mpsc::channel();
    deliver(to_here);
    let Ok(scrape) = scrapes.recv_timeout(PATIENCE) else {
        return (
            "503 Service Unavailable",
            "the capture has ended, or does not answer\n".to_owned(),
        );
    };
    match render(&scrape) {
        Ok(text) => ("200 OK", text),
        Err(error) => ("500 Internal Server Error", error),
    }
}
