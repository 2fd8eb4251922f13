//! What is done with finished files: compressed, handed to a command. In a process of its own, of
//! the lowest priority, that is started before the capture is.
//!
//! ```text
//!   capture ──path NUL──> stdin  of `lwnflog chores`: a queue, a few at a time
//!           <──line───── stdout: what is to be said
//! ```
//!
//! The process ends when its input does and its queue is empty, however the capture has ended.

mod compress;
mod process;

use std::env;
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread::{self, JoinHandle};

pub use compress::is_built_in;
pub use process::run;

use crate::ring::Compression;
use crate::sys::capabilities;

/// Files at a time.
pub const AT_A_TIME: usize = 2;

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
    files: Option<ChildStdin>,
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
        let sayer = thread::Builder::new()
            .name("chores".to_owned())
            .spawn(move || {
                let _ = capabilities::give_up();
                let lines = lines
                    .into_iter()
                    .flat_map(|lines| BufReader::new(lines).lines());
                lines.map_while(Result::ok).for_each(say);
            })?;
        Ok(Hand {
            files: child.stdin.take(),
            child,
            sayer: Some(sayer),
        })
    }

    /// Hands it a finished file.
    ///
    /// # Errors
    /// The process has gone.
    pub fn take(&mut self, file: &Path) -> io::Result<()> {
        let files = self.files.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        let mut line = file.as_os_str().as_bytes().to_vec();
        line.push(0);
        files.write_all(&line)
    }

    /// Waits until all of it is done.
    pub fn finish(mut self) {
        self.end();
    }

    fn end(&mut self) {
        drop(self.files.take());
        if let Some(sayer) = self.sayer.take() {
            let _ = sayer.join();
        }
        let _ = self.child.wait();
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        self.end();
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
