//! An nftables expression that a user wrote, such as `tcp dport 443`: checked by `nft`, and
//! translated by it.
//!
//! lwnflog does not know nft's language. It has `nft` load the expression into a table that has no
//! hook and sees no packet, reads it back as the kernel has it, and removes the table: what is in it
//! goes into lwnflog's own rule byte for byte, its unnamed sets as named ones.

use std::env;
use std::io::{self, Write};
use std::process::{self, Command, Stdio};
use std::time::{Duration, Instant};

use neli::consts::nl::NlmF;
use neli::err::MsgError;

use super::constants::{
    NFT_MSG_DELSET, NFT_MSG_GETRULE, NFT_MSG_GETSET, NFT_MSG_GETSETELEM, NFT_MSG_NEWSET,
    NFT_MSG_NEWSETELEM, NFT_SET_ANONYMOUS, NFTA_EXPR_NAME, NFTA_LIST_ELEM, NFTA_RULE_EXPRESSIONS,
    NFTA_RULE_TABLE, NFTA_SET_DATA_LEN, NFTA_SET_DATA_TYPE, NFTA_SET_DESC,
    NFTA_SET_ELEM_LIST_ELEMENTS, NFTA_SET_ELEM_LIST_SET, NFTA_SET_ELEM_LIST_TABLE, NFTA_SET_FLAGS,
    NFTA_SET_KEY_LEN, NFTA_SET_KEY_TYPE, NFTA_SET_NAME, NFTA_SET_TABLE, NFTA_SET_USERDATA,
};
use super::message::{Lookup, attrs, be32, bytes, string};
use super::place::RuleFamily;
use super::socket::{NftSocket, Step, bad_message};
use super::{RuleError, TABLE};
use crate::netlink::attribute::Attributes;

/// Statements and verdicts, which are not for a selection.
const STATEMENTS: [&str; 22] = [
    "accept",
    "drop",
    "reject",
    "continue",
    "return",
    "jump",
    "goto",
    "queue",
    "log",
    "counter",
    "limit",
    "quota",
    "snat",
    "dnat",
    "masquerade",
    "redirect",
    "tproxy",
    "dup",
    "fwd",
    "set",
    "notrack",
    "synproxy",
];
/// What an expression may consist of in the kernel (`nft_expr_ops`' names).
const CONDITIONS: [&str; 19] = [
    "payload",
    "meta",
    "cmp",
    "bitwise",
    "byteorder",
    "lookup",
    "range",
    "ct",
    "fib",
    "socket",
    "rt",
    "exthdr",
    "osf",
    "numgen",
    "hash",
    "tunnel",
    "xfrm",
    "immediate",
    "inner",
];

/// A selection of packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    text: String,
    expressions: Vec<Vec<u8>>,
    sets: Vec<Set>,
}

/// A set that the expression names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Set {
    name: String,
    /// Kind and value.
    attributes: Vec<(u16, Vec<u8>)>,
    elements: Vec<u8>,
}

/// Why an expression cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum MatchError {
    /// It is not a selection.
    #[error(
        "--match `{text}`: {problem}; write what packets have to match, such as `tcp dport 443`"
    )]
    NoSelection {
        /// As given.
        text: String,
        /// What is wrong with it.
        problem: String,
    },
    /// `nft` does not take it.
    #[error("--match `{text}`: nft says: {said}")]
    Refused {
        /// As given.
        text: String,
        /// Its answer.
        said: String,
    },
    /// `nft` is not there.
    #[error(
        "--match needs `nft`, which translates the expression: {0}; install nftables, or select with --iface, or load \
         a rule of your own that logs to the group"
    )]
    NoNft(io::Error),
    /// What it became cannot be read.
    #[error(transparent)]
    Rules(#[from] RuleError),
}

impl Match {
    /// The expression as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn expressions(&self) -> &[Vec<u8>] {
        &self.expressions
    }

    pub(super) fn sets(&self) -> &[Set] {
        &self.sets
    }

    /// For a table that becomes text: nothing is translated. `nft` may still say no.
    ///
    /// # Errors
    /// [`MatchError::NoSelection`].
    pub fn unchecked(text: &str) -> Result<Match, MatchError> {
        check_text(text)?;
        Ok(Match {
            text: text.trim().to_owned(),
            expressions: Vec::new(),
            sets: Vec::new(),
        })
    }

    /// Has `nft` check and translate an expression, in the calling thread's network namespace.
    ///
    /// # Errors
    /// [`MatchError`].
    pub fn compile(text: &str, family: RuleFamily) -> Result<Match, MatchError> {
        let plain = Match::unchecked(text)?;
        let table = Helper::load(&plain.text, family)?;
        let mut socket = NftSocket::open()?;
        let deadline = Instant::now() + Duration::from_secs(5);
        let expressions = table.expressions(&mut socket, deadline)?;
        for raw in &expressions {
            let name = name_of(raw);
            if !CONDITIONS.contains(&&*name) {
                return Err(MatchError::NoSelection {
                    text: plain.text,
                    problem: format!("`{name}` does something to packets"),
                });
            }
        }
        let sets = table.sets(&mut socket, deadline)?;
        Ok(Match {
            expressions,
            sets,
            ..plain
        })
    }
}

