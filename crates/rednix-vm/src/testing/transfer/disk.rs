//! The way by the exchange disk: the guest is typed short lines by which its `dd` copies between a file and the disk, as
//! fast as its driver is. It needs `dd`, `truncate`, `wc` and `sha256sum` in the guest, and for the disk the rights of
//! root.

use std::io::Read;
use std::ops::Range;
use std::time::Instant;

use super::super::guest::{Done, Guest, Problem, guest};
use super::super::shell::{Answer, Shell};
use super::{compare, word};
use crate::exchange::{BLOCK, ExchangeDisk, MARK_BYTES};

/// Shorter files are copied in blocks of this size: a block is written whole before the file is cut to its length.
const SMALL_BLOCK: u64 = 64 << 10;

/// Where the guest has the disk; none where it has no such disk, or whoever is logged in may not read it. What was found
/// is remembered until the machine starts anew, or somebody else logs in.
pub fn find(machine: &mut Guest<'_>, deadline: Instant) -> Done<Option<String>> {
    if let Some(known) = &machine.exchange_place {
        return Ok(known.clone());
    }
    let found = look(machine, deadline)?;
    machine.exchange_place = Some(found.clone());
    Ok(found)
}

fn look(machine: &mut Guest<'_>, deadline: Instant) -> Done<Option<String>> {
    let shell = machine.shell;
    if shell == Shell::Probe || !machine.runs() {
        return Ok(None);
    }
    let Some(disk) = machine.machine()?.exchange() else { return Ok(None) };
    let (places, mark) = (disk.places().to_vec(), disk.mark_hash());
    for place in places {
        let file = word(shell, &place)?;
        let command = format!("dd if={file} bs={MARK_BYTES} count=1 status=none | sha256sum");
        if machine.run(&command, deadline)?.output.contains(&mark) {
            return Ok(Some(place));
        }
    }
    Ok(None)
}

/// Writes `length` bytes to a file in the guest.
pub fn write(machine: &mut Guest<'_>, from: &mut dyn Read, length: u64, to: &str, deadline: Instant) -> Done {
    let file = word(machine.shell, to)?;
    let laid = disk(machine)?.lay(from, length)?;
    let place = place(machine, deadline)?;
    let command = copy_command(&place, &laid.range, &file);
    let result = succeed(machine, &command, &format!("writing `{to}`"), deadline)
        .and_then(|_| compare(machine, &laid.hash, to, deadline));
    clear(machine, &laid.range);
    result
}

/// The bytes of a file in the guest.
pub fn read(machine: &mut Guest<'_>, from: &str, deadline: Instant) -> Done<Vec<u8>> {
    let what = format!("reading `{from}`");
    let file = word(machine.shell, from)?;
    let counted = succeed(machine, &format!("wc -c {file}"), &what, deadline)?;
    // A kernel prints its messages in lines of their own.
    let mut numbers = counted.lines().filter_map(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    let Some(length) = numbers.next_back() else {
        return guest(format!("{what}: the guest does not say how long it is: {}", counted.trim()));
    };
    let range = disk(machine)?.reserve(length)?;
    let place = place(machine, deadline)?;
    let block = block(length);
    let command = format!(
        "dd if={file} of={place} bs={block} seek={} iflag=fullblock conv=notrunc,sync status=none",
        range.start / block
    );
    succeed(machine, &command, &what, deadline)?;
    let bytes = disk(machine)?.read(&range)?;
    clear(machine, &range);
    let hash = crate::exchange::hash_of(&mut bytes.as_slice()).unwrap_or_default();
    compare(machine, &hash, from, deadline)?;
    Ok(bytes)
}

/// Lines that the guest's shell runs from a file, which takes no time to type; what they printed.
pub fn run_script(machine: &mut Guest<'_>, lines: &[String], deadline: Instant) -> Done<String> {
    let mut text = lines.join("\n");
    text.push('\n');
    let range = disk(machine)?.lay(&mut text.as_bytes(), text.len() as u64)?.range;
    let place = place(machine, deadline)?;
    let shell = match machine.shell {
        Shell::Ion => "ion",
        Shell::Sh | Shell::Probe => "sh",
    };
    let script = format!("/tmp/rednix-{}.script", machine.next_name());
    let command = format!("{} && {shell} {script}; rm -f {script}", copy_command(&place, &range, &script));
    let answer = machine.run(&command, deadline);
    clear(machine, &range);
    Ok(answer?.output)
}

/// A line by which the guest takes a file from the disk. The disk gives whole blocks only; the file is cut afterwards.
pub fn copy_command(place: &str, range: &Range<u64>, to: &str) -> String {
    let length = range.end - range.start;
    let block = block(length);
    let (skip, count) = (range.start / block, length.div_ceil(block));
    format!(
        "dd if={place} of={to} bs={block} skip={skip} count={count} iflag=fullblock status=none && truncate -s {length} {to}"
    )
}

fn block(length: u64) -> u64 {
    if length <= SMALL_BLOCK { SMALL_BLOCK } else { BLOCK }
}

/// The disk's place as a word for the shell.
pub fn place(machine: &mut Guest<'_>, deadline: Instant) -> Done<String> {
    match find(machine, deadline)? {
        Some(place) => word(machine.shell, &place),
        None => guest("the guest has no exchange disk"),
    }
}

pub fn disk<'g>(machine: &'g mut Guest<'_>) -> Done<&'g mut ExchangeDisk> {
    machine.machine()?.exchange().ok_or_else(|| Problem::Guest("the machine has no exchange disk".into()))
}

pub fn clear(machine: &mut Guest<'_>, range: &Range<u64>) {
    if let Ok(disk) = disk(machine) {
        disk.clear(range);
    }
}

fn succeed(machine: &mut Guest<'_>, command: &str, what: &str, deadline: Instant) -> Done<String> {
    let Answer { status, output } = machine.run(command, deadline)?;
    match status {
        0 => Ok(output),
        status => guest(format!("{what} ended with status {status}: {}", output.trim())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_fit_the_file() {
        let cases = [
            (BLOCK..BLOCK + 1, "bs=65536 skip=16 count=1"),
            (3 * BLOCK..3 * BLOCK + SMALL_BLOCK, "bs=65536 skip=48 count=1"),
            (2 * BLOCK..2 * BLOCK + SMALL_BLOCK + 1, "bs=1048576 skip=2 count=1"),
            (2 * BLOCK..5 * BLOCK + 1, "bs=1048576 skip=2 count=4"),
        ];
        for (range, expected) in cases {
            let command = copy_command("/d", &range, "/f");
            let cut = format!("truncate -s {} /f", range.end - range.start);
            assert!(command.contains(expected) && command.ends_with(&cut), "{command}");
        }
    }
}
