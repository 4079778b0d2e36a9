//! Bracket expressions: from the text after `[` to a set of bytes, in the "C" locale.
//! It knows nothing of the rest of a pattern.

use super::graph::ByteSet;

/// What went wrong, in words for the user.
pub(super) type Reason = &'static str;

/// Reads a bracket expression whose `[` is already consumed. Gives the set and the offset behind its `]`.
pub(super) fn parse(pattern: &[u8], offset: usize) -> Result<(ByteSet, usize), (usize, Reason)> {
    let mut reader = Reader { pattern, offset, first: false, set: [0; 4] };
    let negated = pattern.get(offset) == Some(&b'^');
    if negated {
        reader.offset += 1;
    }
    reader.first = true;
    let mut held = match reader.item()? {
        // At the beginning `-` stands for itself.
        Item::Dash => Held::Byte(b'-'),
        Item::Byte(byte) => Held::Byte(byte),
        item => reader.take(item, Held::Nothing)?,
    };
    loop {
        held = match reader.item()? {
            Item::End => {
                reader.release(held);
                break;
            }
            Item::Dash => match reader.dash(held)? {
                Some(held) => held,
                None => break,
            },
            item => reader.take(item, held)?,
        };
    }
    let mut set = reader.set;
    if negated {
        set.iter_mut().for_each(|word| *word = !*word);
    }
    Ok((set, reader.offset))
}

pub(super) fn insert(set: &mut ByteSet, byte: u8) {
    set[usize::from(byte >> 6)] |= 1 << (byte & 63);
}

pub(super) fn contains(set: &ByteSet, byte: u8) -> bool {
    set[usize::from(byte >> 6)] >> (byte & 63) & 1 == 1
}

enum Item {
    End,
    Dash,
    Byte(u8),
    Collating(u8),
    Class(fn(u8) -> bool),
    Equivalence(u8),
}

/// What came last, as the possible begin of a range.
#[derive(Clone, Copy)]
enum Held {
    Nothing,
    Byte(u8),
    Class,
}

struct Reader<'a> {
    pattern: &'a [u8],
    offset: usize,
    first: bool,
    set: ByteSet,
}

impl Reader<'_> {
    fn fail<T>(&self, reason: Reason) -> Result<T, (usize, Reason)> {
        Err((self.offset, reason))
    }

    fn item(&mut self) -> Result<Item, (usize, Reason)> {
        let first = std::mem::replace(&mut self.first, false);
        let Some(&byte) = self.pattern.get(self.offset) else {
            return self.fail("a bracket expression is not closed");
        };
        self.offset += 1;
        match byte {
            b']' if !first => Ok(Item::End),
            b'-' => Ok(Item::Dash),
            b'[' => match self.pattern.get(self.offset) {
                None => self.fail("a bracket expression is not closed"),
                Some(&kind @ (b'.' | b':' | b'=')) => self.named(kind),
                Some(_) => Ok(Item::Byte(b'[')),
            },
            _ => Ok(Item::Byte(byte)),
        }
    }

    /// `[.name.]`, `[:name:]` and `[=name=]`, from the byte that tells which.
    fn named(&mut self, kind: u8) -> Result<Item, (usize, Reason)> {
        let begin = self.offset + 1;
        let rest = &self.pattern[begin..];
        let Some(length) = rest.iter().position(|&byte| byte == kind) else {
            return self.fail("a name in a bracket expression is not closed");
        };
        if rest.get(length + 1) != Some(&b']') {
            return self.fail("a name in a bracket expression is not closed");
        }
        let name = &rest[..length];
        self.offset = begin + length + 2;
        let item = match kind {
            b':' => class(name).map(Item::Class),
            b'.' => collating_element(name).map(Item::Collating),
            _ => collating_element(name).map(Item::Equivalence),
        };
        match item {
            Some(item) => Ok(item),
            None if kind == b':' => self.fail("no character class has this name"),
            None => self.fail("no collating element has this name"),
        }
    }

    /// Adds what was held back, and the item or holds it back.
    fn take(&mut self, item: Item, held: Held) -> Result<Held, (usize, Reason)> {
        self.release(held);
        match item {
            Item::Byte(byte) | Item::Collating(byte) => Ok(Held::Byte(byte)),
            Item::Class(belongs) => {
                (0..128).filter(|&byte| belongs(byte)).for_each(|byte| insert(&mut self.set, byte));
                Ok(Held::Class)
            }
            Item::Equivalence(byte) => {
                // In the "C" locale the primary weight of a letter is that of its lower case.
                insert(&mut self.set, byte.to_ascii_lowercase());
                insert(&mut self.set, byte.to_ascii_uppercase());
                Ok(Held::Class)
            }
            Item::End | Item::Dash => self.fail("a bracket expression is empty"),
        }
    }

    fn release(&mut self, held: Held) {
        if let Held::Byte(byte) = held {
            insert(&mut self.set, byte);
        }
    }

    /// A `-` that is not the first item: the end of the expression follows (`None`), or it makes a range.
    fn dash(&mut self, held: Held) -> Result<Option<Held>, (usize, Reason)> {
        let item = self.item()?;
        match (held, item) {
            (held, Item::End) => {
                self.release(held);
                insert(&mut self.set, b'-');
                Ok(None)
            }
            (Held::Byte(low), Item::Byte(high)) => self.range(low, high).map(Some),
            (Held::Byte(low), Item::Dash) => self.range(low, b'-').map(Some),
            (Held::Byte(_), _) => self.fail("a range ends in something that is not one character"),
            (Held::Class, _) => self.fail("a range begins with a character class"),
            (Held::Nothing, _) => self.fail("`-` directly after a range"),
        }
    }

    fn range(&mut self, low: u8, high: u8) -> Result<Held, (usize, Reason)> {
        // Characters are signed on the peer's platform: bytes from 128 up sort before all others.
        let (low, high) = (low as i8, high as i8);
        if low > high {
            return self.fail("a range ends before it begins");
        }
        for value in low..=high {
            insert(&mut self.set, value as u8);
        }
        Ok(Held::Nothing)
    }
}

