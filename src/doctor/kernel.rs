//! What the kernel can, and what this process may.

use std::env;
use std::path::{Path, PathBuf};

use rustix::thread::{CapabilitySet, capabilities};

use super::{Case, Finding, text};

pub(super) fn examine(case: &Case) -> Vec<Finding> {
    let mut findings = rights(case);
    if case.hook {
        findings.extend(hook());
    } else {
        findings.extend(modules());
    }
    findings
}

fn rights(case: &Case) -> Vec<Finding> {
    let own_user_namespace = text("/proc/self/uid_map").is_some_and(|map| {
        let columns: Vec<_> = map.split_whitespace().collect();
        columns != ["0", "0", "4294967295"]
    });
    let mut findings = Vec::new();
    if own_user_namespace {
        let finding = Finding::note("user-namespace", "this is a user namespace of its own");
        findings.push(finding.because(
            "its root has rights over its own network namespace alone, and none to load a program (--hook)",
        ));
    }
    if Path::new("/.dockerenv").exists() || Path::new("/run/.containerenv").exists() {
        let finding = Finding::note("container", "this is a container");
        findings.push(finding.because(
            "only the container's own network namespace is captured: the host's traffic takes --network=host",
        ));
    }
    let needed = if case.hook {
        CapabilitySet::NET_ADMIN | CapabilitySet::BPF | CapabilitySet::PERFMON
    } else {
        CapabilitySet::NET_ADMIN
    };
    match capabilities(None) {
        Ok(sets) if sets.effective.contains(needed) => {
            findings.push(Finding::fine(
                "rights",
                "this process has the rights that it takes",
            ));
        }
        Ok(_) if own_user_namespace && case.hook => findings.push(
            Finding::error(
                "rights",
                "no program can be loaded from this user namespace",
            )
            .mend("lwnflog doctor --group 5"),
        ),
        Ok(_) => findings.push(
            Finding::error(
                "rights",
                "this process has not the rights that a capture takes",
            )
            .because("a group takes CAP_NET_ADMIN, the hook CAP_BPF and CAP_PERFMON as well")
            .mend(rights_for_a_group(case)),
        ),
        Err(error) => findings.push(Finding::note(
            "rights",
            format!("what this process may is not known: {error}"),
        )),
    }
    findings
}

/// The documents' way: the right is on the program, which a group of users may run and nobody else. As root;
/// who is in the group is for root to say.
fn rights_for_a_group(case: &Case) -> String {
    let program = env::current_exe().unwrap_or_else(|_| PathBuf::from("/usr/local/bin/lwnflog"));
    let program = program.display();
    let rights = match case.hook {
        true => "cap_net_admin,cap_bpf,cap_perfmon",
        false => "cap_net_admin",
    };
    format!(
        "groupadd --force --system lwnflog && chgrp lwnflog '{program}' && chmod 0750 '{program}' && setcap {rights}+ep \
         '{program}'   # as root; then: usermod --append --groups lwnflog USER"
    )
}

/// The kernel's two numbers.
fn version() -> Option<(u32, u32)> {
    let release = text("/proc/sys/kernel/osrelease")?;
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn hook() -> Vec<Finding> {
    const WAY_OUT: &str = "lwnflog --group 5 --install-rule";
    let mut findings = Vec::new();
    match version() {
        Some(version) if version < (6, 4) => findings.push(
            Finding::error(
                "hook-kernel",
                format!("Linux {}.{} has no programs at Netfilter's hooks", version.0, version.1),
            )
            .because("they came with 6.4")
            .mend(WAY_OUT),
        ),
        Some((major, minor)) => findings.push(Finding::fine(
            "hook-kernel",
            format!("Linux {major}.{minor} has programs at Netfilter's hooks, where it was built with them"),
        )),
        None => findings.push(Finding::note("hook-kernel", "the kernel's version is not known")),
    }
    if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        findings.push(
            Finding::error("hook-btf", "the kernel does not describe its types (BTF)")
                .because("the program reads packets by them: CONFIG_DEBUG_INFO_BTF, /sys/kernel/btf/vmlinux")
                .mend(WAY_OUT),
        );
    }
    if let Some(lockdown) = text("/sys/kernel/security/lockdown")
        && lockdown.contains("[confidentiality]")
    {
        findings.push(
            Finding::error(
                "hook-lockdown",
                "the kernel is locked down (confidentiality)",
            )
            .because("no program may read the kernel's memory then")
            .mend(WAY_OUT),
        );
    }
    if text("/sys/kernel/realtime").as_deref() == Some("1") {
        findings.push(
            Finding::error("hook-realtime", "this is a PREEMPT_RT kernel")
                .because(
                    "the rings of a processor have one writer at a time, which is not so there",
                )
                .mend(WAY_OUT),
        );
    }
    findings
}

/// Whether what a group takes is there: loaded, or to be loaded.
fn modules() -> Vec<Finding> {
    if Path::new("/proc/thread-self/net/netfilter/nfnetlink_log").exists() {
        return vec![Finding::fine(
            "nflog-module",
            "the kernel has NFLOG (nfnetlink_log)",
        )];
    }
    let release = text("/proc/sys/kernel/osrelease").unwrap_or_default();
    let listed = ["modules.dep", "modules.builtin"].iter().any(|list| {
        text(&format!("/lib/modules/{release}/{list}"))
            .is_some_and(|list| list.contains("/nfnetlink_log.ko"))
    });
    if listed {
        return vec![
            Finding::warning("nflog-module", "nfnetlink_log is there but not loaded")
                .because("it is loaded by itself where the kernel may (not in a container, not when locked)")
                .mend("modprobe nfnetlink_log"),
        ];
    }
    vec![
        Finding::error(
            "nflog-module",
            "the kernel has no NFLOG, as far as can be seen",
        )
        .because("a group takes nfnetlink_log (CONFIG_NETFILTER_NETLINK_LOG)")
        .mend("lwnflog --hook"),
    ]
}
