//! Packet capture at the Netfilter prerouting hook, into a ring of memory-mapped pcapng files.
//!
//! Three sources: NFLOG groups, received in batches of a thousand packets
//! ([`source::nflog::Group`]); a verified program at the hook, which fills rings that are mapped
//! ([`source::hook::Hook`]); and NFQUEUE queues, whose packets wait until they are recorded
//! ([`source::nfqueue::Queue`]). From the packet on, all is alike. With a group:
//!
//! ```text
//!   kernel    nftables rule: counter name detected log group 5
//!                | one datagram: up to 1024 packets, or those of 100 ms
//!                v
//!   source    source::nflog::Group      receive(), batch(): lengths checked, nothing copied
//!                | packet::TemplateHit: like an earlier packet; packet::Packet: any other; lent
//!                v
//!   capture   capture::Capture          the loop: each packet into a Sink, commit once a batch
//!                v
//!   format    format::pcapng::PcapNg    encode() writes the record into its slot
//!                v
//!   file      ring::Ring                slot() in the live file's mapping, commit() once a batch
//!                ^ ready | ^ full
//!                |       v |
//!             ring::swapper             prepares the next file, finishes the last: its own thread
//! ```
//!
//! [`account`] counts what became of every packet. What is public is what a program needs that
//! captures by itself; the command line, its sessions and its rules are this package's own. What
//! parses and what encodes does no I/O. `docs/ARCHITECTURE.md` says who owns what, and why.
//!
//! # Reading a group
//!
//! Needs CAP_NET_ADMIN in the network namespace, and a rule that says `log group 5`.
//!
//! ```no_run
//! use lwnflog::source::nflog::{Group, GroupConfig};
//! use lwnflog::source::{Arrival, Item, Source, Walk};
//!
//! // Group 5, of each packet the first 114 bytes from its IPv4 header on.
//! let mut group = Group::open(GroupConfig::new(5, 114))?;
//! loop {
//!     if group.receive(true)? == Arrival::Nothing {
//!         continue; // a tenth of a second without packets
//!     }
//!     let mut batch = group.batch();
//!     while let Some(item) = batch.next() {
//!         match item {
//!             Item::Packet(packet) => println!(
//!                 "number {:?}, interface {}, {} bytes",
//!                 packet.sequence,
//!                 packet.ifindex(),
//!                 packet.network_len(),
//!             ),
//!             Item::Malformed(why) => eprintln!("passed over: {why}"),
//!         }
//!     }
//!     group.finish_batch()?;
//! }
//! # #[allow(unreachable_code)]
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Writing a ring
//!
//! Needs no right but that to write to the directory. Packets may come from anywhere.
//!
//! ```
//! use std::sync::mpsc;
//!
//! use lwnflog::packet::{ETHERTYPE_IPV4, Packet};
//! use lwnflog::format::pcapng::PcapNg;
//! use lwnflog::format::{Context, Format, Frame, Interfaces, LinkType};
//! use lwnflog::ring::{Access, Limits, NoSlot, Ring, RingConfig, Store, segment_bytes_for};
//!
//! const SNAPLEN: u32 = 128;
//!
//! # let tmp = tempfile::tempdir()?;
//! # let dir = tmp.path().to_path_buf();
//! let segment_bytes = segment_bytes_for(PcapNg::record_bytes_max(SNAPLEN as usize));
//! let names = Interfaces::new(|ifindex| Some(format!("interface {ifindex}")));
//! let mut format = PcapNg::new(LinkType::Ethernet, SNAPLEN, "an example".into(), segment_bytes, names);
//! let config = RingConfig {
//!     dir: dir.clone(),
//!     name: "example".into(),
//!     extension: PcapNg::EXTENSION,
//!     file_bytes: 1 << 20,
//!     limits: Limits::files(4), // then the oldest is overwritten
//!     segment_bytes,
//!     padding_blocks: PcapNg::PADDING_BLOCKS,
//! };
//! let store = Store::open(&dir, "example", PcapNg::EXTENSION, Access::default())?; // takes the ring's lock
//! let (to_me, notices) = mpsc::channel(); // what the swapper has to say: a finished file, a full disk
//! let mut ring = Ring::open(config, store, to_me)?;
//!
//! // Begin a file: room for its end, then the blocks it starts with.
//! ring.keep_for_end(format.end_bytes());
//! assert!(ring.next_file());
//! format.begin(&mut |block| assert!(ring.append_block(block)));
//!
//! // One packet: an IPv4 header of 20 bytes, told to have come by interface 2.
//! let header = [0x45, 0, 0, 20, 0, 0, 0, 0, 64, 17, 0, 0, 198, 18, 0, 1, 198, 18, 0, 2];
//! let packet = Packet { payload: &header, protocol: ETHERTYPE_IPV4, ifindex_in: 2, ..Packet::default() };
//! assert_eq!(format.interface(packet.ifindex()), None); // a new interface: its block, before its first packet
//! let block = format.declare(&packet);
//! assert!(ring.append_block(&block));
//! let interface = format.interface(packet.ifindex()).ok_or("declared above")?;
//! let frame = Frame::new(&packet, LinkType::Ethernet, SNAPLEN);
//! let context = Context { stamp_ticks: 1_764_000_000_000_000, lost_before: 0, interface };
//! match ring.slot(format.record_bytes(&packet, &frame, &context)) {
//!     Ok(mut slot) => {
//!         let head = format.encode(&packet, &frame, &context, slot.space());
//!         slot.append(head); // a slot that is dropped instead leaves no record
//!         ring.note_first(context.stamp_ticks);
//!     }
//!     Err(NoSlot::FileFull | NoSlot::NoFile) => unreachable!("end the file, then next_file()"),
//! }
//! ring.commit(); // now any reader of the live file sees it
//!
//! format.end(&mut |block| ring.append_end(block));
//! let (files, _) = ring.close();
//! assert_eq!(files.len(), 1);
//! assert!(files[0].ends_with("example-000001-20251124T160000Z.pcapng"));
//! # assert!(matches!(notices.try_recv(), Ok(lwnflog::ring::Notice::Finished { .. })));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The loop, ready made
//!
//! [`capture::Capture`] does all of that from any [`source::Source`] into any ring, and keeps the
//! account. `format` and `ring` are made as above.
//!
//! ```no_run
//! use std::sync::Arc;
//! use std::thread;
//!
//! use lwnflog::account::Account;
//! use lwnflog::capture::{Capture, Control, FileSink};
//! use lwnflog::format::LinkType;
//! use lwnflog::format::pcapng::PcapNg;
//! use lwnflog::ring::Ring;
//! use lwnflog::source::nflog::{Group, GroupConfig};
//!
//! # fn example(format: PcapNg, ring: Ring) -> Result<(), Box<dyn std::error::Error>> {
//! let group = Group::open(GroupConfig::new(5, LinkType::Ethernet.copy_range_bytes(128)))?;
//! let sink = FileSink::new(format, ring, LinkType::Ethernet, 128);
//! let (control, account) = (Arc::new(Control::new(None)), Arc::new(Account::default()));
//! let capture = Capture::new(group, sink, Arc::clone(&control), Arc::clone(&account));
//! let thread = thread::spawn(move || capture.run());
//!
//! thread::sleep(std::time::Duration::from_secs(10));
//! println!("{} packets so far", account.read().written);
//!
//! control.stop();
//! let outcome = thread.join().map_err(|_| "the capturing thread panicked")?;
//! println!("{} written, {} lost", outcome.tally.written, outcome.tally.overrun);
//! # Ok(())
//! # }
//! ```

pub mod account;
pub mod capture;
mod checksum;
pub mod format;
pub mod packet;
pub mod ring;
pub mod source;

// Open to this package's programs and tests, and no part of the interface.
#[doc(hidden)]
pub mod chores;
#[doc(hidden)]
pub mod cli;
#[doc(hidden)]
pub mod control;
#[doc(hidden)]
pub mod decode;
#[doc(hidden)]
pub mod doctor;
#[doc(hidden)]
pub mod export;
#[doc(hidden)]
pub mod index;
#[doc(hidden)]
pub mod lab;
#[doc(hidden)]
pub mod metrics;
#[doc(hidden)]
pub mod netlink;
#[doc(hidden)]
pub mod nft;
#[doc(hidden)]
pub mod numbers;
#[doc(hidden)]
pub mod path;
#[doc(hidden)]
pub mod read;
#[doc(hidden)]
pub mod report;
#[doc(hidden)]
pub mod serve;
#[doc(hidden)]
pub mod session;
#[doc(hidden)]
pub mod sys;

/// The documents' example, compiled with the others.
#[cfg(doctest)]
#[doc = include_str!("../docs/USAGE.md")]
struct Usage;
