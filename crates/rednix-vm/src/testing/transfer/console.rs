//! The way over the console: files as text, in lines that a terminal takes. Slow, and there wherever a shell is. It
//! needs `base64` in the guest.

use std::time::Instant;

use super::super::base64;
use super::super::guest::{Done, Guest, guest};
use super::super::shell::Answer;
use super::{compare, word};
use crate::exchange::hash_of;
use crate::limits::{COPY_LINE, COPY_PIECE, COPY_TRIES};

/// Writes bytes to a file in the guest.
pub fn write(machine: &mut Guest<'_>, bytes: &[u8], to: &str, deadline: Instant) -> Done {
    let file = word(machine.shell, to)?;
    let wrote = |answer: Answer| match answer.status {
        0 => Ok(()),
        status => guest(format!("writing `{to}` ended with status {status}: {}", answer.output.trim())),
    };
    if bytes.is_empty() {
        wrote(machine.run(&format!("truncate -s 0 {file}"), deadline)?)?;
    }
    for (index, piece) in bytes.chunks(COPY_PIECE).enumerate() {
        let text = base64::encode(piece);
        let way = if index == 0 { ">" } else { ">>" };
        let lines = split(&text, COPY_LINE).join("\n");
        wrote(machine.run_with_input(&format!("base64 -d {way} {file}"), &lines, deadline)?)?;
    }
    compare(machine, &hash(bytes), to, deadline)
}

/// The bytes of a file in the guest.
pub fn read(machine: &mut Guest<'_>, from: &str, deadline: Instant) -> Done<Vec<u8>> {
    let file = word(machine.shell, from)?;
    for _ in 1..COPY_TRIES {
        if let Some(bytes) = read_once(machine, from, &file, deadline)?
            && compare(machine, &hash(&bytes), from, deadline).is_ok()
        {
            return Ok(bytes);
        }
    }
    let Some(bytes) = read_once(machine, from, &file, deadline)? else {
        return guest(format!(
            "reading `{from}`: something else was printed among it, or it is too long for a console"
        ));
    };
    compare(machine, &hash(&bytes), from, deadline)?;
    Ok(bytes)
}

/// What came through; nothing where that is no whole encoding.
fn read_once(machine: &mut Guest<'_>, from: &str, file: &str, deadline: Instant) -> Done<Option<Vec<u8>>> {
    let Answer { status, output } = machine.run(&format!("base64 {file}"), deadline)?;
    if status != 0 {
        return guest(format!("reading `{from}` ended with status {status}: {}", output.trim()));
    }
    // A kernel prints its messages in lines of their own.
    let digit = |c: char| c.is_ascii_alphanumeric() || "+/=".contains(c);
    let lines: Vec<&str> = output.lines().filter(|line| line.trim().chars().all(digit)).collect();
    Ok(base64::decode(&lines.concat()))
}

fn hash(bytes: &[u8]) -> String {
    // Reading memory cannot fail.
    hash_of(&mut &*bytes).unwrap_or_default()
}

/// Pieces of an ASCII text.
fn split(text: &str, length: usize) -> Vec<&str> {
    (0..text.len()).step_by(length).map(|at| &text[at..text.len().min(at + length)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_whole() {
        assert_eq!(split("abcdefg", 3), ["abc", "def", "g"]);
        assert!(split("", 3).is_empty());
    }
}
