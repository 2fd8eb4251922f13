//! From text to tests.

use super::error::FilterError;
use super::program::{Part, Program, Step};
use super::values::{Parsed, address, mark, number, port, text_of};
use super::words::Word;
use super::{Test, Way};

/// What a bare value is taken for: what the one before was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kind {
    what: What,
    way: Way,
    /// The version and protocol that stand before: `tcp`, `ip`.
    of: Option<(u8, Option<u8>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Host,
    Net,
    Port,
    PortRange,
    Protocol,
    Interface,
    Prefix,
    Mark,
    AtMost,
    AtLeast,
}

struct Parser<'a> {
    text: &'a str,
    words: Vec<Word<'a>>,
    next: usize,
    last: Option<Kind>,
    program: Program,
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

/// Words of libpcap's that are not in this filter. What has a `[` in it is not, either.
#[rustfmt::skip]
const NOT_HERE: [&str; 58] = [
    "aarp", "action", "arp", "atalk", "broadcast", "byte", "carp", "clnp", "decnet", "dir", "direction", "esis",
    "ether", "fddi", "gateway", "geneve", "icmp6type", "icmptype", "ifindex", "igrp", "inbound", "ipx", "iso", "isis",
    "l1", "l2", "lane", "lat", "len", "length", "link", "llc", "mask", "mopdl", "moprc", "mpls", "multicast", "netbeui",
    "on", "outbound", "ppp", "pppoed", "pppoes", "protochain", "radio", "rarp", "reason", "rnr", "rset", "rulenum",
    "ruleset", "slip", "stp", "subtype", "tr", "type", "vlan", "wlan",
];

/// How deep parentheses may stand.
const DEPTH_MAX: usize = 200;

/// No step of an empty filter.
pub(super) fn parse<'a>(text: &'a str, words: Vec<Word<'a>>) -> Result<Vec<Step>, FilterError> {
    if words.is_empty() {
        return Ok(Vec::new());
    }
    let mut parser = Parser {
        text,
        words,
        next: 0,
        last: None,
        program: Program::default(),
    };
    let whole = parser.expression(0)?;
    match parser.peek() {
        None => Ok(parser.program.whole(whole)),
        Some(word) if is_not_here(word) => Err(parser.not_here(word)),
        Some(word) => {
            let what = format!(
                "`{}` does not belong here: `and` or `or` is wanted between two tests",
                word.text
            );
            Err(parser.wrong(word.at, what))
        }
    }
}

fn is_not_here(word: Word<'_>) -> bool {
    NOT_HERE.contains(&word.text) || word.text.contains('[')
}

impl<'a> Parser<'a> {
    fn wrong(&self, at: usize, what: impl Into<String>) -> FilterError {
        FilterError::new(self.text, at, what.into())
    }

    fn not_here(&self, word: Word<'_>) -> FilterError {
        let what = format!(
            "`{}` is not in this filter: `lwnflog read -w - | tcpdump -r - 'EXPR'` has all of tcpdump's",
            word.text
        );
        self.wrong(word.at, what)
    }

