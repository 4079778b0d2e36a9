//! What a machine's screen shows: taken, compared with a picture, read as text. A screen changes while a guest works,
//! so it is looked at until it is as wanted or the time is over; the last picture is kept.

mod font;
pub mod picture;

pub use font::Font;
pub use picture::Picture;

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use super::guest::{Done, Guest, Problem, guest};
use super::step::Screenshot;
use crate::console::{Look, is_plain};
use crate::error::Error;
use crate::limits::{FONT_MAX, PICTURE_FILE_MAX, READING_TIMEOUT, REPEAT_PAUSE};
use crate::process::{self, Waited};

/// Reads text when no font is named.
const READER: &str = "tesseract";

/// Looks at the screen until it is as wanted.
pub fn look(
    machine: &mut Guest<'_>,
    wanted: &Screenshot,
    pattern: Option<&Look<'_>>,
    folder: &Path,
    deadline: Instant,
) -> Done {
    let file = folder.join(format!("{}.png", wanted.name));
    let reference = wanted.reference.as_deref().map(open).transpose()?;
    let font = wanted.font.as_deref().map(open_font).transpose()?;
    loop {
        machine.machine()?.screenshot(&file)?;
        let seen = open(&file)?;
        let different = match &reference {
            Some(reference) => compare(&seen, reference, wanted, folder)?,
            None => None,
        };
        let unread = match pattern {
            Some(pattern) => read(machine, &seen, &file, font.as_ref(), pattern)?,
            None => None,
        };
        match different.or(unread) {
            None => {
                let _ = std::fs::remove_file(folder.join(difference_name(wanted)));
                return Ok(());
            }
            Some(message) if Instant::now() + REPEAT_PAUSE >= deadline => {
                return guest(format!("{message}; the picture is {}", file.display()));
            }
            Some(_) => machine.sleep(REPEAT_PAUSE)?,
        }
    }
}

fn difference_name(wanted: &Screenshot) -> String {
    format!("{}.difference.png", wanted.name)
}

/// How the screen differs from the reference, beyond what is tolerated; the difference is drawn then.
fn compare(seen: &Picture, reference: &Picture, wanted: &Screenshot, folder: &Path) -> Done<Option<String>> {
    let size = |picture: &Picture| format!("{}x{}", picture.width, picture.height);
    if (seen.width, seen.height) != (reference.width, reference.height) {
        return Ok(Some(format!("the screen is {}, the reference {}", size(seen), size(reference))));
    }
    let (differing, drawn) = seen.difference(reference, &wanted.ignore);
    let per_mille = differing as f64 * 1000.0 / f64::from(seen.width * seen.height).max(1.0);
    if per_mille <= wanted.tolerance {
        return Ok(None);
    }
    let file = folder.join(difference_name(wanted));
    std::fs::write(&file, drawn.to_png()).map_err(Error::io("write", &file))?;
    Ok(Some(format!(
        "{per_mille:.1} of 1000 pixels differ from the reference ({} are tolerated): {}",
        wanted.tolerance,
        file.display()
    )))
}

/// What is missing of the text on the screen.
fn read(
    machine: &Guest<'_>,
    seen: &Picture,
    file: &Path,
    font: Option<&Font>,
    pattern: &Look<'_>,
) -> Done<Option<String>> {
    let text = match font {
        Some(font) => font.text(seen),
        None => read_by_program(machine, file)?,
    };
    if pattern(&text, 0).is_some() {
        return Ok(None);
    }
    // What a program has read off a screen may be anything.
    let text: String = text.chars().filter(|&one| is_plain(one)).collect();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    Ok(Some(format!(
        "the text is not on the screen, where {} lines were read:\n{}",
        lines.len(),
        lines.join("\n")
    )))
}

fn read_by_program(machine: &Guest<'_>, file: &Path) -> Done<String> {
    let config = machine.config();
    let Some(program) = config.find_program(READER) else {
        return Err(Problem::Missing(format!(
            "`{READER}` is not installed, and the step names no `font` to read with"
        )));
    };
    let mut command = Command::new(&program);
    command.arg(file).arg("stdout");
    let (waited, text) =
        process::output(&mut command, READING_TIMEOUT, &config.stop).map_err(Error::io("run", &program))?;
    match waited {
        Waited::Ended(0) => Ok(text),
        Waited::Stopped => Err(Error::Interrupted.into()),
        _ => guest(format!("`{READER}` cannot read {}", file.display())),
    }
}

fn open(file: &Path) -> Done<Picture> {
    let bytes = read_some(file, PICTURE_FILE_MAX)?;
    Picture::read(&bytes).or_else(|reason| guest(format!("`{}` cannot be read: {reason}", file.display())))
}

fn open_font(file: &Path) -> Done<Font> {
    let bytes = read_some(file, FONT_MAX)?;
    Font::read(&bytes).or_else(|reason| guest(format!("`{}` is no font: {reason}", file.display())))
}

fn read_some(file: &Path, most: u64) -> Done<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    let opened = std::fs::File::open(file).map_err(Error::io("open", file))?;
    opened.take(most + 1).read_to_end(&mut bytes).map_err(Error::io("read", file))?;
    if bytes.len() as u64 > most {
        return guest(format!("`{}` is larger than {most} bytes", file.display()));
    }
    Ok(bytes)
}
