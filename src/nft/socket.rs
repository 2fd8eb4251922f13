//! A netlink socket to nftables: asking for one thing, dumping many, committing a batch.
//!
//! nftables answers while the request is being sent, so an answer is always there to be
//! read: the socket never blocks, and no answer is an error, not a wait.

use std::io::{self, Cursor};
use std::time::Instant;

use neli::{
    FromBytesWithInput, ToBytes,
    consts::{
        nl::{NlmF, Nlmsg},
        socket::{Msg, NlFamily},
    },
    err::MsgError,
    nl::{NlPayload, Nlmsghdr},
    socket::NlSocket,
    types::NlBuffer,
    utils::Groups,
};

use rustix::net::sockopt::{set_socket_send_buffer_size, set_socket_send_buffer_size_force};

use super::{
    constants::{
        NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END, NFNL_SUBSYS_NFTABLES, NFPROTO_UNSPEC,
        NFT_MSG_GETGEN, NFTA_GEN_ID, message_type,
    },
    error::RuleError,
    message::{Attrs, Lookup, NfMessage, message},
};

/// The kernel's datagrams of a dump have at most 32 KiB.
const RECEIVE_BYTES: usize = 64 * 1024;

/// How often a dump is tried that a change of the rules interrupts. What the last one brought is
/// taken then.
const DUMP_TRIES: u32 = 3;

/// A request that changes something, as one step of a batch.
#[derive(Debug)]
pub(super) struct Step {
    /// `NFT_MSG_*`.
    pub(super) kind: u16,
    /// `NLM_F_CREATE` and the like.
    pub(super) flags: NlmF,
    /// What to create, change or delete.
    pub(super) attrs: Attrs,
}

/// The kernel's first objection to a batch, of which it then did nothing at all.
#[derive(Debug)]
pub(super) struct Refusal {
    /// Index of the step refused; `None` if it was the batch as a whole.
    pub(super) step: Option<usize>,
    /// The error number, positive.
    pub(super) errno: i32,
}

/// A socket of the netfilter family, closed on exec.
pub(super) struct NftSocket {
    socket: NlSocket,
    buffer: Vec<u8>,
    last_seq: u32,
}

impl NftSocket {
    /// Opens the socket in the network namespace of the calling thread.
    pub(super) fn open() -> Result<Self, RuleError> {
        let socket = NlSocket::connect(NlFamily::Netfilter, None, Groups::empty())
            .and_then(|socket| socket.nonblock().map(|()| socket))
            .map_err(RuleError::Socket)?;
        Ok(NftSocket {
            socket,
            buffer: vec![0; RECEIVE_BYTES],
            last_seq: 0,
        })
    }

    /// Asks for one object; `None` if there is no such thing.
    pub(super) fn get(
        &mut self,
        request: &'static str,
        kind: u16,
        family: u8,
        attrs: Attrs,
    ) -> Result<Option<NfMessage>, RuleError> {
        let seq = self.ask(request, kind, NlmF::empty(), family, attrs)?;
        while let Some(answers) = self.receive(request)? {
            for answer in answers {
                if *answer.nl_seq() != seq {
                    continue;
                }
                match error_number(&answer) {
                    None => return Ok(payload(&answer)),
                    Some(libc::ENOENT) => return Ok(None),
                    Some(errno) => return Err(refused(request, errno)),
                }
            }
        }
        Err(no_answer(request))
    }

    /// Asks for all objects of a kind in all families, or in one table, from one generation of the
    /// rules if they stand still for so long: what changes all the time is as it was found.
    ///
    /// # Errors
    /// [`RuleError::TooMany`] where it is not done by `deadline`: the socket is of no use then.
    pub(super) fn dump(
        &mut self,
        request: &'static str,
        kind: u16,
        table: Option<(u8, Attrs)>,
        deadline: Instant,
    ) -> Result<Vec<NfMessage>, RuleError> {
        let (family, attrs) = table.unwrap_or((NFPROTO_UNSPEC, Attrs::new()));
        for last_try in (1..=DUMP_TRIES).map(|number| number == DUMP_TRIES) {
            let begun = Instant::now();
            let (messages, whole) =
                self.dump_once(request, kind, family, attrs.clone(), deadline)?;
            // Another one takes as long.
            if whole || last_try || Instant::now() + begun.elapsed() > deadline {
                return Ok(messages);
            }
        }
        Ok(Vec::new())
    }

