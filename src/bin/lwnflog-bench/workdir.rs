//! A directory for captures that is gone afterwards, and the end of those of killed runs.

use crate::say::tell;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

const PREFIX: &str = "lwnflog-bench-";

/// A directory that is removed with this value.
#[derive(Debug)]
pub(crate) struct WorkDir {
    path: PathBuf,
}

impl WorkDir {
    /// Makes a directory below `base`, after removing what killed runs have left there.
    pub(crate) fn new(base: Option<&Path>) -> Result<Self> {
        let base = match base {
            Some(base) => base.to_owned(),
            None => default_base(),
        };
        fs::create_dir_all(&base).with_context(|| format!("cannot make {}", base.display()))?;
        sweep(&base);
        let path = base.join(format!("{PREFIX}{}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        let path = path
            .canonicalize()
            .with_context(|| format!("cannot find {}", path.display()))?;
        Ok(Self { path })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A subdirectory, made if it is not there.
    pub(crate) fn subdir(&self, name: &str) -> Result<PathBuf> {
        let path = self.path.join(name);
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(path)
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tell!(
                "lwnflog-bench: {} is left behind: {error}",
                self.path.display()
            );
        }
    }
}

fn default_base() -> PathBuf {
    let target = PathBuf::from("target");
    if target.is_dir() {
        target
    } else {
        std::env::temp_dir()
    }
}

/// Removes the directories of runs whose process is gone.
fn sweep(base: &Path) {
    let Ok(entries) = fs::read_dir(base) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let owner = name
            .to_str()
            .and_then(|name| name.strip_prefix(PREFIX)?.parse::<u32>().ok());
        let Some(owner) = owner else { continue };
        let program = fs::read_to_string(format!("/proc/{owner}/comm")).unwrap_or_default();
        if owner != std::process::id() && program.trim() == "lwnflog-bench" {
            continue; // another benchmark that runs now
        }
        if fs::remove_dir_all(entry.path()).is_ok() {
            tell!(
                "removed {}, left behind by a killed run",
                entry.path().display()
            );
        }
    }
}

/// All files below a directory.
pub(crate) fn files(dir: &Path) -> Vec<(PathBuf, Metadata)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.metadata() {
            Ok(meta) if meta.is_dir() => found.extend(files(&entry.path())),
            Ok(meta) if meta.is_file() => found.push((entry.path(), meta)),
            _ => {}
        }
    }
    found
}

/// The bytes that the files below a directory take on disk.
pub(crate) fn disk_usage(dir: &Path) -> u64 {
    files(dir).iter().map(|(_, meta)| meta.blocks() * 512).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_killed_runs_left_is_removed_and_nothing_else() {
        let base = tempfile::tempdir().unwrap();
        let dead = base.path().join(format!("{PREFIX}4194305"));
        let other = base.path().join(format!("{PREFIX}notes"));
        fs::create_dir(&dead).unwrap();
        fs::create_dir(&other).unwrap();
        let path = {
            let dir = WorkDir::new(Some(base.path())).unwrap();
            fs::write(dir.path().join("file"), "x").unwrap();
            assert!(disk_usage(dir.path()) > 0);
            dir.path().to_owned()
        };
        assert!(!path.exists() && !dead.exists() && other.exists());
    }
}
