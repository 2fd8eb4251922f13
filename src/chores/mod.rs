//! What is done with finished files: compressed, handed to a command. In a process of its own, of
//! the lowest priority, that is started before the capture is.
//!
//! ```text
//!   capture ──path NUL──> stdin  of `lwnflog chores`: a queue, a few at a time
//!           <──line───── stdout: what is to be said
//! ```
//!
//! The process ends when its input does and its queue is empty, however the capture has ended; in
//! half a minute at the most. What it has not done then, the next start takes up (`journal.rs`).

mod compress;
mod journal;
mod orphans;
mod process;

use std::collections::VecDeque;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

pub use compress::{is_built_in, lz4};
pub use journal::{Found, forget};
pub use process::run;
use rustix::io::ioctl_fionbio;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use crate::ring::Compression;
use crate::sys::capabilities;

/// Files at a time.
pub const AT_A_TIME: usize = 2;
/// How long the process goes on when the capture has ended.
pub const END_MAX: Duration = Duration::from_secs(30);
/// What it says of each file that is done.
const DONE: &str = "\u{6}";

/// What to do with each finished file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chores {
    /// Compress it.
    pub compress: Option<Compression>,
    /// Then run this, with the file's path as its last argument.
    pub command: Option<String>,
    /// Have a shell run it: the path is `$1`.
    pub shell: bool,
}

impl Chores {
    /// The command's words, for a file.
    ///
    /// # Errors
    /// Quotes that do not match.
    fn words(&self, file: &Path) -> Result<Option<Vec<OsString>>, String> {
        let Some(command) = &self.command else {
            return Ok(None);
        };
        let mut words: Vec<OsString> = if self.shell {
            ["sh", "-c", command, "sh"].map(OsString::from).to_vec()
        } else {
            let words = shlex::split(command).filter(|words| !words.is_empty());
            let words =
                words.ok_or_else(|| format!("`{command}` is no command: is a quote missing?"))?;
            words.into_iter().map(OsString::from).collect()
        };
        words.push(file.into());
        Ok(Some(words))
    }

    /// What is wrong with it, before anything begins.
    ///
    /// # Errors
    /// A command that is none, a way to compress that this program was built without.
    pub fn check(&self) -> Result<(), String> {
        if let Some(form) = self.compress.filter(|form| !is_built_in(*form)) {
            return Err(format!(
                "this lwnflog was built without {}: take the other, or build it with its feature",
                form.suffix()
            ));
        }
        self.words(Path::new("file")).map(drop)
    }
}

/// The process, from the capture's side.
#[derive(Debug)]
pub struct Hand {
    child: Child,
    /// Does not wait for room.
    files: Option<ChildStdin>,
    /// Bytes that have found none yet.
    unsent: VecDeque<u8>,
    /// Files of an earlier run, which come after those of this one.
    earlier: VecDeque<PathBuf>,
    /// Files that it has been handed and has not done.
    open: Arc<AtomicUsize>,
    /// When it has said something, or been handed the first file after it had none.
    heard: Arc<Mutex<Instant>>,
    sayer: Option<JoinHandle<()>>,
}

impl Hand {
    /// Starts the process. `say` is told what it has to say, from a thread.
    ///
    /// # Errors
    /// What the system says.
    pub fn start(chores: &Chores, say: impl Fn(String) + Send + 'static) -> io::Result<Hand> {
        let mut command = Command::new(env::current_exe()?);
        command.arg("chores");
        if let Some(form) = chores.compress {
            command.args(["--compress", form.name()]);
        }
        if let Some(line) = &chores.command {
            command.args(["--on-rotate", line]);
        }
        if chores.shell {
            command.arg("--on-rotate-shell");
        }
        // A group of its own: what a terminal sends to ours is not for it.
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let lines = child.stdout.take();
        let files = child.stdin.take();
        // Stopped, it reads nothing: the capture does not wait for it.
        files
            .as_ref()
            .map(|pipe| ioctl_fionbio(pipe, true))
            .transpose()?;
        let open = Arc::new(AtomicUsize::new(0));
        let heard = Arc::new(Mutex::new(Instant::now()));
        let (left, hearing) = (Arc::clone(&open), Arc::clone(&heard));
        let sayer = thread::Builder::new()
            .name("chores".to_owned())
            .spawn(move || {
                let _ = capabilities::give_up();
                let lines = lines
                    .into_iter()
                    .flat_map(|lines| BufReader::new(lines).lines());
                for line in lines.map_while(Result::ok) {
                    note_now(&hearing);
                    match &*line {
                        DONE => _ = left.fetch_sub(1, Ordering::Relaxed),
                        _ => say(line),
                    }
                }
            })?;
        Ok(Hand {
            files,
            child,
            unsent: VecDeque::new(),
            earlier: VecDeque::new(),
            open,
            heard,
            sayer: Some(sayer),
        })
    }

