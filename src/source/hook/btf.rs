//! What the kernel says of its own types (`/sys/kernel/btf/vmlinux`): ids of functions, offsets of
//! members. Every length in it is checked.

use std::fs;
use std::io;
use std::path::Path;

const MAGIC: u16 = 0xeb9f;
/// Anonymous structures within structures: the kernel has four or five.
const DEPTH_MAX: usize = 16;
/// Typedefs and qualifiers before a type.
const QUALIFIERS_MAX: usize = 32;

mod kind {
    pub(super) const INT: u8 = 1;
    pub(super) const POINTER: u8 = 2;
    pub(super) const ARRAY: u8 = 3;
    pub(super) const STRUCT: u8 = 4;
    pub(super) const UNION: u8 = 5;
    pub(super) const ENUM: u8 = 6;
    pub(super) const TYPEDEF: u8 = 8;
    pub(super) const VOLATILE: u8 = 9;
    pub(super) const CONST: u8 = 10;
    pub(super) const RESTRICT: u8 = 11;
    pub(super) const FUNCTION: u8 = 12;
    pub(super) const FUNCTION_PROTOTYPE: u8 = 13;
    pub(super) const VARIABLE: u8 = 14;
    pub(super) const SECTION: u8 = 15;
    pub(super) const DECLARATION_TAG: u8 = 17;
    pub(super) const TYPE_TAG: u8 = 18;
    pub(super) const ENUM64: u8 = 19;
    /// The last that is known.
    pub(super) const LAST: u8 = ENUM64;
}

/// Why the types could not be read.
#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    /// The file.
    #[error(transparent)]
    Read(#[from] io::Error),
    /// Its contents.
    #[error("its bytes {at} and on are no type information: {what}")]
    Malformed {
        /// Where.
        at: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// The kernel has no such thing.
    #[error("this kernel has no {0}")]
    Missing(String),
}

/// Where a member stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// Bits from the start of the structure.
    pub bit: u32,
    /// Bits, if it is a bit field; else 0.
    pub bits: u32,
    /// Bytes; 0 where the type has no size that is known here.
    pub bytes: u32,
}

impl Member {
    /// Bytes from the start of the structure.
    pub fn byte(self) -> u32 {
        self.bit / 8
    }
}

/// The kernel's types.
#[derive(Debug)]
pub struct Btf {
    bytes: Vec<u8>,
    strings: std::ops::Range<usize>,
    /// By type id less one: where its description begins.
    types: Vec<usize>,
}

/// `struct btf_type`
#[derive(Debug, Clone, Copy)]
struct Type {
    at: usize,
    name: u32,
    info: u32,
    /// Its size, or the type it refers to.
    size: u32,
}

impl Type {
    fn kind(self) -> u8 {
        (self.info >> 24 & 0x1f) as u8
    }

    fn entries(self) -> usize {
        (self.info & 0xffff) as usize
    }

    /// Member offsets hold the sizes of bit fields as well.
    fn packed(self) -> bool {
        self.info >> 31 != 0
    }

    /// Bytes of its description beyond the first twelve.
    fn extra(self) -> usize {
        match self.kind() {
            kind::INT | kind::VARIABLE | kind::DECLARATION_TAG => 4,
            kind::ARRAY => 12,
            kind::STRUCT | kind::UNION | kind::SECTION | kind::ENUM64 => 12 * self.entries(),
            kind::ENUM | kind::FUNCTION_PROTOTYPE => 8 * self.entries(),
            _ => 0,
        }
    }
}

impl Btf {
    /// Reads the types from a file.
    ///
    /// # Errors
    /// What the system says, or what is wrong with them.
    pub fn read(path: &Path) -> Result<Btf, BtfError> {
        Btf::parse(fs::read(path)?)
    }

