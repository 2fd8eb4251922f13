//! The listening side: a thread that accepts, and one for each client, of which there are few.
//!
//! A client that says nothing, too much, or nothing sensible gets an error or is left; whatever it
//! does, the capture does not wait for it.

use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::{Value, json};

use super::VERSION;
use super::place;
use super::request::{Asked, Request};
use crate::sys::capabilities;

/// Clients at a time. Others are told so, and left.
pub const CLIENTS_MAX: usize = 16;
/// Bytes of a request.
pub const REQUEST_BYTES_MAX: u64 = 8192;
/// How long a client may take for its next request, or for taking an answer.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// How long an answer may take to come about.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// One request on its way to whoever carries it out.
#[derive(Debug)]
pub struct Call {
    /// What is asked.
    pub asked: Asked,
    /// Who asks: `uid 0`.
    pub by: String,
    answer: Sender<Value>,
}

impl Call {
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
    path: PathBuf,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
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
        let path = place::socket(directory, name);
        let wrong = |error: io::Error| format!("{}: {error}", path.display());
        let mode = if readers.is_some() { 0o750 } else { 0o700 };
        if !directory.is_dir() {
            DirBuilder::new()
                .recursive(true)
                .mode(mode)
                .create(directory)
                .map_err(wrong)?;
        }
        if path.exists() {
            if UnixStream::connect(&path).is_ok() {
                return Err(format!(
                    "{}: another capture of this name is there; give this one a --name",
                    path.display()
                ));
            }
            fs::remove_file(&path).map_err(wrong)?; // of one that was killed
        }
        let listener = UnixListener::bind(&path).map_err(wrong)?;
        let mode = if readers.is_some() { 0o660 } else { 0o600 };
        fs::set_permissions(&path, Permissions::from_mode(mode)).map_err(wrong)?;
        if let Some(gid) = readers {
            chown(&path, None, Some(gid)).map_err(wrong)?;
            let _ = chown(directory, None, Some(gid));
        }
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || accept(&listener, &stopped, &deliver))
            .map_err(wrong)?;
        Ok(Server {
            path,
            stop,
            thread: Some(thread),
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let woken = UnixStream::connect(&self.path).is_ok();
        let _ = fs::remove_file(&self.path);
        if let Some(thread) = self.thread.take().filter(|_| woken) {
            let _ = thread.join();
        }
    }
}

fn accept(listener: &UnixListener, stop: &AtomicBool, deliver: &Arc<dyn Fn(Call) + Send + Sync>) {
    /// After an error that may go by itself: no descriptor is left.
    const PAUSE: Duration = Duration::from_millis(100);
    let _ = capabilities::give_up();
    let clients = Arc::new(AtomicUsize::new(0));
    while !stop.load(Ordering::Relaxed) {
        let Ok((stream, _)) = listener.accept() else {
            thread::sleep(PAUSE);
            continue;
        };
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let timeouts = stream
            .set_read_timeout(Some(PATIENCE))
            .and_then(|()| stream.set_write_timeout(Some(PATIENCE)));
        if timeouts.is_err() {
            continue;
        }
        if clients.fetch_add(1, Ordering::Relaxed) >= CLIENTS_MAX {
            clients.fetch_sub(1, Ordering::Relaxed);
            // Its buffer is empty: this does not wait.
            let _ = send(&stream, &refusal("too many clients at a time"));
            continue;
        }
        let (deliver, counted) = (Arc::clone(deliver), Arc::clone(&clients));
        let served = thread::Builder::new()
            .name("control-client".to_owned())
            .spawn(move || {
                let _ = serve(&stream, &*deliver);
                counted.fetch_sub(1, Ordering::Relaxed);
            });
        if served.is_err() {
            clients.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Answers one client's requests until it goes.
fn serve(stream: &UnixStream, deliver: &dyn Fn(Call)) -> io::Result<()> {
    let peer = rustix::net::sockopt::socket_peercred(stream)?;
    let own = rustix::process::geteuid();
    let may_change = peer.uid.is_root() || peer.uid == own;
    let by = format!("uid {}", peer.uid.as_raw());
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        let read = reader
            .by_ref()
            .take(REQUEST_BYTES_MAX)
            .read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(());
        }
        if line.last() != Some(&b'\n') {
            send(
                stream,
                &refusal("a request is one line of at most 8192 bytes"),
            )?;
            return Ok(());
        }
        let answer = match asked(&line) {
            Err(error) => refusal(&error),
            Ok(asked) if !may_change && !asked.is_harmless() => {
                refusal("this takes root or the capture's own user")
            }
            Ok(asked) => {
                let (answer, answers) = mpsc::channel();
                let by = by.clone();
                deliver(Call { asked, by, answer });
                answers
                    .recv_timeout(ANSWER_MAX)
                    .unwrap_or_else(|_| refusal("the capture has not answered, or has ended"))
            }
        };
        send(stream, &answer)?;
    }
}

fn asked(line: &[u8]) -> Result<Asked, String> {
    let request: Request =
        serde_json::from_slice(line).map_err(|error| format!("this is no request: {error}"))?;
    Asked::of(&request)
}

fn send(mut stream: &UnixStream, answer: &Value) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    stream.write_all(&line)
}
