//! What a program took, as the kernel has counted it.

use std::process::{Command, Output};

use super::output;

/// What a program said, and took.
#[derive(Debug)]
pub struct Spent {
    pub output: Output,
    /// The most memory that it had at one time.
    pub peak_bytes: u64,
    /// Processor time, of the program and of the system for it.
    pub processor_ms: u64,
}

/// Starts what its arguments name, and says at the end of standard error what that took.
const MEASURE: &str = "import os, sys
child = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ)
_, status, took = os.wait4(child, 0)
code = os.waitstatus_to_exitcode(status)
print(f'\\n{took.ru_maxrss} {int(1000 * (took.ru_utime + took.ru_stime))}', file=sys.stderr)
sys.exit(code if code >= 0 else 128 - code)";

/// Runs a program to its end.
pub fn spent(program: &str, args: &[&str]) -> Spent {
    let mut command = Command::new("python3");
    command.args(["-c", MEASURE, program]).args(args);
    let mut output = output(&mut command, "");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let (said, took) = said.trim_end().rsplit_once('\n').unwrap();
    let mut took = took.split(' ').map(|number| number.parse::<u64>().unwrap());
    output.stderr = said.trim_end().into();
    Spent {
        output,
        peak_bytes: 1024 * took.next().unwrap(),
        processor_ms: took.next().unwrap(),
    }
}
