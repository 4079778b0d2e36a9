//! The menu of upstream's loader, which asks for a resolution wherever there is a screen and waits for ever. The choice
//! it offers first is the size that the screen itself states, which is the machine's `resolution`, so Enter is the
//! answer. It recognizes the menu on the console and presses nothing itself.

use crate::console::Plain;

/// What the menu says above its list, once for each screen.
const TEXT: &str = "Arrow keys and enter select mode";

/// Reads a console along, in whatever pieces it comes.
#[derive(Debug, Default)]
pub struct Menu {
    plain: Plain,
    /// The end of what was read, too short to hold the whole text.
    tail: String,
}

impl Menu {
    /// How many menus began in these bytes.
    pub fn feed(&mut self, bytes: &[u8]) -> usize {
        self.plain.feed(bytes, &mut self.tail);
        let count = self.tail.matches(TEXT).count();
        let end = self.tail.rfind(TEXT).map_or(0, |at| at + TEXT.len());
        let mut keep = end.max(self.tail.len().saturating_sub(TEXT.len() - 1));
        while !self.tail.is_char_boundary(keep) {
            keep += 1;
        }
        self.tail.drain(..keep);
        count
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_menu_is_seen_once(
            pieces in proptest::collection::vec(prop_oneof![
                Just(TEXT.to_owned()), "[a-z é]{0,40}", Just("\x1b[2J".to_owned()), Just("\r\n".to_owned()),
            ], 0..12),
            size in 1usize..50,
        ) {
            let console: String = pieces.concat();
            let mut menu = Menu::default();
            let seen: usize = console.as_bytes().chunks(size).map(|bytes| menu.feed(bytes)).sum();
            prop_assert_eq!(seen, pieces.iter().filter(|piece| *piece == TEXT).count());
        }
    }
}
