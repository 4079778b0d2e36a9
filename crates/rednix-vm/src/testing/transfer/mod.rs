//! Files into a guest and out of it, compared by a hash that the guest's own `sha256sum` makes. They go by the exchange
//! disk where the machine has one that the guest can read, else over its console. Somebody has to be logged in to a
//! shell.

mod console;
mod disk;

use std::fs::File;
use std::path::Path;
use std::time::Instant;

use super::guest::{Done, Guest, guest};
use super::shell::{Answer, Shell, quote};
use crate::error::Error;
use crate::exchange::hash_of;
use crate::limits::{COPY_MAX, EXCHANGE_FILE_MAX, EXCHANGE_FROM};

pub use disk::{clear, copy_command, disk, place, run_script};

/// Writes a file of the host to `to` in the guest.
pub fn copy_in(machine: &mut Guest<'_>, from: &Path, to: &str, deadline: Instant) -> Done {
    let mut file = File::open(from).map_err(Error::io("read", from))?;
    let length = file.metadata().map_err(Error::io("read", from))?.len();
    let by_disk = length >= EXCHANGE_FROM && disk::find(machine, deadline)?.is_some();
    let limit = if by_disk { EXCHANGE_FILE_MAX } else { COPY_MAX };
    if length > limit {
        let way = if by_disk { "goes through the exchange disk" } else { "goes over a console" };
        return guest(format!(
            "`{}` has {length} bytes; at most {limit} {way} (put it into the image, or serve it over the network)",
            from.display()
        ));
    }
    if by_disk {
        return disk::write(machine, &mut file, length, to, deadline);
    }
    let bytes = std::fs::read(from).map_err(Error::io("read", from))?;
    console::write(machine, &bytes, to, deadline)
}

/// The bytes of a file in the guest.
pub fn read(machine: &mut Guest<'_>, from: &str, deadline: Instant) -> Done<Vec<u8>> {
    match disk::find(machine, deadline)? {
        Some(_) => disk::read(machine, from, deadline),
        None => console::read(machine, from, deadline),
    }
}

/// Whether files go by the exchange disk. It is looked for at most once in each start.
pub fn has_disk(machine: &mut Guest<'_>, deadline: Instant) -> Done<bool> {
    Ok(disk::find(machine, deadline)?.is_some())
}

/// The hash of a file of the host, as `sha256sum` of the guest writes it.
pub fn hash(file: &Path) -> Result<String, Error> {
    File::open(file).and_then(|mut file| hash_of(&mut file)).map_err(Error::io("read", file))
}

fn compare(machine: &mut Guest<'_>, expected: &str, path: &str, deadline: Instant) -> Done {
    let file = word(machine.shell, path)?;
    let Answer { status, output } = machine.run(&format!("sha256sum {file}"), deadline)?;
    if status != 0 {
        return guest(format!("`sha256sum {path}` ended with status {status}: {}", output.trim()));
    }
    if !output.contains(expected) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_one_word() {
        assert!(word(Shell::Probe, "/x").is_err() && word(Shell::Ion, "/it's").is_err());
        assert_eq!(word(Shell::Ion, "/a b").unwrap(), "'/a b'");
        assert_eq!(word(Shell::Sh, "/it's").unwrap(), "'/it'\"'\"'s'");
    }
}