/// Membership in a named class. Names are not case-sensitive.
fn class(name: &[u8]) -> Option<fn(u8) -> bool> {
    let is_space = |byte: u8| matches!(byte, b' ' | b'\t'..=b'\r');
    Some(match name.to_ascii_lowercase().as_slice() {
        b"d" | b"digit" => |byte| byte.is_ascii_digit(),
        b"w" => |byte| byte.is_ascii_alphanumeric() || byte == b'_',
        b"s" | b"space" => is_space,
        b"alnum" => |byte| byte.is_ascii_alphanumeric(),
        b"alpha" => |byte| byte.is_ascii_alphabetic(),
        b"blank" => |byte| matches!(byte, b' ' | b'\t'),
        b"cntrl" => |byte| byte.is_ascii_control(),
        b"graph" => |byte| byte.is_ascii_graphic(),
        b"lower" => |byte| byte.is_ascii_lowercase(),
        b"print" => |byte| byte.is_ascii_graphic() || byte == b' ',
        b"punct" => |byte| byte.is_ascii_punctuation(),
        b"upper" => |byte| byte.is_ascii_uppercase(),
        b"xdigit" => |byte| byte.is_ascii_hexdigit(),
        _ => return None,
    })
}

/// The POSIX names of the ASCII characters, in runs: first code, names separated by spaces. A letter is its
/// own name.
const COLLATING_NAMES: [(u8, &str); 6] = [
    (
        0,
        "NUL SOH STX ETX EOT ENQ ACK alert backspace tab newline vertical-tab form-feed carriage-return SO SI \
         DLE DC1 DC2 DC3 DC4 NAK SYN ETB CAN EM SUB ESC IS4 IS3 IS2 IS1 space exclamation-mark \
         quotation-mark number-sign dollar-sign percent-sign ampersand apostrophe left-parenthesis \
         right-parenthesis asterisk plus-sign comma hyphen period slash",
    ),
    (b'0', "zero one two three four five six seven eight nine"),
    (b':', "colon semicolon less-than-sign equals-sign greater-than-sign question-mark commercial-at"),
    (b'[', "left-square-bracket backslash right-square-bracket circumflex underscore grave-accent"),
    (b'{', "left-curly-bracket vertical-line right-curly-bracket tilde"),
    (127, "DEL"),
];

fn collating_element(name: &[u8]) -> Option<u8> {
    if let [byte] = name {
        return byte.is_ascii_alphabetic().then_some(*byte);
    }
    COLLATING_NAMES.iter().find_map(|&(first, names)| {
        let index = names.split(' ').position(|candidate| candidate.as_bytes() == name)?;
        Some(first + index as u8)
    })
}
