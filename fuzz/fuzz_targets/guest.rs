//! What comes from a guest under test: its console, its network frames, its screen. The first byte says which.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rednix_vm::Plain;
use rednix_vm::testing::network::{address_of, respond};
use rednix_vm::testing::screen::{Font, Picture};
use rednix_vm::testing::shell::{Question, Shell, Token};

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    match kind % 4 {
        0 => {
            let mut text = String::new();
            Plain::default().feed(bytes, &mut text);
            for shell in [Shell::Ion, Shell::Sh, Shell::Probe] {
                let question = Question::new(shell, Token::new(1, 1), "ls").expect("it can be typed");
                if let Some((at, answer)) = question.answer(&text, 0) {
                    assert!(text.is_char_boundary(at) && answer.output.len() <= text.len());
                }
                let _ = question.is_waiting(&text);
            }
        }
        1 => {
            if let Some(answer) = respond(bytes, Some(address_of(0))) {
                // The switch does not answer itself.
                assert_eq!(respond(&answer, Some(address_of(0))), None);
            }
        }
        2 => {
            if let Ok(picture) = Picture::read(bytes) {
                let again = Picture::read(&picture.to_png()).expect("what was written can be read");
                assert_eq!(again, picture);
            }
        }
        _ => {
            if let Ok(font) = Font::read(bytes) {
                let _ = font.text(&Picture::new(40, 40, [1, 2, 3]));
            }
        }
    }
});
