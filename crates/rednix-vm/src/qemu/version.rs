//! Which QEMU it is. Asked once for each installed program, for asking costs more than everything else before a start.

use crate::error::{Error, Result};
use crate::kept::Question;
use crate::limits::VERSION_TIMEOUT;
use crate::process::{self, Waited};
use crate::runner::{Config, Program};

/// The first whose emulated processors see a change of the memory map, as the sizing of a PCI device is one, together with
/// the flush of their addresses. With a thread for each processor, older ones now and then send an access to the wrong
/// device or die: an interrupt is never acknowledged, and the guest stands still. (QEMU's issue 1864, commit
/// 0d58c660689f; seen here with 7.2.)
const SOUND_THREADS: (u32, u32) = (8, 2);

/// Whether processors may be emulated in threads of their own. One that does not say its version may not.
pub fn has_sound_threads(program: &Program, config: &Config) -> Result<bool> {
    let question =
        Question::new(config, "qemu-version-1", format!("{} {}", program.path.display(), program.identity));
    let said = match question.kept() {
        Some((said, _)) => said,
        None => {
            let mut command = std::process::Command::new(&program.path);
            command.arg("--version");
            let (waited, text) = process::output(&mut command, VERSION_TIMEOUT, &config.stop)
                .map_err(Error::io("run", &program.path))?;
            match waited {
                Waited::Stopped => return Err(Error::Interrupted),
                // Not an answer that is worth keeping.
                Waited::TimedOut => return Ok(false),
                Waited::Ended(_) => {}
            }
            let said = text.lines().next().unwrap_or_default().to_owned();
            question.keep(&said);
            said
        }
    };
    Ok(parse(&said).is_some_and(|version| version >= SOUND_THREADS))
}

/// `QEMU emulator version 7.2.22 (…)`.
fn parse(line: &str) -> Option<(u32, u32)> {
    let number = line.strip_prefix("QEMU emulator version ")?.split([' ', '-']).next()?;
    let mut parts = number.split('.').map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn versions_are_told_apart() {
        let cases = [
            ("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)", Some((7, 2))),
            ("QEMU emulator version 8.2.0", Some((8, 2))),
            ("QEMU emulator version 10.0.2 (v10.0.2-1.fc43)", Some((10, 0))),
            ("QEMU emulator version 9.1", Some((9, 1))),
            ("QEMU emulator version 9", None),
            ("QEMU emulator version x.y", None),
            ("cloud-hypervisor v48.0", None),
            ("", None),
        ];
        for (line, expected) in cases {
            assert_eq!(parse(line), expected, "{line:?}");
        }
    }

    #[test]
    fn a_program_is_asked_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::new(vec![], folder.path().into(), folder.path().into());
        config.cache_folder = Some(folder.path().join("cache"));
        let asked = folder.path().join("asked");
        let install = |version: &str| {
            let path = folder.path().join(format!("qemu-{version}"));
            let script =
                format!("#!/bin/sh\necho x >> {}\necho QEMU emulator version {version}\n", asked.display());
            std::fs::write(&path, script).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            Program::at(path)
        };
        let (old, new) = (install("7.2.0"), install("8.2.0"));
        for _ in 0..2 {
            assert!(!has_sound_threads(&old, &config).unwrap());
            assert!(has_sound_threads(&new, &config).unwrap());
        }
        assert_eq!(std::fs::read_to_string(&asked).unwrap(), "x\nx\n");
    }
}
