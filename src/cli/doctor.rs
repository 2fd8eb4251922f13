//! `lwnflog doctor`: what is found, worst first, in words.

use std::path::Path;
use std::process;

use anyhow::Result;

use super::args::FamilyArg;
use super::options::family as ip_family;
use crate::doctor::{Case, Finding, Severity, examine};

/// The exit status where the worst is a warning.
const STATUS_WARNING: i32 = 10;
/// The exit status where the worst is an error.
const STATUS_ERROR: i32 = 20;

/// `lwnflog doctor [--group 5 | --hook]`. Ends the process with a status of its own where something
/// is wrong.
///
/// # Errors
/// Standard output that cannot be written.
pub fn run(
    group: Option<u16>,
    hook: bool,
    family: FamilyArg,
    write: Option<&Path>,
    json: bool,
) -> Result<()> {
    let dir = write.unwrap_or(Path::new("lwnflog-capture"));
    let findings = examine(&Case {
        group,
        hook,
        family: ip_family(family),
        dir: Some(dir.to_owned()),
    });
    let text = if json {
        format!("{}\n", serde_json::json!({ "findings": findings }))
    } else {
        findings.iter().map(told).collect()
    };
    super::say(text.as_bytes())?;
    let status = match findings.first().map(|worst| worst.severity) {
        Some(Severity::Error) => STATUS_ERROR,
        Some(Severity::Warning) => STATUS_WARNING,
        _ => return Ok(()),
    };
    process::exit(status)
}

fn told(finding: &Finding) -> String {
    let word = match finding.severity {
        Severity::Error => "ERROR",
        Severity::Warning => "warning",
        Severity::Note => "note",
        Severity::Fine => "fine",
    };
    let mut text = format!("{word:<8} {}\n", finding.what);
    if !finding.why.is_empty() {
        text += &format!("         why: {}\n", finding.why);
    }
    if let Some(remedy) = &finding.remedy {
        text += &format!("         do:  {remedy}\n");
    }
    text
}