    /// Hands it a finished file.
    ///
    /// # Errors
    /// The process has gone.
    pub fn take(&mut self, file: &Path) -> io::Result<()> {
        if self.open.fetch_add(1, Ordering::Relaxed) == 0 {
            note_now(&self.heard);
        }
        self.earlier.retain(|earlier| earlier != file);
        self.unsent.extend(file.as_os_str().as_bytes());
        self.unsent.push_back(0);
        self.go_on()
    }

    /// Hands it files that an earlier run has left, a few at a time, while it has nothing else.
    pub fn take_earlier(&mut self, files: Vec<PathBuf>) {
        self.earlier.extend(files);
    }

    /// Hands over what there is room for. To be called now and then.
    ///
    /// # Errors
    /// The process has gone.
    pub fn go_on(&mut self) -> io::Result<()> {
        while self.open.load(Ordering::Relaxed) < AT_A_TIME
            && let Some(file) = self.earlier.pop_front()
        {
            self.take(&file)?;
        }
        let files = self.files.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        while !self.unsent.is_empty() {
            match files.write(self.unsent.make_contiguous()) {
                Ok(written) => drop(self.unsent.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Files that are not done, whether it has been handed them or not.
    pub fn left(&self) -> usize {
        self.open.load(Ordering::Relaxed) + self.earlier.len()
    }

    /// How the process has ended, where it has. What it had begun ends with it.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        let pid = i32::try_from(self.child.id())
            .ok()
            .and_then(Pid::from_raw)?;
        // It is not waited for yet: nobody else has its number.
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        if self.left() != 0 && waitid(WaitId::Pid(pid), look).is_ok_and(|ended| ended.is_some()) {
            let _ = kill_process_group(pid, Signal::KILL);
        }
        self.child.try_wait().ok().flatten()
    }

    /// Its number, where it is stopped.
    pub fn stopped(&self) -> Option<u32> {
        let pid = self.child.id();
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // Behind the name, which may have any character.
        let (_, state) = stat.rsplit_once(") ")?;
        state.starts_with(['T', 't']).then_some(pid)
    }

    /// How long it has said nothing though it has something to do.
    pub fn silent(&self) -> Option<Duration> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        (self.open.load(Ordering::Relaxed) != 0).then(|| heard.elapsed())
    }

    /// The capture has ended: whether the process has, and all is said.
    pub fn is_over(&mut self) -> bool {
        if self.go_on().is_err() || self.unsent.is_empty() && self.earlier.is_empty() {
            self.files = None;
        }
        let said = self.sayer.as_ref().is_none_or(JoinHandle::is_finished);
        said && self.ended().is_some()
    }
}

fn note_now(heard: &Mutex<Instant>) {
    *heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
}

/// It may be stopped, or wait for what never comes.
impl Drop for Hand {
    fn drop(&mut self) {
        const MOMENT: Duration = Duration::from_millis(10);
        const MOMENTS: usize = 100;
        self.files = None;
        // It may have nothing left to do but end.
        let mut moments = 0..if self.left() == 0 { MOMENTS } else { 0 };
        let mut runs = || matches!(self.child.try_wait(), Ok(None));
        while runs() && moments.next().is_some() {
            thread::sleep(MOMENT);
        }
        if runs() {
            let group = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
            group.map(|group| kill_process_group(group, Signal::KILL));
            let _ = self.child.wait();
        }
        if let Some(sayer) = self.sayer.take() {
            let _ = sayer.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_becomes_words_and_no_shell_sees_it() {
        let chores = |command: &str, shell| Chores {
            compress: None,
            command: Some(command.to_owned()),
            shell,
        };
        let words = |chores: Chores| chores.words(Path::new("/a b")).unwrap().unwrap();
        assert_eq!(
            words(chores("mv -t '/x y'", false)),
            ["mv", "-t", "/x y", "/a b"]
        );
        assert_eq!(
            words(chores("rm \"$1\"; true", true)),
            ["sh", "-c", "rm \"$1\"; true", "sh", "/a b"]
        );
        for wrong in ["", "'a", "   "] {
            assert!(chores(wrong, false).check().is_err(), "{wrong}");
        }
    }
}