    fn peek(&self) -> Option<Word<'a>> {
        self.words.get(self.next).copied()
    }

    fn take(&mut self) -> Option<Word<'a>> {
        let word = self.peek()?;
        self.next += 1;
        Some(word)
    }

    fn take_if(&mut self, texts: &[&str]) -> bool {
        let found = self.peek().is_some_and(|word| texts.contains(&word.text));
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
    fn expression(&mut self, depth: usize) -> Result<Part, FilterError> {
        let mut part = self.term(depth)?;
        loop {
            part = if self.take_if(&["and", "&&"]) {
                let other = self.term(depth)?;
                self.program.and(part, other)
            } else if self.take_if(&["or", "||"]) {
                let other = self.term(depth)?;
                self.program.or(part, other)
            } else {
                return Ok(part);
            };
        }
    }

    fn term(&mut self, depth: usize) -> Result<Part, FilterError> {
        let mut is_not = false;
        while self.take_if(&["not", "!"]) {
            is_not = !is_not;
        }
        let word = self.wanted("a test")?;
        let part = match word.text {
            "(" if depth == DEPTH_MAX => {
                let what = format!("parentheses stand in more than {DEPTH_MAX} others");
                return Err(self.wrong(word.at, what));
            }
            "(" => {
                let part = self.expression(depth + 1)?;
                if !self.take_if(&[")"]) {
                    let at = self.peek().map_or(self.text.len(), |word| word.at);
                    return Err(self.wrong(at, "`)` is wanted here"));
                }
                part
            }
            _ => self.test(word)?,
        };
        Ok(if is_not { Program::not(part) } else { part })
    }

    fn test(&mut self, word: Word<'a>) -> Result<Part, FilterError> {
        match word.text {
            "iface" | "ifname" => self.behind(What::Interface, "an interface"),
            "prefix" => self.behind(What::Prefix, "a rule's prefix"),
            "mark" => self.behind(What::Mark, "a mark"),
            "less" => self.behind(What::AtMost, "a length in bytes"),
            "greater" => self.behind(What::AtLeast, "a length in bytes"),
            "proto" => self.behind(What::Protocol, "a protocol"),
            "lost" => {
                self.last = None;
                Ok(self.program.test(Test::Lost))
            }
            "src" | "dst" | "host" | "net" | "port" | "portrange" => self.qualified(word, None),
            text => match PROTOCOLS.iter().find(|(name, ..)| *name == text) {
                Some((_, version, protocol)) => self.behind_protocol(*version, *protocol),
                None if is_not_here(word) => Err(self.not_here(word)),
                None => {
                    let host = Kind {
                        what: What::Host,
                        way: Way::Either,
                        of: None,
                    };
                    self.of_kind(self.last.unwrap_or(host), word)
                }
            },
        }
    }

    /// A value of which nothing more is said.
    fn behind(&mut self, what: What, wanted: &str) -> Result<Part, FilterError> {
        let value = self.wanted(wanted)?;
        let kind = Kind {
            what,
            way: Way::Either,
            of: None,
        };
        self.of_kind(kind, value)
    }

    /// `tcp`, `tcp port 80`, `ip proto 47`, `ip host 192.0.2.1`.
    fn behind_protocol(&mut self, version: u8, protocol: Option<u8>) -> Result<Part, FilterError> {
        let of = Some((version, protocol));
        match self.peek() {
            Some(word) if word.text == "proto" && protocol.is_none() => {
                self.next += 1;
                let value = self.wanted("a protocol")?;
                let kind = Kind {
                    what: What::Protocol,
                    way: Way::Either,
                    of,
                };
                self.of_kind(kind, value)
            }
            Some(word)
                if matches!(
                    word.text,
                    "src" | "dst" | "host" | "net" | "port" | "portrange"
                ) =>
            {
                self.next += 1;
                self.qualified(word, of)
            }
            _ => {
                self.last = None;
                Ok(self.protocol(version, protocol))
            }
        }
    }

    fn protocol(&mut self, version: u8, protocol: Option<u8>) -> Part {
        self.program.test(match protocol {
            Some(protocol) => Test::Protocol(version, protocol),
            None => Test::Version(version),
        })
    }

    /// `src`, `src or dst`, `dst net`, `port`.
    fn qualified(
        &mut self,
        word: Word<'a>,
        of: Option<(u8, Option<u8>)>,
    ) -> Result<Part, FilterError> {
        let mut way = Way::Either;
        let mut what_word = word;
        if matches!(word.text, "src" | "dst") {
            let (own, other) = match word.text {
                "src" => (Way::Source, "dst"),
                _ => (Way::Destination, "src"),
            };
            let ahead = |offset: usize| self.words.get(self.next + offset).map(|word| word.text);
            way = match (ahead(0), ahead(1)) {
                (Some("or" | "||"), Some(behind)) if behind == other => Way::Either,
                (Some("and" | "&&"), Some(behind)) if behind == other => Way::Both,
                _ => own,
            };
            if way != own {
                self.next += 2;
            }
            what_word = self.wanted("an address, `host`, `net` or `port`")?;
        }
        let what = match what_word.text {
            "host" => What::Host,
            "net" => What::Net,
            "port" => What::Port,
            "portrange" => What::PortRange,
            _ => {
                let what = What::Host;
                return self.of_kind(Kind { what, way, of }, what_word);
            }
        };
        let value = self.wanted("a value")?;
        self.of_kind(Kind { what, way, of }, value)
    }

    fn of_kind(&mut self, kind: Kind, value: Word<'a>) -> Result<Part, FilterError> {
        let Kind { what, way, of } = kind;
        let is_text = matches!(what, What::Interface | What::Prefix);
        if !is_text && (OPERATORS.contains(&value.text) || matches!(value.text, "(" | ")")) {
            let what = format!("a value is wanted here, not `{}`", value.text);
            return Err(self.wrong(value.at, what));
        }
        self.last = Some(kind);
        let protocol = of.and_then(|(_, protocol)| protocol);
        let ports = |(first, last, named): (u16, u16, Option<u8>)| {
            Test::Ports(way, first, last, protocol.or(named))
        };
        let net = |nets| {
            let net = address(value.text, nets);
            net.map(|(version, address, mask)| Test::Net(way, version, address, mask))
        };
        let test: Parsed<Test> = match what {
            What::Host => net(false),
            What::Net => net(true),
            What::Port => port(value.text).map(|(port, named)| ports((port, port, named))),
            What::PortRange => port_range(value.text).map(ports),
            What::Protocol => protocol_number(value.text)
                .map(|number| Test::Protocol(of.map_or(0, |(version, _)| version), number)),
            What::Interface => Ok(Test::Interface(text_of(value.text))),
            What::Prefix => Ok(Test::Prefix(text_of(value.text))),
            What::Mark => mark(value.text).map(|(value, mask)| Test::Mark(value, mask)),
            What::AtMost => number(value.text).map(Test::AtMost),
            What::AtLeast => number(value.text).map(Test::AtLeast),
        };
        let test = test.map_err(|what| self.wrong(value.at, what))?;
        // Ports say whose they are themselves.
        let before = match (what, of) {
            (What::Host | What::Net, of) => of,
            (What::Port | What::PortRange, Some((version, protocol))) if version != 0 => {
                Some((version, protocol))
            }
            _ => None,
        };
        Ok(match before {
            None => self.program.test(test),
            Some((version, protocol)) => {
                let before = self.protocol(version, protocol);
                let test = self.program.test(test);
                self.program.and(before, test)
            }
        })
    }
}

/// The first port and the last, and the protocol that both names are of.
fn port_range(text: &str) -> Parsed<(u16, u16, Option<u8>)> {
    let (first, last) = text
        .split_once('-')
        .ok_or_else(|| "a range is written 1000-2000".to_owned())?;
    let ((first, one), (last, other)) = (port(first)?, port(last)?);
    let named = one.filter(|_| one == other);
    Ok((first.min(last), first.max(last), named))
}

fn protocol_number(text: &str) -> Parsed<u8> {
    let name = text.trim_start_matches('\\');
    let named = PROTOCOLS.iter().find(|(known, ..)| *known == name);
    let number = match named {
        Some((_, _, protocol)) => *protocol,
        None => name.parse().ok(),
    };
    number.ok_or_else(|| {
        format!("`{name}` is no protocol: a number to 255, or tcp, udp, icmp, gre, esp")
    })
}
