//! `lwnflog repair`: makes files readable whose writer did not finish them.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};
use rustix::io::Errno;

use super::complain;
use crate::numbers::grouped;
use crate::read::line::shown;
use crate::ring::recovery::{self, Repaired};
use crate::sys::standard;

/// `lwnflog repair …`
///
/// # Errors
/// The first file that could not be repaired, or that it could not be told; the others are tried
/// all the same.
pub fn run(files: &[PathBuf], dry_run: bool) -> Result<()> {
    let mut failed = false;
    let mut untold = standard::output_was_closed().then(|| Errno::BADF.into());
    let mut out = io::stdout().lock();
    for file in files {
        match recovery::repair_unowned(file, dry_run) {
            Ok((done, copy)) => {
                let text = repaired_text(file, &done, copy.as_deref(), dry_run);
                if untold.is_none() {
                    untold = writeln!(out, "{text}").and_then(|()| out.flush()).err();
                }
            }
            Err(error) => {
                complain(&format!("{}: {error}", shown(file)));
                failed = true;
            }
        }
    }
    if failed {
        return Err(anyhow!("not all files could be repaired"));
    }
    match untold {
        Some(error) => Err(error).context("all is done, but standard output cannot be written"),
        None => Ok(()),
    }
}

fn repaired_text(file: &Path, done: &Repaired, copy: Option<&Path>, dry_run: bool) -> String {
    let mut text = format!(
        "{}: {} packets, {} bytes",
        shown(file),
        grouped(done.packets),
        grouped(done.bytes_after)
    );
    let (cut, replaced) = if dry_run {
        ("would be cut", "would be replaced by padding blocks")
    } else {
        ("cut", "replaced by padding blocks")
    };
    match done.bytes_before - done.bytes_after {
        0 => {}
        bytes => text += &format!(" ({} {cut})", grouped(bytes)),
    }
    match done.damaged_segments {
        0 => {}
        damaged => text += &format!(", {damaged} damaged segments {replaced}"),
    }
    match done.orphans {
        0 => {}
        orphans => {
            text +=
                &format!(", {orphans} blocks of an interface whose declaration is lost {replaced}");
        }
    }
    if let Some(loss) = done.loss {
        text += &format!("; at byte {} there is {}", grouped(loss.offset), loss.why);
    }
    if let Some(copy) = copy {
        text += &format!("; as it was: {}", shown(copy));
    }
    text
}
