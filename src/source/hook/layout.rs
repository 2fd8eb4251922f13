//! Where what stands in the mapped memory: known to the program that writes and the reader that
//! reads.
//!
//! ```text
//!   a ring, one a processor             a record, at a multiple of 8
//!      0  head                              0  u32 bytes of the record
//!      8  detected                          4  u32 length of the packet
//!     16  dropped                           8  u64 time, nanoseconds since 1970
//!     24  left out: interface              16  u32 dropped so far (the counter's lower half)
//!     32  left out: mark                   20  u32 bytes of the packet that are here
//!     40  left out: sample                 24  u32 interface
//!     48  left out: cutoff                 28  u32 mark
//!     56  packets to the next sample       32  u16 type of the interface
//!     64  left out: paused
//!    128  tail (the reader's)              34  14 bytes of Ethernet header, if the type has one
//!    192  busy (see `guard`)               48  the packet, from its IP header on
//!   4096  the ring's bytes, then room for
//!         one record that begins at their end
//! ```
//!
//! `head` and `tail` count bytes and never step back; a position within the ring is what remains of
//! them by its size, a power of two. A record that reaches the ring's end or goes beyond is the
//! last before its start: the next begins at the next multiple of the size.

/// Bytes written by the program: the position behind the last record.
pub const HEAD: usize = 0;
/// Packets at the hook.
pub const DETECTED: usize = 8;
/// Packets that found the ring full.
pub const DROPPED: usize = 16;
/// Packets of an interface that is not captured.
pub const LEFT_INTERFACE: usize = 24;
/// Packets without the mark.
pub const LEFT_MARK: usize = 32;
/// Packets that the sample passes over.
pub const LEFT_SAMPLE: usize = 40;
/// Packets of connections that have had their bytes.
pub const LEFT_CUTOFF: usize = 48;
/// Packets to pass over until the next of the sample.
pub const SKIP: usize = 56;
/// Packets that came while the capture was paused.
pub const LEFT_PAUSED: usize = 64;
/// Bytes the reader has done with.
pub const TAIL: usize = 128;
/// Whether the program is at work on this ring.
pub const BUSY: usize = 192;
/// Where the bytes begin.
pub const BYTES: usize = 4096;

/// Bytes of a record before the packet.
pub const PACKET: usize = 48;
/// Where its length stands.
pub const RECORD_BYTES: usize = 0;
/// Where the packet's length stands.
pub const RECORD_ORIGINAL: usize = 4;
/// Where its time stands.
pub const RECORD_STAMP: usize = 8;
/// Where the dropped so far stand.
pub const RECORD_DROPPED: usize = 16;
/// Where the bytes that are here stand.
pub const RECORD_CAPTURED: usize = 20;
/// Where the interface stands.
pub const RECORD_INTERFACE: usize = 24;
/// Where the mark stands.
pub const RECORD_MARK: usize = 28;
/// Where the interface's type stands.
pub const RECORD_TYPE: usize = 32;
/// Where the Ethernet header stands.
pub const RECORD_ETHERNET: usize = 34;
/// Records stand at multiples of this.
pub const ALIGN: usize = 8;

/// In the settings: packets on processors that have no ring.
pub const LATE: usize = 0;
/// Packets that came while the program was at work on the same ring.
pub const NESTED: usize = 8;
/// Packets for which there was no ring, of an interface that is not captured.
pub const WITHOUT_RING_INTERFACE: usize = 16;
/// Packets for which there was no ring, without the mark.
pub const WITHOUT_RING_MARK: usize = 24;
/// Packets for which there was no ring, that came while the capture was paused.
pub const WITHOUT_RING_PAUSED: usize = 32;
/// What the kernel's atomic time is ahead of the time of day, nanoseconds.
pub const TAI_AHEAD: usize = 64;
/// Bytes to copy of each packet; 0 is a capture that is paused.
pub const COPY_RANGE: usize = 72;
/// One packet in so many.
pub const SAMPLE: usize = 80;
/// Bytes to capture of each connection.
pub const CUTOFF: usize = 88;
/// Whether packets of all interfaces are captured, whatever is named.
pub const ALL_INTERFACES: usize = 96;
/// Interfaces to capture.
pub const INTERFACES: usize = 128;
/// So many at the most.
pub const INTERFACES_MAX: usize = 16;
/// By processor: the number of its ring.
pub const SLOTS: usize = 256;
/// No ring.
pub const NO_SLOT: u32 = u32::MAX;

/// Bytes of a record of so many bytes of packet.
pub const fn record_bytes(captured: usize) -> usize {
    (PACKET + captured + (ALIGN - 1)) & !(ALIGN - 1)
}
