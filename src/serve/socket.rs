//! A Unix socket of one's own: in a directory that nobody else can exchange it in, with its owner and
//! its rights before anybody can connect, and never in the place of anything else.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, chownat, fstat, open};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with,
};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;
const ANYBODY_WRITES: u32 = 0o002;
const STICKY: u32 = 0o1000;

/// A socket's mode: members of its group may connect, and it is no capture's control. (The system takes
/// the bit for nothing.) Who lists captures can tell though nobody answers there.
pub const NO_CONTROL_MODE: u32 = STICKY | 0o660;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Somebody listens there.
    #[error("{0}: somebody listens there already")]
    Taken(PathBuf),
    /// Something else is there.
    #[error(
        "{0}: this is there, and no socket that a capture of this user has left: remove it, or name another place"
    )]
    SomethingElse(PathBuf),
    /// Others could exchange it.
    #[error(
        "{0}: the directory is another user's, or anybody may write to it: a socket there could be exchanged; take one of root's or your own (RUNTIME_DIRECTORY=DIR)"
    )]
    Directory(PathBuf),
    /// What the system says.
    #[error("{0}: {1}")]
    System(PathBuf, io::Error),
}

/// A socket that listens. Its name goes when this is dropped.
#[derive(Debug)]
pub struct OwnSocket {
    path: PathBuf,
    /// Device and inode of its name.
    id: (u64, u64),
}

/// Makes a directory for sockets, where it is not there: anybody may enter it, each socket says who
/// may connect.
///
/// # Errors
/// What the system says.
pub fn make_directory(dir: &Path) -> Result<(), SocketError> {
    let wrong = |error| SocketError::System(dir.to_owned(), error);
    if dir.is_dir() {
        return Ok(());
    }
    if let Some(above) = dir.parent() {
        make_directory(above)?;
    }
    const MODE: u32 = 0o755;
    match DirBuilder::new().mode(MODE).create(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        made => made.map_err(wrong)?,
    }
    let made = File::open(dir).map_err(wrong)?;
    made.set_permissions(Permissions::from_mode(MODE))
        .map_err(wrong)
}

/// Lets members of a group into a directory, to the sockets that are theirs.
///
/// # Errors
/// What the system says.
pub fn let_in(dir: &Path, gid: u32) -> Result<(), SocketError> {
    let wrong = |error| SocketError::System(dir.to_owned(), error);
    const OTHERS: u32 = 0o005;
    const MEMBERS: u32 = 0o050;
    let held = File::open(dir).map_err(wrong)?;
    let meta = held.metadata().map_err(wrong)?;
    let mode = meta.mode() & 0o7777;
    let needed = if meta.gid() == gid { MEMBERS } else { OTHERS };
    if mode & needed == needed {
        return Ok(());
    }
    let mode = Permissions::from_mode(mode | needed);
    held.set_permissions(mode).map_err(wrong)
}

/// Listens at `path`, for those whom `mode` lets, the members of group `gid` among them. What a
/// process that was killed has left there is removed.
///
/// # Errors
/// [`SocketError`]; nothing is changed then.
pub fn listen_at(
    path: &Path,
    mode: u32,
    gid: Option<u32>,
) -> Result<(OwnedFd, OwnSocket), SocketError> {
    let wrong = |error: io::Error| SocketError::System(path.to_owned(), error);
    let system = |error: rustix::io::Errno| wrong(error.into());
    let dir = path.parent().unwrap_or(Path::new("/"));
    // Of two starts at a time, one after the other.
    let held = File::open(dir).map_err(wrong)?;
    held.lock().map_err(wrong)?;
    let meta = held.metadata().map_err(wrong)?;
    let own = rustix::process::geteuid().as_raw();
    let anybody = meta.mode() & ANYBODY_WRITES != 0 && meta.mode() & STICKY == 0;
    if anybody || meta.uid() != 0 && meta.uid() != own {
        return Err(SocketError::Directory(dir.to_owned()));
    }
    remove_stale(path, own)?;
    let flags = SocketFlags::CLOEXEC;
    let socket =
        socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(system)?;
    let address = SocketAddrUnix::new(path).map_err(system)?;
    bind(&socket, &address).map_err(system)?;
    // Nobody can connect before it listens. By its descriptor: whatever becomes of the name.
    let named = open(
        path,
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    );
    let made = named.map_err(system).and_then(|named| {
        let stat = fstat(&named).map_err(system)?;
        if let Some(gid) = gid {
            let gid = Some(Gid::from_raw(gid));
            chownat(&named, "", None, gid, AtFlags::EMPTY_PATH).map_err(system)?;
        }
        let by_descriptor = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&named));
        fs::set_permissions(by_descriptor, Permissions::from_mode(mode)).map_err(wrong)?;
        listen(&socket, BACKLOG).map_err(system)?;
        Ok((stat.st_dev, stat.st_ino))
    });
    match made {
        Ok((device, inode)) => {
            let path = path.to_owned();
            let id = (device, inode);
            Ok((socket, OwnSocket { path, id }))
        }
        Err(error) => {
            let _ = fs::remove_file(path);
            Err(error)
        }
    }
}

/// Whether a name may be that of a capture's control, before it is asked.
pub fn may_be_control(path: &Path) -> bool {
    let meta = fs::symlink_metadata(path);
    meta.is_ok_and(|meta| meta.file_type().is_socket() && meta.mode() & STICKY == 0)
}

/// Removes a socket of one's own that nobody listens at.
fn remove_stale(path: &Path, own: u32) -> Result<(), SocketError> {
    let meta = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        meta => meta.map_err(|error| SocketError::System(path.to_owned(), error))?,
    };
    if !meta.file_type().is_socket() {
        return Err(SocketError::SomethingElse(path.to_owned()));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused && meta.uid() == own => {
            fs::remove_file(path).map_err(|error| SocketError::System(path.to_owned(), error))
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            Err(SocketError::SomethingElse(path.to_owned()))
        }
        // A full queue; a datagram socket.
        _ => Err(SocketError::Taken(path.to_owned())),
    }
}

impl OwnSocket {
    /// Its name.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for OwnSocket {
    fn drop(&mut self) {
        let _held = self.path.parent().and_then(|dir| {
            let held = File::open(dir).ok()?;
            held.lock().ok()?;
            Some(held)
        });
        let meta = fs::symlink_metadata(&self.path);
        if meta.is_ok_and(|meta| (meta.dev(), meta.ino()) == self.id) {
            let _ = fs::remove_file(&self.path);
        }
    }
}
