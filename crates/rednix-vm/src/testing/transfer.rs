//! Files into a guest and out of it, over its console: encoded as text, and compared by a hash that the guest's own
//! `sha256sum` makes. It needs `base64` and `sha256sum` in the guest, and a shell that somebody is logged in to.

use std::path::Path;
use std::time::Instant;

use sha2::{Digest, Sha256};

use super::base64;
use super::guest::{Done, Guest, guest};
use super::shell::{Answer, Shell, quote};
use crate::error::Error;
use crate::limits::{COPY_LINE, COPY_MAX, COPY_PIECE, COPY_TRIES};

/// Writes a file of the host to `to` in the guest.
pub fn copy_in(machine: &mut Guest<'_>, from: &Path, to: &str, deadline: Instant) -> Done {
    let length = std::fs::metadata(from).map_err(Error::io("read", from))?.len();
    if length > COPY_MAX {
        return guest(format!(
            "`{}` has {length} bytes; a console takes at most {COPY_MAX} (put it into the image, or serve it over the network)",
            from.display()
        ));
    }
    let bytes = std::fs::read(from).map_err(Error::io("read", from))?;
    write(machine, &bytes, to, deadline)
}

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
    compare(machine, bytes, to, deadline)
}

/// The bytes of a file in the guest.
pub fn read(machine: &mut Guest<'_>, from: &str, deadline: Instant) -> Done<Vec<u8>> {
    let file = word(machine.shell, from)?;
    for _ in 1..COPY_TRIES {
        if let Some(bytes) = read_once(machine, from, &file, deadline)?
            && compare(machine, &bytes, from, deadline).is_ok()
        {
            return Ok(bytes);
        }
    }
    let Some(bytes) = read_once(machine, from, &file, deadline)? else {
        return guest(format!(
            "reading `{from}`: something else was printed among it, or it is too long for a console"
        ));
    };
    compare(machine, &bytes, from, deadline)?;
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

fn compare(machine: &mut Guest<'_>, bytes: &[u8], path: &str, deadline: Instant) -> Done {
    let file = word(machine.shell, path)?;
    let Answer { status, output } = machine.run(&format!("sha256sum {file}"), deadline)?;
    let expected: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    if status != 0 {
        return guest(format!("`sha256sum {path}` ended with status {status}: {}", output.trim()));
    }
    if !output.contains(&expected) {
        return guest(format!("`{path}` did not come through whole: the guest says {}", output.trim()));
    }
    Ok(())
}

/// A path as the guest's shell takes it.
pub fn word(shell: Shell, path: &str) -> Done<String> {
    match shell {
        Shell::Probe => guest("the probe's console copies no files; `run` its `sum` or `cat`"),
        _ if path.is_empty() || path.contains(|c: char| c.is_control()) => {
            guest(format!("{path:?} is no path that can be typed"))
        }
        Shell::Sh => Ok(quote(path)),
        Shell::Ion if path.contains('\'') => guest(format!("`{path}` cannot be quoted for ion")),
        Shell::Ion => Ok(format!("'{path}'")),
    }
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
        assert!(word(Shell::Probe, "/x").is_err() && word(Shell::Ion, "/it's").is_err());
        assert_eq!(word(Shell::Ion, "/a b").unwrap(), "'/a b'");
        assert_eq!(word(Shell::Sh, "/it's").unwrap(), "'/it'\"'\"'s'");
    }
}
