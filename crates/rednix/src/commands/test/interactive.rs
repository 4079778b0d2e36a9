//! The console of a machine whose test failed, in this terminal: what it prints is shown, what is typed is sent, until
//! Ctrl-A X. With several machines Ctrl-A N goes to the next.

use std::fs::File;
use std::io::{IsTerminal, Write};
use std::os::fd::AsFd;

use rednix_events::Events;
use rednix_vm::testing::Guest;
use rednix_vm::{Attached, Keyboard, Turn};

/// Shows the console until the user leaves it or the machine ends. Needs a terminal.
pub fn open(guests: &mut [Guest<'_>], at: usize, message: &str, events: &Events) {
    let mut err = std::io::stderr();
    if !std::io::stdin().is_terminal() {
        let _ = writeln!(
            err,
            "\n{message}\n--interactive: standard input is no terminal, so no console is opened"
        );
        return;
    }
    let several = guests.len() > 1;
    let next = if several { ", Ctrl-A N goes to the next machine" } else { "" };
    // What the console said first: it may be long, and this is what has to be seen.
    show(&guests[at]);
    let _ = writeln!(err, "\n{message}");
    if guests[at].runs() {
        let _ = writeln!(err, "the console of `{}` is yours; Ctrl-A X ends{next}", guests[at].name());
    } else {
        let _ = writeln!(err, "`{}` does not run any more", guests[at].name());
    }
    let screenshot_folder = std::env::current_dir().unwrap_or_default();
    let keyboard = Keyboard { save_folder: None, screenshot_folder, several };
    let mut attached = Attached::new(&keyboard, events);
    converse(guests, at, &mut attached);
    drop(attached);
    let _ = writeln!(err);
}

fn converse(guests: &mut [Guest<'_>], mut at: usize, attached: &mut Attached<'_>) {
    while let Ok(machine) = guests[at].machine() {
        match attached.turn(machine) {
            Ok(Turn::Goes) => {}
            Ok(Turn::Next) => {
                hide(&guests[at]);
                let running = (1..guests.len()).map(|step| (at + step) % guests.len());
                at = running.into_iter().find(|&other| guests[other].runs()).unwrap_or(at);
                let _ = writeln!(std::io::stderr(), "\n-- {} --", guests[at].name());
                show(&guests[at]);
            }
            Ok(Turn::Left | Turn::Ended(_)) | Err(_) => break,
        }
    }
    hide(&guests[at]);
}

fn show(guest: &Guest<'_>) {
    let screen = std::io::stdout().as_fd().try_clone_to_owned().map(File::from);
    if let (Some(console), Some(log), Ok(screen)) = (guest.console(), guest.logs.last(), screen) {
        console.show(log, screen);
    }
}

fn hide(guest: &Guest<'_>) {
    if let Some(console) = guest.console() {
        console.hide();
    }
}
