//! The listening side: what clients ask, and what they are answered (`serve/` has who is served).
//!
//! A client that says nothing, too much, or nothing sensible gets an error or is left; whatever it
//! does, the capture does not wait for it.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::time::Duration;

use rustix::process::Uid;
use serde_json::{Value, json};

use super::VERSION;
use super::request::{Asked, Request};
use crate::serve::socket::{self, OwnSocket, SocketError};
use crate::serve::{Accepting, Client, Service};

/// Clients at a time. Others are told so, and left.
pub const CLIENTS_MAX: usize = 16;
/// Bytes of a request.
pub const REQUEST_BYTES_MAX: u64 = 8192;
/// How long a client may take for its next request, whole, or for taking an answer.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// How long an answer may take to come about; a client waits a little longer.
const ANSWER_MAX: Duration = Duration::from_secs(9);
/// What a client is told for which there is no place.
const FULL: &[u8] = b"{\"error\":\"too many clients at a time\",\"ok\":false,\"v\":1}\n";

/// One request on its way to whoever carries it out.
#[derive(Debug)]
pub struct Call {
    /// What is asked.
    pub asked: Asked,
    /// Who asks: `uid 0`.
    pub by: String,
    /// Nobody waits for it any more; or it is being carried out.
    given_up: Arc<AtomicBool>,
    answer: Sender<Value>,
}

impl Call {
    /// Whether it is to be carried out still. From now on it is.
    pub fn is_wanted(&self) -> bool {
        !self.given_up.swap(true, Ordering::Relaxed)
    }

    /// Answers it. The client may have gone.
    pub fn answer(self, answer: Result<Value, String>) {
        let _ = self.answer.send(match answer {
            Ok(Value::Object(mut fields)) => {
                fields.insert("v".to_owned(), VERSION.into());
                fields.insert("ok".to_owned(), true.into());
                Value::Object(fields)
            }
            Ok(other) => json!({ "v": VERSION, "ok": true, "done": other }),
            Err(error) => refusal(&error),
        });
    }
}

fn refusal(error: &str) -> Value {
    json!({ "v": VERSION, "ok": false, "error": error })
}

/// A listening socket, removed when this is dropped.
#[derive(Debug)]
pub struct Server {
    // In this order: nobody comes any more, then the name goes.
    _accepting: Accepting,
    socket: OwnSocket,
}

impl Server {
    /// Listens as `name` in `directory`. `deliver` takes what is asked, from any thread. Members of
    /// the group of users `readers` may look, and change nothing.
    ///
    /// # Errors
    /// What is in the way, in words: another capture of this name, no right.
    pub fn start(
        directory: &Path,
        name: &str,
        readers: Option<u32>,
        deliver: Arc<dyn Fn(Call) + Send + Sync>,
    ) -> Result<Server, String> {
        let path = directory.join(format!("{name}.sock"));
        let mode = if readers.is_some() { 0o660 } else { 0o600 };
        let listening = socket::make_directory(directory)
            .and_then(|()| match readers {
                Some(gid) => socket::let_in(directory, gid),
                None => Ok(()),
            })
            .and_then(|()| socket::listen_at(&path, mode, readers));
        let (listener, socket) = listening.map_err(|error| match error {
            SocketError::Taken(path) => format!(
                "{}: another capture of this name is there; give this one a --name",
                path.display()
            ),
            error => error.to_string(),
        })?;
        let service = Service {
            name: "control",
            clients_max: CLIENTS_MAX,
            is_favoured: may_change,
            full: FULL,
            serve: Arc::new(move |client| _ = serve(client, &*deliver)),
        };
        let accepting = Accepting::start(listener, service)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Server {
            _accepting: accepting,
            socket,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.socket.path()
    }
}

fn peer(socket: &OwnedFd) -> Option<Uid> {
    let peer = rustix::net::sockopt::socket_peercred(socket);
    peer.ok().map(|peer| peer.uid)
}

/// Root and the capture's own user.
fn may_change(socket: &OwnedFd) -> bool {
    let own = rustix::process::geteuid();
    peer(socket).is_some_and(|uid| uid.is_root() || uid == own)
}

/// Answers one client's requests until it goes.
fn serve(client: &Client, deliver: &dyn Fn(Call)) -> io::Result<()> {
    let may_change = may_change(client.socket());
    let by = match peer(client.socket()) {
        Some(uid) => format!("uid {}", uid.as_raw()),
        None => return Ok(()),
    };
    let mut reader = BufReader::new(client);
    loop {
        client.has_its_turn(PATIENCE);
        let mut line = Vec::new();
        let read = reader
            .by_ref()
            .take(REQUEST_BYTES_MAX)
            .read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(());
        }
        client.is_answered();
        if line.last() != Some(&b'\n') {
            send(
                client,
                &refusal("a request is one line of at most 8192 bytes"),
            )?;
            return Ok(());
        }
        let answer = match asked(&line) {
            Err(error) => refusal(&error),
            Ok(asked) if !may_change && !asked.is_harmless() => {
                refusal("this takes root or the capture's own user")
            }
            // The process was stopped meanwhile: nobody believes any more that this is done.
            Ok(_) if client.has_gone() => return Ok(()),
            Ok(asked) => {
                let (answer, answers) = mpsc::channel();
                let (by, given_up) = (by.clone(), Arc::default());
                deliver(Call {
                    asked,
                    by,
                    given_up: Arc::clone(&given_up),
                    answer,
                });
                answers
                    .recv_timeout(ANSWER_MAX)
                    .unwrap_or_else(|_| match given_up.swap(true, Ordering::Relaxed) {
                        false => refusal("the capture has not answered: nothing is done"),
                        true => refusal(
                            "the capture is at it, and has not answered: whether it is done is not known",
                        ),
                    })
            }
        };
        send(client, &answer)?;
    }
}

fn asked(line: &[u8]) -> Result<Asked, String> {
    let request: Request =
        serde_json::from_slice(line).map_err(|error| format!("this is no request: {error}"))?;
    Asked::of(&request)
}

fn send(mut client: &Client, answer: &Value) -> io::Result<()> {
    client.has_its_turn(PATIENCE);
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    client.write_all(&line)
}
