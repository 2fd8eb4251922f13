//! What of a packet pcapng has no field for: its mark and its rule's prefix, as the packet's
//! comment.

use super::block::{option, pad4};
use crate::packet::Packet;

const MARK_TEXT: &[u8] = b"mark=0x";
const MARK_DIGITS: usize = 8;
const PREFIX_TEXT: &[u8] = b"prefix=";
/// A rule's prefix has at most 127 characters (`NF_LOG_PREFIXLEN`).
const PREFIX_MAX_BYTES: usize = 127;
/// The longest comment option.
pub(super) const COMMENT_OPTION_BYTES_MAX: usize =
    4 + pad4(MARK_TEXT.len() + MARK_DIGITS + 1 + PREFIX_TEXT.len() + PREFIX_MAX_BYTES);

/// The longest text of a note; what is longer is cut, and says so.
const NOTE_BYTES_MAX: usize = 256;
const CUT: &str = " ... (more was noted than a record holds)";
/// The longest option of a note.
pub(super) const NOTE_OPTION_BYTES_MAX: usize = 4 + NOTE_BYTES_MAX;

/// A note as a comment option of its own, behind what `before` still has to say.
pub(super) fn note_option(before: &[u8], text: &str) -> Vec<u8> {
    let mut all = String::from_utf8_lossy(text_of(before)).into_owned();
    if all.ends_with(CUT) {
        return before.to_vec();
    }
    if !all.is_empty() {
        all.push_str("; ");
    }
    all.push_str(text);
    if all.len() > NOTE_BYTES_MAX {
        let mut length = NOTE_BYTES_MAX - CUT.len();
        while !all.is_char_boundary(length) {
            length -= 1;
        }
        all.truncate(length);
        all.push_str(CUT);
    }
    let length = all.len();
    let mut note = option::COMMENT.to_le_bytes().to_vec();
    note.extend(u16::try_from(length).unwrap_or(u16::MAX).to_le_bytes());
    note.extend(all.as_bytes());
    note.resize(4 + pad4(length), 0);
    note
}

/// The text of an option that [`note_option`] made.
pub(super) fn text_of(note: &[u8]) -> &[u8] {
    match note {
        [_, _, low, high, text @ ..] => {
            let length = usize::from(u16::from_le_bytes([*low, *high]));
            text.get(..length).unwrap_or_default()
        }
        _ => &[],
    }
}

/// Bytes of the option that [`encode_comment_option`] writes: 0 where there is nothing to say.
#[inline]
pub(super) fn comment_option_bytes(packet: &Packet<'_>) -> usize {
    match comment_bytes(packet) {
        0 => 0,
        text => 4 + pad4(text),
    }
}

pub(super) fn encode_comment_option(packet: &Packet<'_>, out: &mut [u8]) {
    let Some((head, text)) = out.split_first_chunk_mut::<4>() else {
        return;
    };
    let length = comment_bytes(packet);
    head[..2].copy_from_slice(&option::COMMENT.to_le_bytes());
    head[2..].copy_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_le_bytes());
    if let Some(padding) = text.last_chunk_mut::<4>() {
        *padding = [0; 4];
    }
    encode_comment(packet, text);
}

fn comment_bytes(packet: &Packet<'_>) -> usize {
    let mark = if packet.mark == 0 {
        0
    } else {
        MARK_TEXT.len() + MARK_DIGITS
    };
    let prefix = match packet.prefix.len().min(PREFIX_MAX_BYTES) {
        0 => 0,
        length => PREFIX_TEXT.len() + length,
    };
    mark + prefix + usize::from(mark != 0 && prefix != 0)
}

/// `mark=0x0000002a prefix=text`, what of it there is. Comments are UTF-8: a prefix byte that is
/// not ASCII becomes a question mark.
fn encode_comment(packet: &Packet<'_>, mut out: &mut [u8]) {
    if packet.mark != 0 {
        let (text, rest) = out.split_at_mut(MARK_TEXT.len());
        text.copy_from_slice(MARK_TEXT);
        let (digits, rest) = rest.split_at_mut(MARK_DIGITS);
        for (place, digit) in digits.iter_mut().rev().enumerate() {
            *digit = b"0123456789abcdef"[(packet.mark >> (4 * place)) as usize & 15];
        }
        out = rest;
        if !packet.prefix.is_empty() {
            out[0] = b' ';
            out = &mut out[1..];
        }
    }
    if !packet.prefix.is_empty() {
        let (text, rest) = out.split_at_mut(PREFIX_TEXT.len());
        text.copy_from_slice(PREFIX_TEXT);
        for (to, from) in rest
            .iter_mut()
            .zip(&packet.prefix[..packet.prefix.len().min(PREFIX_MAX_BYTES)])
        {
            *to = if from.is_ascii() { *from } else { b'?' };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_gather_and_what_is_cut_is_said() {
        let mut note = note_option(&[], "one");
        note = note_option(&note, "two");
        assert_eq!(text_of(&note), b"one; two");
        for _ in 0..3 {
            note = note_option(&note, &"\u{e9}".repeat(100));
        }
        let text = String::from_utf8(text_of(&note).to_vec()).unwrap();
        assert!(
            text.starts_with("one; two; ") && text.ends_with(CUT),
            "{text}"
        );
        assert!(note.len() <= NOTE_OPTION_BYTES_MAX && note.len().is_multiple_of(4));
    }
}