/// One line, of conditions only.
fn check_text(text: &str) -> Result<(), MatchError> {
    let wrong = |problem: String| {
        Err(MatchError::NoSelection {
            text: text.to_owned(),
            problem,
        })
    };
    let text = text.trim();
    if text.is_empty() {
        return wrong("it is empty".to_owned());
    }
    if let Some(bad) = text
        .chars()
        .find(|c| c.is_control() || matches!(c, ';' | '#' | '$'))
    {
        return wrong(format!("it contains {bad:?}"));
    }
    let mut depth = 0i32;
    for letter in text.chars() {
        depth += i32::from(letter == '{') - i32::from(letter == '}');
        if depth < 0 {
            break;
        }
    }
    if depth != 0 {
        return wrong("its braces do not match".to_owned());
    }
    let mut words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_');
    if let Some(word) = words.find(|word| STATEMENTS.contains(word)) {
        return wrong(format!("`{word}` does something to packets"));
    }
    Ok(())
}

/// Has `nft` check a whole table without loading it. Returns why it could not, if it could not: `nft`
/// is not there, or has not the right to look.
///
/// # Errors
/// [`MatchError::Refused`]: what nft says against the expression `text`.
pub fn check_table(table: &str, text: &str) -> Result<Option<String>, MatchError> {
    match nft(&["-c", "-f", "-"], table) {
        Ok((true, _)) => Ok(None),
        Ok((false, said)) if said.contains("Operation not permitted") => {
            Ok(Some("nft may not look at this host's rules".to_owned()))
        }
        Ok((false, said)) => Err(MatchError::Refused {
            text: text.to_owned(),
            said: said.lines().next().unwrap_or_default().to_owned(),
        }),
        Err(error) => Ok(Some(format!("nft cannot be run: {error}"))),
    }
}

/// A table without a hook, that holds the expression for a moment.
struct Helper {
    family: RuleFamily,
    name: String,
}

impl Helper {
    fn load(text: &str, family: RuleFamily) -> Result<Helper, MatchError> {
        let name = format!("{TABLE}_match_{}", process::id());
        let script = format!(
            "table {} {name} {{\n\tchain selection {{\n\t\t{text}\n\t}}\n}}\n",
            family.name()
        );
        let helper = Helper { family, name };
        match nft(&["-f", "-"], &script) {
            Ok((true, _)) => Ok(helper),
            Ok((false, said)) => Err(MatchError::Refused {
                text: text.to_owned(),
                said: said.lines().next().unwrap_or_default().to_owned(),
            }),
            Err(error) => {
                std::mem::forget(helper); // nothing is loaded
                Err(MatchError::NoNft(error))
            }
        }
    }

    fn expressions(
        &self,
        socket: &mut NftSocket,
        deadline: Instant,
    ) -> Result<Vec<Vec<u8>>, RuleError> {
        const REQUEST: &str = "read back an expression";
        let wrong = |problem: &str| bad_message(REQUEST, problem);
        let key = attrs([string(NFTA_RULE_TABLE, &self.name)])
            .map_err(|error| bad_message(REQUEST, error))?;
        let table = Some((self.family.number(), key));
        let rules = socket.dump(REQUEST, NFT_MSG_GETRULE, table, deadline)?;
        let [rule] = &rules[..] else {
            return Err(wrong("it is not one rule"));
        };
        let list = rule.attrs.bytes(NFTA_RULE_EXPRESSIONS).unwrap_or_default();
        let elements = Attributes::new(list).map(|element| match element {
            Ok(element) if element.kind == NFTA_LIST_ELEM => Ok(element.value.to_vec()),
            _ => Err(wrong("a list of something else")),
        });
        elements.collect()
    }

