//! Records that are in the byte order of the host that captured them.

use super::Packets;
use crate::decode;

impl Packets {
    /// Records of NFLOG are as the host had them that captured: of one whose byte order is not ours they
    /// are turned around, as libpcap does it.
    #[inline]
    pub(super) fn turn(&mut self) {
        if self.big_endian || self.turned.is_some() {
            self.turned = self.turned_around();
        }
    }

    #[cold]
    fn turned_around(&self) -> Option<Vec<u8>> {
        let found = self.found.as_ref().filter(|_| self.big_endian)?;
        if self.interfaces.get(found.interface)?.link != decode::NFLOG {
            return None;
        }
        let data = self.input.rest().get(found.data.0..found.data.1)?;
        let mut data = data.to_vec();
        decode::turn_nflog(&mut data);
        Some(data)
    }

    /// The bytes of the packet that was gone on to, which are these in the file.
    #[inline]
    pub(super) fn turned_or<'a>(&'a self, data: &'a [u8]) -> &'a [u8] {
        self.turned.as_deref().unwrap_or(data)
    }
}
