//! lwnflog's own ring writer at the hooks of others: `readers/ring.rs`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use lwnflog::lab::RX;

use super::lwnflog::claim;
use super::{Claim, Contender, Hook, Invocation, Ready, Site};
use crate::child::Said;
use crate::rules;

/// Whose hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RingReader {
    Packet,
    Xdp,
}

impl Contender for RingReader {
    fn id(&self) -> &'static str {
        match self {
            Self::Packet => "ring-afpacket",
            Self::Xdp => "ring-xdp",
        }
    }

    fn hook(&self) -> Hook {
        match self {
            Self::Packet => Hook::Protocol,
            Self::Xdp => Hook::Driver,
        }
    }

    fn settings(&self) -> &'static str {
        match self {
            Self::Packet => {
                "The same ring writer, fed by AF_PACKET: lwnflog's capture loop, pcapng writer and \
                 recycled ring on a TPACKET_V3 ring of 64 blocks of 1 MiB, handed over after 60 ms at \
                 the latest; a BPF program that returns the snap length cuts the packets. Only what \
                 comes in; frames that are not IPv4 are counted and not written."
            }
            Self::Xdp => {
                "The same ring writer, fed by AF_XDP: an XDP program in the driver takes every frame off \
                 to a socket in copy mode, 32768 chunks of 2 KiB, so that frames of up to 1792 bytes can \
                 be captured whole; the reader lets frames collect for 1 ms. The kernel gives no time \
                 stamps: packets carry their batch's. The program copies whole frames at any snap length, \
                 and unlike xdpdump nothing goes on to the IP layer."
            }
        }
    }

    fn program(&self) -> Option<(PathBuf, &'static str)> {
        std::env::current_exe()
            .ok()
            .map(|path| (path, "lwnflog-bench"))
    }

    fn recycled_ring(&self) -> Option<&'static str> {
        Some(self.id())
    }

    /// Loading a program does, and mapping more memory than an ordinary user may.
    fn needs_real_root(&self) -> bool {
        *self == Self::Xdp
    }

    fn rules(&self, _site: &Site<'_>) -> Result<String> {
        Ok(rules::count_and_drop())
    }

    fn invocation(&self, site: &Site<'_>) -> Result<Option<Invocation>> {
        let program = std::env::current_exe().context("cannot find this program")?;
        let hook = match self {
            Self::Packet => "packet",
            Self::Xdp => "xdp",
        };
        let reader = Invocation::new(program).args(&format!(
            "ring-reader --hook {hook} --interface {RX} --snaplen {}",
            site.job.snap_len()
        ));
        let ring = site.job.ring;
        Ok(Some(if site.job.test.writes() {
            reader
                .args(&format!(
                    "--file-size {}MB --files {} --write",
                    ring.megabytes_per_file, ring.files
                ))
                .arg(&site.dir)
        } else {
            reader.arg("--discard")
        }))
    }

    fn ready(&self, _site: &Site<'_>) -> Ready {
        match self {
            Self::Packet => Ready::PacketSocket,
            Self::Xdp => Ready::Says("listening on"),
        }
    }

    /// More than a block waits to be filled.
    fn delay(&self) -> Duration {
        Duration::from_millis(150)
    }

    fn claim(&self, said: &Said) -> Claim {
        claim(said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_reader_prints_is_understood() {
        let said = Said {
            stdout:
                "{\"event\":\"report\",\"received\":7,\"dropped\":{\"overrun\":2,\"writer\":0}}\n"
                    .to_owned(),
            stderr: String::new(),
        };
        let claim = Claim {
            captured: Some(7),
            lost: Some(2),
        };
        assert_eq!(RingReader::Packet.claim(&said), claim);
    }
}