    /// Reads the types.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn parse(bytes: Vec<u8>) -> Result<Btf, BtfError> {
        let malformed = |at, what| BtfError::Malformed { at, what };
        let word = |at| word(&bytes, at).ok_or(malformed(at, "they end"));
        let magic = bytes.first_chunk::<2>().copied().map(u16::from_ne_bytes);
        if magic != Some(MAGIC) {
            return Err(malformed(0, "the magic number is missing"));
        }
        let header = word(4)? as usize;
        let section = |offset: u32, len: u32| {
            let start = header.checked_add(offset as usize)?;
            let end = start.checked_add(len as usize)?;
            (end <= bytes.len()).then_some(start..end)
        };
        let types =
            section(word(8)?, word(12)?).ok_or(malformed(8, "the types are beyond the end"))?;
        let strings =
            section(word(16)?, word(20)?).ok_or(malformed(16, "the names are beyond the end"))?;
        let mut found = Vec::new();
        let mut at = types.start;
        while at < types.end {
            let this = type_at(&bytes, at).ok_or(malformed(at, "a type ends too early"))?;
            if this.kind() == 0 || this.kind() > kind::LAST {
                return Err(malformed(at, "a type of an unknown kind"));
            }
            found.push(at);
            at = at.saturating_add(12).saturating_add(this.extra());
            if at > types.end {
                return Err(malformed(at, "a type ends too early"));
            }
        }
        Ok(Btf {
            bytes,
            strings,
            types: found,
        })
    }

    fn get(&self, id: u32) -> Option<Type> {
        let at = *self.types.get((id as usize).checked_sub(1)?)?;
        type_at(&self.bytes, at)
    }

    /// Whether a name (its offset among the strings) is this one.
    fn is_named(&self, name: u32, wanted: &str) -> bool {
        let strings = self.bytes.get(self.strings.clone()).unwrap_or_default();
        let there = strings.get(name as usize..).unwrap_or_default();
        there
            .strip_prefix(wanted.as_bytes())
            .is_some_and(|rest| rest.first() == Some(&0))
    }

    fn find(&self, kind: u8, name: &str) -> Option<u32> {
        let fits = |at: &usize| {
            type_at(&self.bytes, *at)
                .is_some_and(|this| this.kind() == kind && self.is_named(this.name, name))
        };
        let index = self.types.iter().position(fits)?;
        u32::try_from(index + 1).ok()
    }

    /// The type id of a function.
    ///
    /// # Errors
    /// The kernel has none of that name.
    pub fn function(&self, name: &str) -> Result<u32, BtfError> {
        self.find(kind::FUNCTION, name)
            .ok_or_else(|| BtfError::Missing(format!("function {name}")))
    }

    /// The type id of a structure.
    ///
    /// # Errors
    /// The kernel has none of that name.
    pub fn structure(&self, name: &str) -> Result<u32, BtfError> {
        self.find(kind::STRUCT, name)
            .ok_or_else(|| BtfError::Missing(format!("struct {name}")))
    }

    /// Where a member of a structure stands, also one of an anonymous structure or union in it.
    ///
    /// # Errors
    /// The kernel has no such structure, or the structure no such member.
    pub fn member(&self, structure: &str, member: &str) -> Result<Member, BtfError> {
        let id = self.structure(structure)?;
        self.member_of(id, member, 0, 0)
            .ok_or_else(|| BtfError::Missing(format!("{structure}.{member}")))
    }

    fn member_of(&self, id: u32, wanted: &str, base: u32, depth: usize) -> Option<Member> {
        let this = self.get(id)?;
        if depth > DEPTH_MAX || !matches!(this.kind(), kind::STRUCT | kind::UNION) {
            return None;
        }
        for entry in 0..this.entries() {
            let at = this.at + 12 + 12 * entry;
            let name = word(&self.bytes, at)?;
            let of = word(&self.bytes, at + 4)?;
            let place = word(&self.bytes, at + 8)?;
            let (bit, bits) = if this.packed() {
                (place & 0x00ff_ffff, place >> 24)
            } else {
                (place, 0)
            };
            let bit = base.checked_add(bit)?;
            if self.is_named(name, wanted) {
                let bytes = self.size(of).unwrap_or(0);
                return Some(Member { bit, bits, bytes });
            }
            if self.is_named(name, "")
                && let Some(found) = self.member_of(of, wanted, bit, depth + 1)
            {
                return Some(found);
            }
        }
        None
    }

    /// Bytes of a type.
    fn size(&self, mut id: u32) -> Option<u32> {
        for _ in 0..QUALIFIERS_MAX {
            let this = self.get(id)?;
            match this.kind() {
                kind::POINTER => return u32::try_from(size_of::<usize>()).ok(),
                kind::INT | kind::ENUM | kind::ENUM64 | kind::STRUCT | kind::UNION => {
                    return Some(this.size);
                }
                kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG => {
                    id = this.size
                }
                _ => return None,
            }
        }
        None
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_ne_bytes(*four))
}

