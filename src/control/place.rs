//! Where the sockets are.

use std::env;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// The directory: what systemd has made for the service, `/run/lwnflog` of root, else below
/// `$XDG_RUNTIME_DIR`. `None` where there is none.
pub fn directory() -> Option<PathBuf> {
    if let Some(given) = env::var_os("RUNTIME_DIRECTORY").filter(|given| !given.is_empty()) {
        return Some(PathBuf::from(given));
    }
    if rustix::process::geteuid().is_root() {
        return Some(PathBuf::from("/run/lwnflog"));
    }
    let own = env::var_os("XDG_RUNTIME_DIR")?;
    Some(Path::new(&own).join("lwnflog"))
}

/// The socket of the capture of this name.
pub fn socket(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}.sock"))
}

/// The names of all captures that have a socket there, in order.
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
        names.extend(
            name.to_str()
                .and_then(|name| name.strip_suffix(".sock"))
                .map(ToOwned::to_owned),
        );
    }
    names.sort();
    Ok(names)
}
