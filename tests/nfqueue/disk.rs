//! A disk that can be made to hang, and to go on: an ext4 file system in a loop device, frozen
//! by `fsfreeze`.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

/// Mounts the image `$1` at `$2`, then freezes (`-f`) and thaws (`-u`) it as it is told. Signals of
/// the terminal do not end it: however the test ends, its end of the pipe closes, and the disk is
/// thawed. The mount and the loop device go with the last process that has them.
const KEEPER: &str = r#"
trap '' INT TERM HUP
mount -o loop "$1" "$2" || exit
echo mounted
while read -r what; do
    fsfreeze "$what" "$2" && echo done
done
fsfreeze -u "$2" 2>/dev/null
"#;

/// A mounted file system that only those see who are started by [`Disk::command`].
pub(crate) struct Disk {
    keeper: Child,
    answers: BufReader<ChildStdout>,
    mount: PathBuf,
}

impl Disk {
    /// Makes the file system in `dir` and mounts it at `mount`.
    pub(crate) fn new(dir: &Path, mount: &Path) -> Disk {
        /// Holds 48 MB and its journal.
        const BYTES: u64 = 64 << 20;
        let image = dir.join("disk.img");
        fs::File::create(&image).unwrap().set_len(BYTES).unwrap();
        fs::create_dir(mount).unwrap();
        let made = Command::new("mkfs.ext4")
            .args(["-q", "-F"])
            .arg(&image)
            .status()
            .expect("this test needs `mkfs.ext4` (e2fsprogs)");
        assert!(made.success(), "mkfs.ext4: {made}");
        let mut keeper = Command::new("unshare")
            .args(["-m", "sh", "-c", KEEPER, "sh"])
            .args([&image, mount])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this test needs `unshare` (util-linux)");
        let answers = BufReader::new(keeper.stdout.take().unwrap());
        let mut disk = Disk {
            keeper,
            answers,
            mount: mount.to_owned(),
        };
        disk.expect(
            "mounted",
            "this test mounts a file system: it needs root and a loop device",
        );
        disk
    }

    fn expect(&mut self, answer: &str, what: &str) {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        assert_eq!(line.trim(), answer, "{what}");
    }

    fn tell(&mut self, what: &str) {
        let words = self.keeper.stdin.as_mut().unwrap();
        writeln!(words, "{what}").unwrap();
        self.expect("done", "this test needs `fsfreeze` (util-linux)");
    }

    /// Writes back what is dirty; whoever stores to the file system then waits for the end of the
    /// value returned. Not even a signal ends such a wait: take it after what is to wait, so that a
    /// test that fails thaws the disk first.
    pub(crate) fn freeze(&mut self) -> Frozen<'_> {
        self.tell("-f");
        Frozen(self)
    }

    /// A program that has the file system mounted.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        let namespace = format!("--mount=/proc/{}/ns/mnt", self.keeper.id());
        command.args([&namespace, "--", program]);
        command
    }

    /// The mounted directory, as others see it.
    pub(crate) fn path(&self) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.keeper.id()));
        root.join(self.mount.strip_prefix("/").unwrap())
    }
}

/// A disk that hangs.
pub(crate) struct Frozen<'a>(&'a mut Disk);

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        self.0.tell("-u");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}