fn type_at(bytes: &[u8], at: usize) -> Option<Type> {
    Some(Type {
        at,
        name: word(bytes, at)?,
        info: word(bytes, at.checked_add(4)?)?,
        size: word(bytes, at.checked_add(8)?)?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `struct s { int a; union { long b; struct { short c; int d:3; }; }; };` and `int f(void);`
    fn example() -> Vec<u8> {
        let names = b"\0int\0long\0short\0s\0a\0b\0c\0d\0f\0";
        let at = |name: &[u8]| {
            let place = names.windows(name.len()).position(|window| window == name);
            u32::try_from(place.unwrap() + 1).unwrap()
        };
        let mut types: Vec<u32> = Vec::new();
        let info = |kind: u8, entries: u32, packed: bool| {
            u32::from(kind) << 24 | entries | u32::from(packed) << 31
        };
        types.extend([at(b"\0int\0"), info(kind::INT, 0, false), 4, 32]); // 1
        types.extend([at(b"\0long\0"), info(kind::INT, 0, false), 8, 64]); // 2
        types.extend([at(b"\0short\0"), info(kind::INT, 0, false), 2, 16]); // 3
        types.extend([0, info(kind::STRUCT, 2, true), 4]); // 4
        types.extend([at(b"\0c\0"), 3, 0, at(b"\0d\0"), 1, 3 << 24 | 21]);
        types.extend([0, info(kind::UNION, 2, false), 8]); // 5
        types.extend([at(b"\0b\0"), 2, 0, 0, 4, 0]);
        types.extend([at(b"\0s\0"), info(kind::STRUCT, 2, false), 16]); // 6
        types.extend([at(b"\0a\0"), 1, 0, 0, 5, 64]);
        types.extend([0, info(kind::FUNCTION_PROTOTYPE, 0, false), 1]); // 7
        types.extend([at(b"\0f\0"), info(kind::FUNCTION, 0, false), 7]); // 8
        let mut out = Vec::new();
        out.extend(MAGIC.to_ne_bytes());
        out.extend([1, 0]);
        let types_bytes = u32::try_from(types.len() * 4).unwrap();
        let names_bytes = u32::try_from(names.len()).unwrap();
        for number in [24, 0, types_bytes, types_bytes, names_bytes] {
            out.extend(u32::to_ne_bytes(number));
        }
        for number in types {
            out.extend(number.to_ne_bytes());
        }
        out.extend(names);
        out
    }

    #[test]
    fn members_of_anonymous_structures_are_found() {
        let btf = Btf::parse(example()).unwrap();
        let member = |bit, bits, bytes| Member { bit, bits, bytes };
        assert_eq!(btf.member("s", "a").unwrap(), member(0, 0, 4));
        assert_eq!(btf.member("s", "b").unwrap(), member(64, 0, 8));
        assert_eq!(btf.member("s", "c").unwrap(), member(64, 0, 2));
        assert_eq!(btf.member("s", "d").unwrap(), member(64 + 21, 3, 4));
        assert_eq!(btf.function("f").unwrap(), 8);
        let missing = btf.member("s", "e").unwrap_err().to_string();
        assert_eq!(missing, "this kernel has no s.e");
        assert!(btf.structure("f").is_err());
        assert!(btf.function("s").is_err());
    }

    #[test]
    fn a_structure_that_holds_itself_ends() {
        let mut bytes = example();
        // The union's anonymous member becomes the union.
        let at = 24 + 4 * (12 + 9 + 3 + 4);
        bytes[at..at + 4].copy_from_slice(&5u32.to_ne_bytes());
        assert!(Btf::parse(bytes).unwrap().member("s", "d").is_err());
    }

    fn look(bytes: Vec<u8>) {
        if let Ok(btf) = Btf::parse(bytes) {
            for name in ["a", "b", "c", "d", "e", ""] {
                let _ = btf.member("s", name);
            }
            let _ = btf.function("f");
        }
    }

    #[test]
    fn every_cut_is_an_error_and_no_panic() {
        let whole = example();
        for len in 0..whole.len() {
            assert!(Btf::parse(whole[..len].to_vec()).is_err(), "{len}");
        }
    }

    proptest! {
        #[test]
        fn flipped_bytes_never_panic(flips in prop::collection::vec((0usize..400, any::<u8>()), 1..8)) {
            let mut bytes = example();
            let len = bytes.len();
            for (at, value) in flips {
                bytes[at % len] = value;
            }
            look(bytes);
        }

        #[test]
        fn any_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if bytes.len() > 2 {
                bytes[..2].copy_from_slice(&MAGIC.to_ne_bytes());
            }
            look(bytes);
        }
    }
}
