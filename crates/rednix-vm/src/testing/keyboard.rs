//! Keys that write a character on the keyboard most machines have, the American one. It presses none.

use std::time::Duration;

/// Between two keys: a guest that polls its keyboard has to see both.
pub const PAUSE: Duration = Duration::from_millis(30);

/// The keys to press together, by QEMU's names.
pub fn keys(character: char) -> Result<Vec<String>, String> {
    const PLAIN: [(char, &str); 15] = [
        ('\n', "ret"),
        ('\t', "tab"),
        (' ', "spc"),
        ('-', "minus"),
        ('=', "equal"),
        ('[', "bracket_left"),
        (']', "bracket_right"),
        (';', "semicolon"),
        ('\'', "apostrophe"),
        ('`', "grave_accent"),
        ('\\', "backslash"),
        (',', "comma"),
        ('.', "dot"),
        ('/', "slash"),
        ('\u{8}', "backspace"),
    ];
    const SHIFTED: [(char, char); 21] = [
        ('!', '1'),
        ('@', '2'),
        ('#', '3'),
        ('$', '4'),
        ('%', '5'),
        ('^', '6'),
        ('&', '7'),
        ('*', '8'),
        ('(', '9'),
        (')', '0'),
        ('_', '-'),
        ('+', '='),
        ('{', '['),
        ('}', ']'),
        (':', ';'),
        ('"', '\''),
        ('~', '`'),
        ('|', '\\'),
        ('<', ','),
        ('>', '.'),
        ('?', '/'),
    ];
    let plain = |character: char| match character {
        'a'..='z' | '0'..='9' => Some(character.to_string()),
        _ => PLAIN.iter().find(|(known, _)| *known == character).map(|(_, key)| (*key).to_owned()),
    };
    if let Some(key) = plain(character) {
        return Ok(vec![key]);
    }
    let below = match character {
        'A'..='Z' => Some(character.to_ascii_lowercase()),
        _ => SHIFTED.iter().find(|(known, _)| *known == character).map(|(_, below)| *below),
    };
    match below.and_then(plain) {
        Some(key) => Ok(vec!["shift".into(), key]),
        None => Err(format!("no key of an American keyboard writes {character:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_printable_character_has_its_keys() {
        for byte in b' '..=b'~' {
            assert!(keys(byte.into()).is_ok(), "{:?}", char::from(byte));
        }
        assert_eq!(keys('A').unwrap(), ["shift", "a"]);
        assert_eq!(keys('|').unwrap(), ["shift", "backslash"]);
        assert_eq!(keys('\n').unwrap(), ["ret"]);
        assert!(keys('é').is_err());
    }
}
