//! The words of a filter, and where they stand.

/// A word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Word<'a> {
    pub(super) text: &'a str,
    pub(super) at: usize,
}

/// Behind these stands a text, which may have blanks in it.
const BEFORE_TEXTS: [&str; 3] = ["prefix", "iface", "ifname"];

/// The words of arguments that stand one behind the other in a text, with a blank between them. An argument
/// that is a text is a word as it is.
pub(super) fn words_of<'a>(arguments: &[String], text: &'a str) -> Vec<Word<'a>> {
    let mut all: Vec<Word<'a>> = Vec::new();
    let mut at = 0;
    for argument in arguments {
        let own = text.get(at..at + argument.len()).unwrap_or("");
        let is_text = all
            .last()
            .is_some_and(|last| BEFORE_TEXTS.contains(&last.text));
        match is_text {
            true => all.push(Word { text: own, at }),
            false => all.extend(words(own).into_iter().map(|word| Word {
                at: at + word.at,
                ..word
            })),
        }
        at += argument.len() + 1;
    }
    all
}

/// Words, parentheses, `!`, and texts in quotes.
pub(super) fn words(text: &str) -> Vec<Word<'_>> {
    let mut words = Vec::new();
    let mut rest = text.char_indices().peekable();
    while let Some((at, letter)) = rest.next() {
        let mut end = at + letter.len_utf8();
        match letter {
            letter if letter.is_whitespace() => continue,
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
