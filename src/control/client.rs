//! The asking side, for `lwnflog ctl`.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::VERSION;
use super::request::Request;
use crate::serve::socket;

/// Longer than a capture takes for any answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long one may take to say that it is one.
const PATIENCE_TO_LIST: Duration = Duration::from_secs(1);
/// Longer than any answer.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Sends a request, and returns the answer.
///
/// # Errors
/// What the system says; `TimedOut` of a capture that does not answer; an answer that is none.
pub fn ask(socket: &Path, request: &Request) -> io::Result<Value> {
    ask_within(socket, request, PATIENCE)
}

fn ask_within(socket: &Path, request: &Request, patience: Duration) -> io::Result<Value> {
    let deadline = Instant::now() + patience;
    let mut stream = UnixStream::connect(socket)?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.set_write_timeout(Some(patience))?;
    // One that finds no place may have been told so, and left.
    let sent = stream.write_all(&line);
    let mut answer = Vec::new();
    let mut some = [0; 4096];
    while answer.last() != Some(&b'\n') && answer.len() < ANSWER_BYTES_MAX {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(silent(patience));
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut some) {
            Ok(0) => break,
            Ok(read) => answer.extend_from_slice(&some[..read]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    if answer.is_empty() {
        sent?;
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    serde_json::from_slice(&answer).map_err(|_| {
        let what = "what answers there is no capture's control socket";
        io::Error::new(io::ErrorKind::InvalidData, what)
    })
}

fn silent(patience: Duration) -> io::Error {
    let text = format!(
        "it has not answered for {} s: it is stopped, or hangs",
        patience.as_secs()
    );
    io::Error::new(io::ErrorKind::TimedOut, text)
}

/// Whether a capture is behind a socket, as far as can be seen: one that is stopped, or may not be
/// asked, is one.
pub fn is_capture(path: &Path) -> bool {
    if !socket::may_be_control(path) {
        return false;
    }
    let request = Request {
        v: VERSION,
        command: "settings".to_owned(),
        args: Vec::new(),
        confirm_secs: None,
    };
    match ask_within(path, &request, PATIENCE_TO_LIST) {
        Ok(answer) => answer["ok"].is_boolean(),
        Err(error) => matches!(
            error.kind(),
            io::ErrorKind::TimedOut | io::ErrorKind::PermissionDenied
        ),
    }
}
