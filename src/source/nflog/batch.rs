//! The packets of one datagram, by template where they hit one.

use super::message;
use super::template::{MessageTemplate, Templates};
use crate::netlink::message::Messages;
use crate::packet::{Packet, TemplateHit};
use crate::source::{self, Count, Item, Walk};

/// Counts the packets of a datagram without looking into them.
#[inline]
pub fn count(datagram: &[u8]) -> Count {
    let mut count = Count::default();
    for message in Messages::new(datagram) {
        match message {
            Ok(message) if message.kind == message::PACKET => {
                if count.first_sequence.is_none() {
                    count.first_sequence = message::parse(&message)
                        .ok()
                        .and_then(|packet| packet.sequence);
                    count.unnumbered += u64::from(count.first_sequence.is_none());
                }
                count.packets += 1;
            }
            Ok(_) => {}
            Err(_) => count.malformed = true,
        }
    }
    count
}

/// The packets of one datagram.
#[derive(Debug)]
pub struct Batch<'a> {
    messages: Messages<'a>,
    templates: &'a mut Templates,
    packet: Packet<'a>,
}

impl<'a> Batch<'a> {
    /// The packets in `datagram`, as the kernel sent it. `templates` are those of the group's
    /// earlier datagrams.
    #[inline]
    pub fn new(datagram: &'a [u8], templates: &'a mut Templates) -> Self {
        Batch {
            messages: Messages::new(datagram),
            templates,
            packet: Packet::default(),
        }
    }
}

impl<'a> Walk for Batch<'a> {
    type Hits<'h>
        = Hits<'h, 'a>
    where
        Self: 'h;

    fn next(&mut self) -> Option<Item<'_>> {
        loop {
            let rest = self.messages.rest();
            if let Some(place) = self.templates.find(rest)
                && let Some(template) = self.templates.get(place)
                && let Some((hit, behind)) = template.read(rest)
            {
                self.messages = Messages::new(behind);
                self.packet = Packet {
                    template: Some(place),
                    ..template.packet(&hit, rest)
                };
                return Some(Item::Packet(&self.packet));
            }
            let parsed = match self.messages.next()? {
                Ok(message) if message.kind == message::PACKET => message::parse(&message),
                Ok(_) => continue, // the end of the datagram, an acknowledgement
                Err(error) => Err(error),
            };
            return Some(match parsed {
                Ok(packet) => {
                    let template = self.templates.learn(rest, &packet);
                    self.packet = Packet { template, ..packet };
                    Item::Packet(&self.packet)
                }
                Err(error) => Item::Malformed(error),
            });
        }
    }

    #[inline]
    fn template(&mut self) -> Option<usize> {
        self.templates.find(self.messages.rest())
    }

    #[inline]
    fn hits(&mut self, template: usize) -> Option<Hits<'_, 'a>> {
        let rest = self.messages.rest();
        Some(Hits {
            template: self.templates.get(template)?,
            rest,
            behind: rest,
            messages: &mut self.messages,
        })
    }
}

/// The messages of a datagram that come next, for as long as they hit one template.
#[derive(Debug)]
pub struct Hits<'h, 'a> {
    template: &'h MessageTemplate,
    rest: &'a [u8],
    /// What is behind the message that was peeked at last.
    behind: &'a [u8],
    messages: &'h mut Messages<'a>,
}

impl source::Hits for Hits<'_, '_> {
    // As long as `MessageTemplate::read`, and repeated in the two loops that call it for the same
    // reason.
    #[inline(always)]
    fn peek(&mut self) -> Option<TemplateHit<'_>> {
        let (hit, behind) = self.template.read(self.rest)?;
        self.behind = behind;
        Some(hit)
    }

    #[inline]
    fn pass(&mut self) {
        self.rest = self.behind;
    }
}

impl Drop for Hits<'_, '_> {
    #[inline]
    fn drop(&mut self) {
        *self.messages = Messages::new(self.rest);
    }
}