    /// The generation of the rules: another one after each change. `None` where the kernel does not
    /// say.
    pub(super) fn generation(&mut self) -> Result<Option<u32>, RuleError> {
        const REQUEST: &str = "ask for the rules' generation";
        let answer = self.get(REQUEST, NFT_MSG_GETGEN, NFPROTO_UNSPEC, Attrs::new())?;
        Ok(answer.and_then(|answer| answer.attrs.be32(NFTA_GEN_ID)))
    }

    /// One dump, to its end; and whether the rules stood still.
    fn dump_once(
        &mut self,
        request: &'static str,
        kind: u16,
        family: u8,
        attrs: Attrs,
        deadline: Instant,
    ) -> Result<(Vec<NfMessage>, bool), RuleError> {
        let seq = self.ask(request, kind, NlmF::DUMP, family, attrs)?;
        let mut messages = Vec::new();
        let mut interrupted = false;
        while let Some(answers) = self.receive(request)? {
            if Instant::now() > deadline {
                return Err(RuleError::TooMany);
            }
            for answer in answers {
                if *answer.nl_seq() != seq {
                    continue;
                }
                interrupted |= answer.nl_flags().contains(NlmF::DUMP_INTR);
                match error_number(&answer) {
                    None => {}
                    // A dump that cannot go on because its place is gone.
                    Some(libc::EINTR) => interrupted = true,
                    Some(errno) => return Err(refused(request, errno)),
                }
                if *answer.nl_type() == u16::from(Nlmsg::Done) {
                    return Ok((messages, !interrupted));
                }
                messages.extend(payload(&answer));
            }
        }
        Err(no_answer(request))
    }

    /// Has the kernel do all steps, or none and say why; `Ok(None)` if it did them.
    pub(super) fn commit(
        &mut self,
        request: &'static str,
        family: u8,
        mut steps: Vec<Step>,
    ) -> Result<Option<Refusal>, RuleError> {
        // Objections come unasked; an acknowledgement of the last step shows that all is done.
        if let Some(last) = steps.last_mut() {
            last.flags |= NlmF::ACK;
        }
        let begin = self.last_seq.wrapping_add(1);
        let (batch, end) =
            bracket(begin, family, steps).map_err(|error| bad_message(request, error))?;
        self.last_seq = end;
        self.send(request, &batch)?;

        let mut answered = false;
        let mut refusal = None;
        // All answers are there: read them all, so that none is left for the next request.
        while let Some(answers) = self.receive(request)? {
            for answer in answers {
                let place = answer.nl_seq().wrapping_sub(begin);
                answered = true;
                if let (Some(errno), None) = (error_number(&answer), &refusal) {
                    let step = usize::try_from(place).unwrap_or(0).checked_sub(1);
                    refusal = Some(Refusal { step, errno });
                }
            }
        }
        if answered {
            Ok(refusal)
        } else {
            Err(no_answer(request))
        }
    }

    /// Sends one request and returns its sequence number.
    fn ask(
        &mut self,
        request: &'static str,
        kind: u16,
        flags: NlmF,
        family: u8,
        attrs: Attrs,
    ) -> Result<u32, RuleError> {
        self.last_seq = self.last_seq.wrapping_add(1);
        let message = message(message_type(kind), flags, self.last_seq, family, 0, attrs)
            .map_err(|error| bad_message(request, error))?;
        self.send(request, &message)?;
        Ok(self.last_seq)
    }

