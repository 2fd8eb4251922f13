//! The script by which Wireshark lists lwnflog's interfaces: where it goes, and that it goes again.

use std::env;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process;

use anyhow::{Context as _, Result, bail};

/// Where Wireshark looks for such programs: the user's folder; that of all users where there is no
/// other, as before Wireshark 4.2.
fn folder() -> Option<PathBuf> {
    let told = process::Command::new("tshark")
        .args(["-G", "folders"])
        .output()
        .ok()?;
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    let named = |name: &str| {
        let mut lines = told.lines().filter_map(|line| line.split_once(':'));
        let (_, place) = lines.find(|(what, _)| *what == name)?;
        Some(PathBuf::from(place.trim()))
    };
    ["Personal Extcap path", "Extcap path", "Global Extcap path"]
        .into_iter()
        .find_map(named)
}

/// What the script says of itself: another one is left alone.
const WRITTEN: &str =
    "# Written by `lwnflog extcap --install`; `lwnflog extcap --remove` takes it away.";
/// How that begins, as earlier versions wrote it, too.
const WRITTEN_BEGIN: &str = "# Written by `lwnflog extcap --install`";

/// Where the script is.
fn script() -> Result<PathBuf> {
    let folder = folder().context(
        "Wireshark's folder for extcap programs is not known: install tshark, which tells (`tshark -G folders`)",
    )?;
    Ok(folder.join("lwnflog"))
}

/// Where Wireshark may look for such programs though it is not asked: it may have gone, and whoever removes
/// a package has another home, or none. Of root's and the system's, which are nobody else's to clear.
fn folders() -> Vec<PathBuf> {
    const OF_HOME: [&str; 2] = [".local/lib/wireshark/extcap", ".config/wireshark/extcap"];
    const OF_SYSTEM: [&str; 3] = ["/usr", "/usr/local", "/usr/libexec"];
    let mut folders: Vec<_> = folder().into_iter().collect();
    let homes = env::var_os("HOME").map(PathBuf::from).into_iter();
    let root = rustix::process::geteuid().is_root();
    let homes = homes.chain(root.then(|| PathBuf::from("/root")));
    folders.extend(homes.flat_map(|home| OF_HOME.map(|folder| home.join(folder))));
    if root {
        for above in OF_SYSTEM {
            // `lib`, `lib64`, and Debian's `lib/x86_64-linux-gnu`.
            let below = |dir: &Path| {
                let entries = fs::read_dir(dir).into_iter().flatten().flatten();
                entries.map(|entry| entry.path()).collect::<Vec<_>>()
            };
            let mut all = vec![PathBuf::from(above)];
            for dir in ["lib", "lib64", "libexec"].map(|dir| Path::new(above).join(dir)) {
                all.extend(below(&dir));
                all.push(dir);
            }
            folders.extend(all.into_iter().map(|dir| dir.join("wireshark/extcap")));
        }
    }
    folders.sort();
    folders.dedup();
    folders
}

/// Removes the script that Wireshark starts, wherever it is.
pub(super) fn remove() -> Result<()> {
    let (mut removed, mut kept) = (String::new(), None);
    for script in folders().into_iter().map(|folder| folder.join("lwnflog")) {
        let said = script.display();
        match fs::read(&script) {
            Ok(text) if is_ours(&text) => {
                fs::remove_file(&script).with_context(|| said.to_string())?;
                removed += &format!("{said} removed\n");
            }
            Ok(_) => kept = Some(script),
            Err(error) if is_not_there(&error) => {}
            Err(error) => return Err(error).context(said.to_string()),
        }
    }
    if let (true, Some(script)) = (removed.is_empty(), kept) {
        bail!(
            "{}: this is no script of `lwnflog extcap --install`, and stays",
            script.display()
        );
    }
    if removed.is_empty() {
        removed = match folder() {
            Some(folder) => format!("{} was not there\n", folder.join("lwnflog").display()),
            None => "it was not there, in any folder that is known\n".to_owned(),
        };
    }
    super::say(removed.as_bytes())
}

fn is_ours(text: &[u8]) -> bool {
    String::from_utf8_lossy(text).contains(WRITTEN_BEGIN)
}

fn is_not_there(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// Writes the script that Wireshark starts; where the program has gone, it lists nothing.
pub(super) fn install() -> Result<()> {
    let own = env::current_exe().context("the program's own path")?;
    let own = own.display().to_string();
    let own = shlex::try_quote(&own).context("the program's own path")?;
    let script = script()?;
    let folder = script.parent().unwrap_or(Path::new("/"));
    let text = format!("#!/bin/sh\n{WRITTEN}\n[ -x {own} ] || exit 0\nexec {own} extcap \"$@\"\n");
    let said = || script.display().to_string();
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    fs::write(&script, text).with_context(said)?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).with_context(said)?;
    let _ = writeln!(
        io::stdout(),
        "{} written: `tshark -D` lists lwnflog's interfaces now",
        script.display()
    );
    Ok(())
}
