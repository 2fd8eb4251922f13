//! Records that are in the byte order of the host that captured them.

use super::Packets;
use crate::decode;

impl Packets {
    /// Records of NFLOG are as the host had them that captured: of one whose byte order is not ours they
    /// are turned around, as libpcap does it.
    #[cold]
    pub(super) fn turn(&mut self) {
        self.turned = None;
        let Some(found) = &self.found else {
            return;
        };
        let link = self.interfaces.get(found.interface).map(|at| at.link);
        let data = self.input.rest().get(found.data.0..found.data.1);
        if let Some(data) = data.filter(|_| link == Some(decode::NFLOG)) {
            let mut data = data.to_vec();
            decode::turn_nflog(&mut data);
            self.turned = Some(data);
        }
    }
}
