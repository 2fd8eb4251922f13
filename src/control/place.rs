//! Where the sockets are.

use std::env;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::{fs, io};

use super::client;

/// The directory: what systemd has made for the service (of several the first), `/run/lwnflog` of
/// root, else below `$XDG_RUNTIME_DIR`. `None` where there is none.
pub fn directory() -> Option<PathBuf> {
    if let Some(given) = env::var_os("RUNTIME_DIRECTORY").filter(|given| !given.is_empty()) {
        let first = given.as_bytes().split(|byte| *byte == b':').next()?;
        return Some(PathBuf::from(std::ffi::OsString::from_vec(first.to_vec())));
    }
    if rustix::process::geteuid().is_root() {
        return Some(PathBuf::from("/run/lwnflog"));
    }
    let own = env::var_os("XDG_RUNTIME_DIR")?;
    Some(Path::new(&own).join("lwnflog"))
}

/// Where a client looks: a user without a capture of their own at the services'.
pub fn to_ask() -> PathBuf {
    let services = PathBuf::from("/run/lwnflog");
    match directory() {
        Some(own) if env::var_os("RUNTIME_DIRECTORY").is_some() => own,
        Some(own) if names(&own).is_ok_and(|names| !names.is_empty()) => own,
        _ => services,
    }
}

/// The socket of the capture of this name; a service's is in a directory of its own.
pub fn socket(directory: &Path, name: &str) -> PathBuf {
    let file = format!("{name}.sock");
    let own = directory.join(name).join(&file);
    match own.symlink_metadata() {
        Ok(_) => own,
        Err(_) => directory.join(file),
    }
}

/// The names of all captures that run there, in order. Each is asked: what a killed one has left, and
/// what belongs to something else, is none.
///
/// # Errors
/// What the system says; none where there is no such directory.
pub fn names(directory: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let Some(name) = name.to_str() else { continue };
        let name = name.strip_suffix(".sock").unwrap_or(name);
        if client::is_capture(&socket(directory, name)) {
            names.push(name.to_owned());
        }
    }
    names.sort();
    names.dedup();
    Ok(names)
}