    fn send(&self, request: &'static str, messages: &impl ToBytes) -> Result<(), RuleError> {
        let mut bytes = Cursor::new(Vec::new());
        messages
            .to_bytes(&mut bytes)
            .map_err(|error| bad_message(request, error))?;
        self.make_room(bytes.get_ref().len());
        self.socket
            .send(bytes.get_ref(), Msg::empty())
            .map(|_sent| ())
            .map_err(|source| RuleError::Netlink { request, source })
    }

    /// A batch is one datagram, and a large set more than a socket sends by default. What the kernel
    /// does not grant, sending tells.
    fn make_room(&self, bytes: usize) {
        const USUAL_BYTES: usize = 64 << 10;
        if bytes > USUAL_BYTES {
            let socket = crate::sys::netlink::borrow(&self.socket);
            let room = bytes + USUAL_BYTES;
            let _ = set_socket_send_buffer_size_force(socket, room)
                .or_else(|_| set_socket_send_buffer_size(socket, room));
        }
    }

    /// The messages of one datagram; `None` if there is no datagram.
    fn receive(
        &mut self,
        request: &'static str,
    ) -> Result<Option<NlBuffer<u16, NfMessage>>, RuleError> {
        let length = match self.socket.recv(&mut self.buffer, Msg::empty()) {
            Ok((length, _groups)) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(source) => return Err(RuleError::Netlink { request, source }),
        };
        NlBuffer::from_bytes_with_input(&mut Cursor::new(&self.buffer[..length]), length)
            .map(Some)
            .map_err(|error| bad_message(request, error))
    }
}

/// The messages of a batch, numbered from `begin`, and the number of the last.
fn bracket(
    begin: u32,
    family: u8,
    steps: Vec<Step>,
) -> Result<(NlBuffer<u16, NfMessage>, u32), MsgError> {
    let bracket = |kind, seq| {
        let (flags, attrs) = (NlmF::empty(), Attrs::new());
        message(
            kind,
            flags,
            seq,
            NFPROTO_UNSPEC,
            NFNL_SUBSYS_NFTABLES,
            attrs,
        )
    };
    let mut batch = NlBuffer::new();
    let mut seq = begin;
    batch.push(bracket(NFNL_MSG_BATCH_BEGIN, seq)?);
    for step in steps {
        seq = seq.wrapping_add(1);
        batch.push(message(
            message_type(step.kind),
            step.flags,
            seq,
            family,
            0,
            step.attrs,
        )?);
    }
    seq = seq.wrapping_add(1);
    batch.push(bracket(NFNL_MSG_BATCH_END, seq)?);
    Ok((batch, seq))
}

/// The positive error number in an answer, if it is an error.
fn error_number(answer: &Nlmsghdr<u16, NfMessage>) -> Option<i32> {
    let error = match answer.nl_payload() {
        NlPayload::Err(error) => *error.error(),
        NlPayload::DumpExtAck(done) => *done.error(),
        _ => 0,
    };
    (error != 0).then(|| error.wrapping_neg())
}

fn payload(answer: &Nlmsghdr<u16, NfMessage>) -> Option<NfMessage> {
    answer.get_payload().cloned()
}

/// The error for an answer that a correct request should not get.
pub(super) fn refused(request: &'static str, errno: i32) -> RuleError {
    match errno {
        libc::EPERM => RuleError::NoRight,
        // nfnetlink's words for a subsystem it does not have: the second one for a batch.
        libc::EINVAL | libc::EOPNOTSUPP => RuleError::NoNfTables,
        _ => RuleError::Refused {
            request,
            source: io::Error::from_raw_os_error(errno),
        },
    }
}

fn no_answer(request: &'static str) -> RuleError {
    RuleError::Message {
        request,
        problem: "there is none".to_owned(),
    }
}

pub(super) fn bad_message(request: &'static str, error: impl std::fmt::Display) -> RuleError {
    RuleError::Message {
        request,
        problem: error.to_string(),
    }
}
