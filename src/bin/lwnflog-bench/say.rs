//! Printing that does not mind when nobody reads: a closed pipe must not end a measurement.

use std::fmt::Arguments;
use std::io::Write;

/// To standard output: results.
pub(crate) fn result(words: Arguments<'_>) {
    // Nobody reads on: then nobody misses the rest either.
    let _ = std::io::stdout()
        .write_fmt(words)
        .and_then(|()| std::io::stdout().flush());
}

/// To standard error: progress.
pub(crate) fn progress(words: Arguments<'_>) {
    // As above.
    let _ = std::io::stderr().write_fmt(words);
}

/// A line of results.
macro_rules! say {
    ($($words:tt)*) => { $crate::say::result(format_args!("{}\n", format_args!($($words)*))) };
}

/// A line of progress.
macro_rules! tell {
    ($($words:tt)*) => { $crate::say::progress(format_args!("{}\n", format_args!($($words)*))) };
}

pub(crate) use {say, tell};
