//! From text to tests.

use std::fmt;
use std::net::IpAddr;

use super::words::{Word, words};
use super::{Node, Way};
use crate::read::decode::Address;

/// What is wrong with a filter, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterError {
    text: String,
    /// Where, in bytes.
    at: usize,
    what: String,
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let before = self.text.get(..self.at).unwrap_or(&self.text);
        let indent = " ".repeat(before.chars().count());
        write!(f, "the filter: {}\n  {}\n  {indent}^", self.what, self.text)
    }
}

impl std::error::Error for FilterError {}

/// What a bare value is taken for: what the one before was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kind {
    way: Way,
    what: What,
    protocol: Option<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Host,
    Net,
    Port,
    PortRange,
}

struct Parser<'a> {
    text: &'a str,
    words: Vec<Word<'a>>,
    next: usize,
    last: Option<Kind>,
}

const PROTOCOLS: [(&str, u8, Option<u8>); 13] = [
    ("ip", 4, None),
    ("ip6", 6, None),
    ("tcp", 0, Some(6)),
    ("udp", 0, Some(17)),
    ("sctp", 0, Some(132)),
    ("icmp", 4, Some(1)),
    ("icmp6", 6, Some(58)),
    ("igmp", 4, Some(2)),
    ("gre", 0, Some(47)),
    ("esp", 0, Some(50)),
    ("ah", 0, Some(51)),
    ("pim", 0, Some(103)),
    ("vrrp", 4, Some(112)),
];

const OPERATORS: [&str; 6] = ["and", "or", "not", "&&", "||", "!"];

/// How deep parentheses and `not` may stand.
const DEPTH_MAX: usize = 200;

/// `None` of an empty filter.
pub(super) fn parse(text: &str) -> Result<Option<Node>, FilterError> {
    let mut parser = Parser {
        text,
        words: words(text),
        next: 0,
        last: None,
    };
    if parser.words.is_empty() {
        return Ok(None);
    }
    let node = parser.expression(0)?;
    match parser.peek() {
        None => Ok(Some(node)),
        Some(word) => {
            let what = format!(
                "`{}` does not belong here: `and` or `or` is wanted between two tests",
                word.text
            );
            Err(parser.wrong(word.at, what))
        }
    }
}

impl<'a> Parser<'a> {
    fn wrong(&self, at: usize, what: impl Into<String>) -> FilterError {
        FilterError {
            text: self.text.to_owned(),
            at,
            what: what.into(),
        }
    }

