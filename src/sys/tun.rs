//! A tun interface: packets written to it arrive at the host as if from a link without a header.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;

/// A tun interface in the network namespace that was the calling thread's when it was opened. It
/// vanishes with this value.
#[derive(Debug)]
pub struct Tun {
    file: File,
}

impl Tun {
    /// Makes the interface `name`, which must not be there.
    ///
    /// # Errors
    /// `InvalidInput` for a name that is too long, and what the system answers: it takes
    /// `CAP_NET_ADMIN`, `/dev/net/tun` and `CONFIG_TUN`.
    pub fn open(name: &str) -> io::Result<Tun> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/net/tun")?;
        // SAFETY: `ifreq` holds integers, arrays and pointers, for which all bits zero is valid.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        if name.len() >= request.ifr_name.len() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
            *to = libc::c_char::from_ne_bytes([from]);
        }
        let flags = libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_TUN_EXCL;
        request.ifr_ifru.ifru_flags = libc::c_short::from_ne_bytes(low_half(flags));
        // SAFETY: TUNSETIFF reads and writes one `ifreq`, which is live; its name ends in NUL.
        let failed = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
        if failed < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Tun { file })
    }

    /// Lets a packet (from its IP header on) arrive by the interface.
    ///
    /// # Errors
    /// What the system answers: `EIO` while the interface is down.
    pub fn inject(&mut self, packet: &[u8]) -> io::Result<()> {
        self.file.write_all(packet)
    }
}

/// The flags that `ifr_flags` has room for.
fn low_half(flags: i32) -> [u8; 2] {
    let [.., high, low] = flags.to_be_bytes();
    u16::from_be_bytes([high, low]).to_ne_bytes()
}
