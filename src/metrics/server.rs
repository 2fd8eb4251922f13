//! The listening side. A client that hangs or sends nonsense is left; the capture does not wait.

use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::time::Duration;

use super::Scrape;
use super::place::Place;
use super::text::{CONTENT_TYPE, render};
use crate::serve::socket::{self, OwnSocket, SocketError};
use crate::serve::{Accepting, Client, Service};

/// Clients at a time; others are left.
const CLIENTS_MAX: usize = 8;
/// Bytes of a request.
const REQUEST_BYTES_MAX: usize = 8192;
const HEADERS_MAX: usize = 64;
/// How long a client may take for its request, whole, and for taking the answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks whoever captures for a scrape.
pub type Deliver = Arc<dyn Fn(Sender<Scrape>) + Send + Sync>;

/// A listening server; it ends when this is dropped.
#[derive(Debug)]
pub struct Server {
    place: Place,
    // In this order: nobody comes any more, then the name goes.
    _accepting: Accepting,
    _socket: Option<OwnSocket>,
}

impl Server {
    /// Listens.
    ///
    /// # Errors
    /// What the system says, what is in the way.
    pub fn start(place: &Place, deliver: Deliver) -> io::Result<Server> {
        let (listener, place, socket) = open(place)?;
        let service = Service {
            name: "metrics",
            clients_max: CLIENTS_MAX,
            is_favoured: |_| false,
            full: b"",
            serve: Arc::new(move |client| _ = serve(client, &deliver)),
        };
        Ok(Server {
            _accepting: Accepting::start(listener, service)?,
            place,
            _socket: socket,
        })
    }

    /// Where it listens: the port, where 0 was asked for.
    pub fn place(&self) -> &Place {
        &self.place
    }
}

fn open(place: &Place) -> io::Result<(OwnedFd, Place, Option<OwnSocket>)> {
    match place {
        Place::Tcp(address) => {
            let listener = TcpListener::bind(address)?;
            let address = listener.local_addr()?;
            Ok((listener.into(), Place::Tcp(address), None))
        }
        Place::Unix(path) => {
            let listening = path
                .parent()
                .map_or(Ok(()), socket::make_directory)
                .and_then(|()| socket::listen_at(path, socket::NO_CONTROL_MODE, None));
            let (listener, socket) = listening.map_err(|error| match error {
                SocketError::System(_, error) => error,
                error => io::Error::other(error),
            })?;
            Ok((listener, place.clone(), Some(socket)))
        }
    }
}

fn serve(mut client: &Client, deliver: &Deliver) -> io::Result<()> {
    client.has_its_turn(PATIENCE);
    let request = read_request(client)?;
    client.is_answered();
    let (status, body) = match request {
        Some((method, path)) => answer(&method, &path, deliver),
        None => ("400 Bad Request", "this is no HTTP request\n".to_owned()),
    };
    let kind = if status.starts_with("200") {
        CONTENT_TYPE
    } else {
        "text/plain"
    };
    let text = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    client.has_its_turn(PATIENCE);
    client.write_all(text.as_bytes())
}

/// The method and the path asked for; `None` of what is no request.
fn read_request(mut client: &Client) -> io::Result<Option<(String, String)>> {
    let (mut request, mut filled) = (vec![0; REQUEST_BYTES_MAX], 0);
    loop {
        let read = client.read(&mut request[filled..])?;
        if read == 0 {
            return Ok(None);
        }
        filled += read;
        // What asks for no HTTP is told so at once.
        let mut lines = request[..filled].split_inclusive(|byte| *byte == b'\n');
        let first = lines.next().filter(|line| line.ends_with(b"\n"));
        if first.is_some_and(|line| !line.windows(6).any(|part| part == b" HTTP/")) {
            return Ok(None);
        }
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
