//! `lwnflog chores`: the process that --compress and --on-rotate start.

use anyhow::{Context as _, Result};

use super::args::CompressArg;
use super::options::compression;
use crate::chores::{self, Chores};

/// Takes finished files from standard input.
///
/// # Errors
/// Standard input that cannot be read.
pub fn run(compress: Option<CompressArg>, command: Option<String>, shell: bool) -> Result<()> {
    let chores = Chores {
        compress: compress.map(compression),
        command,
        shell,
    };
    chores::run(&chores).context("standard input")
}
