//! The words of a filter, and where they stand.

/// A word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Word<'a> {
    pub(super) text: &'a str,
    pub(super) at: usize,
}

/// Words, parentheses, `!`, and texts in quotes.
pub(super) fn words(text: &str) -> Vec<Word<'_>> {
    let mut words = Vec::new();
    let mut rest = text.char_indices().peekable();
    while let Some((at, letter)) = rest.next() {
        let mut end = at + letter.len_utf8();
        match letter {
            ' ' | '\t' | '\n' => continue,
            '(' | ')' => {}
            '!' if rest.peek().is_none_or(|(_, next)| *next != '=') => {}
            '"' | '\'' => {
                for (place, next) in rest.by_ref() {
                    end = place + next.len_utf8();
                    if next == letter {
                        break;
                    }
                }
            }
            _ => {
                while let Some((place, next)) = rest.peek() {
                    if next.is_whitespace() || matches!(next, '(' | ')') {
                        break;
                    }
                    end = place + next.len_utf8();
                    rest.next();
                }
            }
        }
        words.push(Word {
            text: &text[at..end],
            at,
        });
    }
    words
}
