//! Captures that are made block by block.

pub const START_US: u64 = 1_764_252_000_000_000;
/// What could be taken for a part of the page.
pub const HOSTILE: &str = "\"><script>alert(1)</script>";

/// A capture, block by block.
pub struct File(pub Vec<u8>);

impl File {
    pub fn new() -> File {
        let mut file = File(Vec::new());
        let header = [0x1a2b_3c4d_u32, 1, u32::MAX, u32::MAX];
        file.block(0x0a0d_0d0a, &header.map(u32::to_le_bytes).concat());
        file.interface(HOSTILE, "", 128);
        file
    }

    pub fn interface(&mut self, name: &str, description: &str, snaplen: u32) {
        let mut interface = [228_u32, snaplen].map(u32::to_le_bytes).concat();
        option(&mut interface, 2, name.as_bytes());
        option(&mut interface, 3, description.as_bytes());
        interface.extend([0; 4]);
        self.block(1, &interface);
    }

    pub fn block(&mut self, kind: u32, body: &[u8]) {
        let padded = body.len().next_multiple_of(4);
        let total = u32::try_from(padded + 12).unwrap().to_le_bytes();
        self.0.extend(kind.to_le_bytes());
        self.0.extend(total);
        self.0.extend(body);
        self.0.resize(self.0.len() + padded - body.len(), 0);
        self.0.extend(total);
    }

    /// A packet so many milliseconds after the start, with what was lost before it.
    pub fn packet(&mut self, after_ms: u64, packet: &[u8], lost: u64) {
        self.packet_at(0, after_ms, packet, lost, "");
    }

    /// The same by another interface, with a note.
    pub fn packet_at(&mut self, at: u32, after_ms: u64, packet: &[u8], lost: u64, note: &str) {
        let prefix = format!("prefix={HOSTILE}");
        let comments = [prefix.as_str(), note];
        let some = 1 + usize::from(!note.is_empty());
        self.packet_with(at, after_ms, packet, lost, &comments[..some]);
    }

    /// The same with these comments alone.
    pub fn packet_with(
        &mut self,
        at: u32,
        after_ms: u64,
        packet: &[u8],
        lost: u64,
        comments: &[&str],
    ) {
        let stamp = START_US.wrapping_add(after_ms.wrapping_mul(1000));
        let len = u32::try_from(packet.len()).unwrap();
        let stamp = stamp.to_le_bytes();
        let mut body = at.to_le_bytes().to_vec();
        body.extend(&stamp[4..]);
        body.extend(&stamp[..4]);
        body.extend(len.to_le_bytes());
        body.extend(len.to_le_bytes());
        body.extend(packet);
        body.resize(body.len().next_multiple_of(4), 0);
        option(&mut body, 4, &lost.to_le_bytes());
        for comment in comments {
            option(&mut body, 1, comment.as_bytes());
        }
        body.extend([0; 4]);
        self.block(6, &body);
    }
}

pub fn option(out: &mut Vec<u8>, code: u16, value: &[u8]) {
    out.extend(code.to_le_bytes());
    out.extend(u16::try_from(value.len()).unwrap().to_le_bytes());
    out.extend(value);
    out.resize(out.len().next_multiple_of(4), 0);
}

pub fn ip(from: [u8; 4], to: [u8; 4], protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(20 + payload.len()).unwrap().to_be_bytes();
    let [high, low] = fragment.to_be_bytes();
    let mut packet = vec![0x45, 0, len[0], len[1], 0, 1, high, low, 64, protocol, 0, 0];
    packet.extend(from);
    packet.extend(to);
    packet.extend(payload);
    packet
}

pub fn tcp(from: u16, to: u16, flags: u8) -> Vec<u8> {
    let mut header = from.to_be_bytes().to_vec();
    header.extend(to.to_be_bytes());
    header.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 1, 0, 0, 0, 0, 0]);
    header
}
