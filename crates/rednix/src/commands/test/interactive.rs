//! The console of a machine whose test failed, in this terminal: what it prints is shown, what is typed is sent, until
//! Ctrl-A X. With several machines Ctrl-A N goes to the next.

use std::io::{IsTerminal, Write};

use rednix_vm::testing::Guest;

use crate::commands::terminal::{Follow, PREFIX, Raw, typed};

/// Shows the console until the user leaves it or the machine ends. Needs a terminal.
pub fn open(guests: &mut [Guest<'_>], at: usize, message: &str) {
    let mut err = std::io::stderr();
    let _ = writeln!(err, "\r\n{message}");
    if !std::io::stdin().is_terminal() {
        let _ = writeln!(err, "--interactive: standard input is no terminal, so no console is opened");
        return;
    }
    let _ = writeln!(
        err,
        "the console of `{}` is yours; Ctrl-A X ends{}",
        guests[at].name(),
        if guests.len() > 1 { ", Ctrl-A N goes to the next machine" } else { "" }
    );
    let Some(_raw) = Raw::enter() else { return };
    converse(guests, at);
    let _ = writeln!(err, "\r");
}

fn converse(guests: &mut [Guest<'_>], mut at: usize) {
    let mut shown = Follow::new(guests[at].logs.last().map(|log| log.as_path()));
    let mut after_prefix = false;
    while guests[at].runs() {
        shown.print();
        let mut keys = [0; 256];
        let count = match typed(&mut keys) {
            Some(0) => return,
            Some(count) => count,
            None => {
                // A machine that ended is noticed when it is asked.
                let _ = guests[at].ended(std::time::Instant::now());
                continue;
            }
        };
        let mut text = Vec::new();
        for &key in &keys[..count] {
            match (after_prefix, key) {
                (true, b'x' | b'X') => return,
                (true, b'n' | b'N') => {
                    at = (at + 1) % guests.len();
                    let _ = write!(std::io::stderr(), "\r\n-- {} --\r\n", guests[at].name());
                    shown = Follow::new(guests[at].logs.last().map(|log| log.as_path()));
                    after_prefix = false;
                }
                (false, PREFIX) => after_prefix = true,
                (_, key) => {
                    after_prefix = false;
                    text.push(key);
                }
            }
        }
        if !text.is_empty() && guests[at].send(&String::from_utf8_lossy(&text)).is_err() {
            return;
        }
    }
    shown.print();
}
