//! ulogd2 with its PCAP output: what Netfilter's users have today.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

use super::{Claim, Contender, Hook, Invocation, Ready, Site};
use crate::child::Said;
use crate::rules::{self, GROUP};

pub(crate) struct Ulogd;

/// Where Debian and others keep its plugins.
const PLUGIN_DIRS: [&str; 5] = [
    "/usr/lib/x86_64-linux-gnu/ulogd",
    "/usr/lib/aarch64-linux-gnu/ulogd",
    "/usr/lib64/ulogd",
    "/usr/lib/ulogd",
    "/usr/local/lib/ulogd",
];

impl Contender for Ulogd {
    fn id(&self) -> &'static str {
        "ulogd2"
    }

    fn hook(&self) -> Hook {
        Hook::Prerouting
    }

    fn settings(&self) -> &'static str {
        "The shortest stack that its PCAP output accepts; messages of up to 1024 packets (its default \
         is one; it cannot ask for messages larger than the kernel's default, a page), a \
         64 MiB buffer, no sync. It has no snap length and no ring: the rule limits what \
         the kernel copies, and one file grows."
    }

    fn program(&self) -> Option<(PathBuf, &'static str)> {
        Some(("ulogd".into(), "ulogd2 and ulogd2-pcap"))
    }

    fn rules(&self, site: &Site<'_>) -> Result<String> {
        Ok(rules::log(site.job.ip_snap_len()))
    }

    fn invocation(&self, site: &Site<'_>) -> Result<Option<Invocation>> {
        let plugins = PLUGIN_DIRS
            .iter()
            .map(PathBuf::from)
            .find(|dir| dir.join("ulogd_output_PCAP.so").is_file())
            .context("ulogd's PCAP output not found: install ulogd2-pcap")?;
        let file = if site.job.test.writes() {
            let file = site.capture("ulogd.pcap");
            // It appends: start anew, like the rings that overwrite.
            let _ = fs::remove_file(&file);
            file
        } else {
            "/dev/null".into()
        };
        let plugins = plugins.display();
        let text = format!(
            "[global]\nlogfile=\"stdout\"\nloglevel=5\n\
             plugin=\"{plugins}/ulogd_inppkt_NFLOG.so\"\n\
             plugin=\"{plugins}/ulogd_raw2packet_BASE.so\"\n\
             plugin=\"{plugins}/ulogd_output_PCAP.so\"\n\
             stack=log1:NFLOG,base1:BASE,pcap1:PCAP\n\
             [log1]\ngroup={GROUP}\nnetlink_socket_buffer_size=67108864\n\
             netlink_socket_buffer_maxsize=134217728\nnetlink_qthreshold=1024\nnetlink_qtimeout=10\n\
             [pcap1]\nfile=\"{}\"\nsync=0\n",
            file.display()
        );
        let config = site.scratch.join("ulogd.conf");
        fs::write(&config, text).with_context(|| format!("cannot write {}", config.display()))?;
        Ok(Some(Invocation::new("ulogd").arg("-c").arg(config)))
    }

    fn ready(&self, _site: &Site<'_>) -> Ready {
        Ready::Groups(1)
    }

    fn delay(&self) -> Duration {
        Duration::from_millis(150)
    }

    /// It counts nothing; it warns of loss once, without a number.
    fn claim(&self, _said: &Said) -> Claim {
        Claim::default()
    }
}