    fn peek(&self) -> Option<Word<'a>> {
        self.words.get(self.next).copied()
    }

    fn take(&mut self) -> Option<Word<'a>> {
        let word = self.peek()?;
        self.next += 1;
        Some(word)
    }

    fn take_if(&mut self, text: &str) -> bool {
        let found = self.peek().is_some_and(|word| word.text == text);
        self.next += usize::from(found);
        found
    }

    /// The word that has to follow.
    fn wanted(&mut self, what: &str) -> Result<Word<'a>, FilterError> {
        match self.take() {
            Some(word) => Ok(word),
            None => Err(self.wrong(self.text.len(), format!("it ends where {what} is wanted"))),
        }
    }

    /// `and` and `or` bind alike, from left to right, as in libpcap.
    fn expression(&mut self, depth: usize) -> Result<Node, FilterError> {
        let mut node = self.term(depth)?;
        loop {
            let (one, both) = match self.peek().map(|word| word.text) {
                Some("and" | "&&") => (node, true),
                Some("or" | "||") => (node, false),
                _ => return Ok(node),
            };
            self.next += 1;
            let (one, other) = (Box::new(one), Box::new(self.term(depth)?));
            node = if both {
                Node::And(one, other)
            } else {
                Node::Or(one, other)
            };
        }
    }

    fn term(&mut self, depth: usize) -> Result<Node, FilterError> {
        let word = self.wanted("a test")?;
        if depth > DEPTH_MAX {
            return Err(self.wrong(word.at, "it is nested too deeply"));
        }
        match word.text {
            "not" | "!" => Ok(Node::Not(Box::new(self.term(depth + 1)?))),
            "(" => {
                let node = self.expression(depth + 1)?;
                match self.take_if(")") {
                    true => Ok(node),
                    false => {
                        let at = self.peek().map_or(self.text.len(), |word| word.at);
                        Err(self.wrong(at, "`)` is wanted here"))
                    }
                }
            }
            _ => self.test(word),
        }
    }

    fn test(&mut self, word: Word<'a>) -> Result<Node, FilterError> {
        match word.text {
            "iface" | "ifname" => Ok(Node::Interface(self.value("an interface")?)),
            "prefix" => Ok(Node::Prefix(self.value("a rule's prefix")?)),
            "lost" => Ok(Node::Lost),
            "mark" => self.mark(),
            "less" => Ok(Node::AtMost(self.number("a length in bytes")?)),
            "greater" => Ok(Node::AtLeast(self.number("a length in bytes")?)),
            "proto" => self.protocol_number(0),
            "src" | "dst" | "host" | "net" | "port" | "portrange" => self.qualified(word, None),
            text => match PROTOCOLS.iter().find(|(name, ..)| *name == text) {
                Some((_, version, protocol)) => self.behind_protocol(*version, *protocol),
                None => match self.last {
                    Some(kind) => self.of_kind(kind, word),
                    None => self.of_kind(
                        Kind {
                            way: Way::Either,
                            what: What::Host,
                            protocol: None,
                        },
                        word,
                    ),
                },
            },
        }
    }

    /// `tcp`, `tcp port 80`, `ip proto 47`, `ip host 192.0.2.1`.
    fn behind_protocol(&mut self, version: u8, protocol: Option<u8>) -> Result<Node, FilterError> {
        let node = Node::Protocol(version, protocol);
        let Some(word) = self.peek() else {
            return Ok(node);
        };
        match (word.text, protocol) {
            ("proto", None) => {
                self.next += 1;
                self.protocol_number(version)
            }
            ("src" | "dst" | "host" | "net" | "port" | "portrange", _) => {
                self.next += 1;
                let test = self.qualified(word, protocol)?;
                Ok(Node::And(Box::new(node), Box::new(test)))
            }
            _ => Ok(node),
        }
    }

    fn protocol_number(&mut self, version: u8) -> Result<Node, FilterError> {
        let word = self.wanted("a protocol")?;
        let name = word.text.trim_start_matches('\\');
        let named = PROTOCOLS
            .iter()
            .find(|(known, _, protocol)| *known == name && protocol.is_some());
        let number = match named {
            Some((_, _, protocol)) => *protocol,
            None => name.parse().ok(),
        };
        match number {
            Some(number) => Ok(Node::Protocol(version, Some(number))),
            None => Err(self.wrong(
                word.at,
                format!("`{name}` is no protocol: a number to 255, or tcp, udp, icmp, gre, esp"),
            )),
        }
    }

    /// `src`, `src or dst`, `dst net`, `port`.
    fn qualified(&mut self, word: Word<'a>, protocol: Option<u8>) -> Result<Node, FilterError> {
        let mut way = Way::Either;
        let mut what_word = word;
        if matches!(word.text, "src" | "dst") {
            way = if word.text == "src" {
                Way::Source
            } else {
                Way::Destination
            };
            let other = if word.text == "src" { "dst" } else { "src" };
            let behind = |offset: usize| self.words.get(self.next + offset).map(|word| word.text);
            if behind(1) == Some(other) {
                match behind(0) {
                    Some("or" | "||") => way = Way::Either,
                    Some("and" | "&&") => way = Way::Both,
                    _ => {}
                }
                if matches!(way, Way::Either | Way::Both) {
                    self.next += 2;
                }
            }
            what_word = self.wanted("an address, `host`, `net` or `port`")?;
        }
        let what = match what_word.text {
            "host" => What::Host,
            "net" => What::Net,
            "port" => What::Port,
            "portrange" => What::PortRange,
            _ => {
                let kind = Kind {
                    way,
                    what: What::Host,
                    protocol,
                };
                return self.of_kind(kind, what_word);
            }
        };
        let kind = Kind {
            way,
            what,
            protocol,
        };
        let value = self.wanted("a value")?;
        self.of_kind(kind, value)
    }

    fn of_kind(&mut self, kind: Kind, value: Word<'a>) -> Result<Node, FilterError> {
        if OPERATORS.contains(&value.text) || matches!(value.text, "(" | ")") {
            return Err(self.wrong(
                value.at,
                format!("a value is wanted here, not `{}`", value.text),
            ));
        }
        self.last = Some(kind);
        match kind.what {
            What::Host => self.net(kind.way, value, false),
            What::Net => self.net(kind.way, value, true),
            What::Port => {
                let port = self.port(value)?;
                Ok(Node::Ports(kind.way, port, port, kind.protocol))
            }
            What::PortRange => {
                let parts = value.text.split_once('-');
                let (first, last) =
                    parts.ok_or_else(|| self.wrong(value.at, "a range is written 1000-2000"))?;
                let part = |text| Word { text, at: value.at };
                let (first, last) = (self.port(part(first))?, self.port(part(last))?);
                Ok(Node::Ports(
                    kind.way,
                    first.min(last),
                    first.max(last),
                    kind.protocol,
                ))
            }
        }
    }

    fn port(&self, word: Word<'a>) -> Result<u16, FilterError> {
        const NAMES: [(&str, u16); 12] = [
            ("ftp", 21),
            ("ssh", 22),
            ("telnet", 23),
            ("smtp", 25),
            ("domain", 53),
            ("http", 80),
            ("ntp", 123),
            ("snmp", 161),
            ("https", 443),
            ("syslog", 514),
            ("imaps", 993),
            ("mysql", 3306),
        ];
        let named = NAMES.iter().find(|(name, _)| *name == word.text);
        let port = named.map_or_else(|| word.text.parse().ok(), |(_, port)| Some(*port));
        port.ok_or_else(|| {
            self.wrong(
                word.at,
                format!(
                    "`{}` is no port: a number to 65535, or a well-known name",
                    word.text
                ),
            )
        })
    }

    /// An address, or with `nets` a network: `192.0.2.0/24`, `192.0.2`, `2001:db8::/32`.
    fn net(&self, way: Way, word: Word<'a>, nets: bool) -> Result<Node, FilterError> {
        let text = word.text;
        let what = if nets { "network" } else { "address" };
        let wrong = |why: &str| self.wrong(word.at, format!("`{text}` is no {what}{why}"));
        let (text, bits) = match text.split_once('/') {
            Some((text, bits)) => {
                let bits: u32 = bits
                    .parse()
                    .map_err(|_| wrong(": behind `/` stands a number of bits"))?;
                (text, Some(bits))
            }
            None => (text, None),
        };
        let parts = text.split('.').count();
        let padded;
        let (text, implied) = match (nets, text.contains(':'), parts) {
            (true, false, 1..=3) => {
                padded = format!("{text}{}", ".0".repeat(4 - parts));
                (padded.as_str(), u32::try_from(8 * parts).unwrap_or(32))
            }
            (_, true, _) => (text, 128),
            _ => (text, 32),
        };
        let address: IpAddr = text
            .parse()
            .map_err(|_| wrong(": names are not looked up, give the address"))?;
        let (version, address, width): (u8, Address, u32) = match address {
            IpAddr::V4(address) => (4, u32::from(address).into(), 32),
            IpAddr::V6(address) => (6, address.into(), 128),
        };
        let bits = bits.unwrap_or(implied);
        if bits > width {
            return Err(wrong(&format!(": it has {width} bits")));
        }
        let all: Address = if width == 32 {
            u32::MAX.into()
        } else {
            Address::MAX
        };
        let mask = match bits {
            0 => 0,
            bits => all & (Address::MAX << (width - bits)),
        };
        if address & mask != address {
            return Err(wrong(": bits are set behind its length"));
        }
        Ok(Node::Net(way, version, address, mask))
    }

    /// A word, or a text in quotes.
    fn value(&mut self, what: &str) -> Result<String, FilterError> {
        let word = self.wanted(what)?;
        let quote = word
            .text
            .chars()
            .next()
            .filter(|letter| matches!(letter, '"' | '\''));
        Ok(match quote {
            Some(quote) => word.text.trim_matches(quote).to_owned(),
            None => word.text.to_owned(),
        })
    }

    fn number(&mut self, what: &str) -> Result<u32, FilterError> {
        let word = self.wanted(what)?;
        word.text
            .parse()
            .map_err(|_| self.wrong(word.at, format!("`{}` is not {what}", word.text)))
    }

    fn mark(&mut self) -> Result<Node, FilterError> {
        let word = self.wanted("a mark")?;
        let number = |text: &str| match text.strip_prefix("0x") {
            Some(digits) => u32::from_str_radix(digits, 16).ok(),
            None => text.parse().ok(),
        };
        let (value, mask) = word
            .text
            .split_once('/')
            .unwrap_or((word.text, "0xffffffff"));
        match number(value).zip(number(mask)) {
            Some((value, mask)) => Ok(Node::Mark(value, mask)),
            None => Err(self.wrong(
                word.at,
                format!("`{}` is no mark: 0x2a, or 0x2a/0xff", word.text),
            )),
        }
    }
}