    fn sets(&self, socket: &mut NftSocket, deadline: Instant) -> Result<Vec<Set>, RuleError> {
        const REQUEST: &str = "read back a set";
        let failed = |error: MsgError| bad_message(REQUEST, error);
        let key = attrs([string(NFTA_SET_TABLE, &self.name)]).map_err(failed)?;
        let table = Some((self.family.number(), key));
        let found = socket.dump(REQUEST, NFT_MSG_GETSET, table, deadline)?;
        let mut sets = Vec::new();
        for set in found {
            if set.attrs.string(NFTA_SET_TABLE).as_deref() != Some(&self.name) {
                continue;
            }
            let name = set.attrs.string(NFTA_SET_NAME).unwrap_or_default();
            let key = attrs([
                string(NFTA_SET_ELEM_LIST_TABLE, &self.name),
                string(NFTA_SET_ELEM_LIST_SET, &name),
            ])
            .map_err(failed)?;
            let table = Some((self.family.number(), key));
            let lists = socket.dump(REQUEST, NFT_MSG_GETSETELEM, table, deadline)?;
            let elements = lists.iter().filter_map(|list| {
                let elements = list.attrs.bytes(NFTA_SET_ELEM_LIST_ELEMENTS)?;
                Some(elements.to_vec())
            });
            let elements = elements.collect::<Vec<_>>().concat();
            let kinds = [
                NFTA_SET_FLAGS,
                NFTA_SET_KEY_TYPE,
                NFTA_SET_KEY_LEN,
                NFTA_SET_DATA_TYPE,
                NFTA_SET_DATA_LEN,
                NFTA_SET_DESC,
                NFTA_SET_USERDATA,
            ];
            let attributes = kinds.into_iter().filter_map(|kind| {
                let value = set.attrs.bytes(kind)?;
                Some((kind, value.to_vec()))
            });
            sets.push(Set {
                attributes: attributes.collect(),
                name,
                elements,
            });
        }
        Ok(sets)
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = nft(&["delete", "table", self.family.name(), &self.name], "");
    }
}

impl Set {
    /// What removes it, once no rule names it.
    pub(super) fn delete(&self, table: &str) -> Result<Step, MsgError> {
        Ok(Step {
            kind: NFT_MSG_DELSET,
            flags: NlmF::empty(),
            attrs: attrs([
                string(NFTA_SET_TABLE, table),
                string(NFTA_SET_NAME, &self.name),
            ])?,
        })
    }

    /// What makes it in lwnflog's own table, under the name by which the expression knows it.
    pub(super) fn create(&self, table: &str) -> Result<[Step; 2], MsgError> {
        let own = self.attributes.iter().map(|(kind, value)| match *kind {
            NFTA_SET_FLAGS => {
                let flags = value
                    .first_chunk()
                    .map_or(0, |flags| u32::from_be_bytes(*flags));
                be32(NFTA_SET_FLAGS, flags & !NFT_SET_ANONYMOUS)
            }
            kind => bytes(kind, value),
        });
        let set = [
            string(NFTA_SET_TABLE, table),
            string(NFTA_SET_NAME, &self.name),
            be32(super::constants::NFTA_SET_ID, 1000),
        ];
        let elements = [
            string(NFTA_SET_ELEM_LIST_TABLE, table),
            string(NFTA_SET_ELEM_LIST_SET, &self.name),
            bytes(NFTA_SET_ELEM_LIST_ELEMENTS, &self.elements),
        ];
        let step = |kind, attrs| Step {
            kind,
            flags: NlmF::CREATE | NlmF::EXCL,
            attrs,
        };
        Ok([
            step(NFT_MSG_NEWSET, attrs(set.into_iter().chain(own))?),
            step(NFT_MSG_NEWSETELEM, attrs(elements)?),
        ])
    }
}

fn name_of(expression: &[u8]) -> String {
    let mut all = Attributes::new(expression).flatten();
    let name = all.find(|attribute| attribute.kind == NFTA_EXPR_NAME);
    let name = name.map_or(&[][..], |name| name.value);
    String::from_utf8_lossy(name.strip_suffix(&[0]).unwrap_or(name)).into_owned()
}

/// Runs `nft`, wherever it is. Returns whether it succeeded, and what it said.
fn nft(args: &[&str], input: &str) -> io::Result<(bool, String)> {
    let path = env::var("PATH").unwrap_or_default();
    let mut child = Command::new("nft")
        .args(args)
        .env("PATH", format!("{path}:/usr/sbin:/sbin"))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes())?;
    }
    let done = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&done.stderr).trim().to_owned();
    Ok((done.status.success(), said))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selection_does_nothing_to_packets() {
        for good in [
            "tcp dport 443",
            "ip saddr { 198.18.0.1, 198.18.0.2 } tcp flags & (syn | ack) == syn",
            "meta mark and 0x80 == 0x80",
            "ct state invalid",
        ] {
            assert!(Match::unchecked(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "tcp dport 443 drop",
            "tcp dport 443; drop",
            "a }",
            "{",
            "ip saddr 1.1.1.1 counter",
            "x\ny",
            "# x",
            "meta mark set 1",
            "jump x",
        ] {
            assert!(Match::unchecked(bad).is_err(), "{bad}");
        }
    }
}
