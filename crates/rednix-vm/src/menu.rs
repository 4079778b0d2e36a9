//! The menu of upstream's loader, which asks for a resolution wherever there is a screen and waits for ever. The choice
//! it offers first is the size that the screen itself states, which is the machine's `resolution`, so Enter is the
//! answer. It recognizes the menu on the console, where whoever reads that answers; a menu of BIOS is on the screen alone
//! and is looked for and answered here. It chooses nothing.

use std::path::Path;

use crate::console::Plain;
use crate::control::{Control, Request, Shared};
use crate::limits::SCREEN_POLL;
use crate::spec::{Display, Firmware, MachineSpec};

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

/// Where a PC keeps the characters of its text screen, each followed by its colour: 80 columns, 25 lines.
const SCREEN_ADDRESS: u64 = 0xb_8000;
const SCREEN_LENGTH: u64 = 80 * 25 * 2;

/// Looks for the menu on a text screen that is read again and again.
#[derive(Debug, Default)]
struct TextScreen {
    /// Whether it was there the last time.
    shown: bool,
}

impl TextScreen {
    /// Whether the menu has come since the last look.
    fn look(&mut self, memory: &[u8]) -> bool {
        let text: Vec<u8> = memory.iter().copied().step_by(2).collect();
        let shows = text.windows(TEXT.len()).any(|part| part == TEXT.as_bytes());
        !std::mem::replace(&mut self.shown, shows) && shows
    }
}

/// Answers the menus that a BIOS machine shows, in a thread that ends with the machine's connection. Upstream's loader
/// says nothing on the console there, and reads the keyboard only.
pub(crate) fn watch_screen(spec: &MachineSpec, control: &Shared, scratch: &Path) {
    if spec.firmware != Firmware::Bios || spec.display == Display::None {
        return;
    }
    let control = control.follow();
    let file = scratch.join("screen.text");
    std::thread::spawn(move || {
        let mut screen = TextScreen::default();
        loop {
            std::thread::sleep(SCREEN_POLL);
            // Not kept while nothing is asked: whoever has the machine ends it.
            let Some(mut control) = control.get() else { return };
            let memory = Request::Memory { address: SCREEN_ADDRESS, length: SCREEN_LENGTH, file: &file };
            // A monitor that is not up yet, or no more, has no screen; the next look tells.
            let Ok(()) = control.ask(&memory) else { continue };
            let Ok(memory) = std::fs::read(&file) else { continue };
            if screen.look(&memory) {
                let _ = control.ask(&Request::Press(&["ret".to_owned()]));
            }
        }
    });
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

    #[test]
    fn a_screen_is_answered_once_until_the_menu_comes_again() {
        let screen = |text: &str| -> Vec<u8> { text.bytes().flat_map(|byte| [byte, 7]).collect() };
        let menu = format!("Output 0, best resolution: 1280x800{}{TEXT}", " ".repeat(45));
        let looks = [("", false), (&menu, true), (&menu, false), ("Loading kernel", false), (&menu, true)];
        let mut text_screen = TextScreen::default();
        for (text, expected) in looks {
            assert_eq!(text_screen.look(&screen(text)), expected, "{text:?}");
        }
        // The characters one after another are no screen.
        assert!(!TextScreen::default().look(TEXT.as_bytes()));
    }
}
