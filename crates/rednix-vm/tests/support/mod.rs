//! What the tests of machines share: a monitor that is a script, its image, and where both lie. It has no tests.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rednix_events::{Events, Silent};
use rednix_vm::control::{Control, Qmp};
use rednix_vm::runner::{Command, Wiring};
use rednix_vm::spec::Acceleration;
use rednix_vm::{Config, Error, Exit, ExitKind, MachineSpec, Program, Result, Runner};

/// The exchange disk of a made-up machine. Not every test needs each.
#[allow(dead_code)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Exchange {
    #[default]
    Absent,
    /// It is there, and the guest cannot read it.
    Hidden,
    /// The guest finds it as the file that it is on the host.
    There,
}

/// The status of a made-up machine that the guest has reset.
const RESET: i32 = 40;

/// A runner whose monitor is the program `monitor` of the search path: it plays the guest at its standard input and
/// output, has a control socket that nobody answers on, and statuses as QEMU has them.
#[derive(Clone, Copy, Debug, Default)]
pub struct MadeUp {
    pub exchange: Exchange,
}

impl Runner for MadeUp {
    fn name(&self) -> &'static str {
        "made-up"
    }

    fn find(&self, _: &MachineSpec, config: &Config) -> Result<Program> {
        match config.find_program("monitor") {
            Some(path) => Ok(Program::at(path)),
            None => Err(Error::Missing { what: "`monitor`".into(), how: "nothing".into() }),
        }
    }

    fn limitations(&self) -> &'static [&'static str] {
        &[]
    }

    fn check(&self, spec: &MachineSpec) -> Result<()> {
        spec.check()
    }

    fn smoke_test(&self, _: &Program, _: &Config) -> Result<std::result::Result<(), String>> {
        Ok(Err("a script".into()))
    }

    fn command(
        &self,
        program: &Program,
        _: &MachineSpec,
        _: &Config,
        wiring: &Wiring<'_>,
    ) -> Result<Command> {
        let environment = vec![("TMPDIR".into(), wiring.scratch.into())];
        Ok(Command { program: program.path.clone(), environment, ..Command::default() })
    }

    fn exchange_places(&self, _: &MachineSpec, file: &Path) -> Vec<String> {
        let mut places = vec!["/no/such/disk".to_owned(), "/dev/zero".to_owned()];
        match self.exchange {
            Exchange::Absent => places.clear(),
            Exchange::Hidden => {}
            Exchange::There => places.push(file.to_string_lossy().into_owned()),
        }
        places
    }

    fn control(&self, _: &Program, _: &Path) -> Result<(Box<dyn Control>, Option<OwnedFd>)> {
        let (ours, theirs) = Qmp::pair()?;
        Ok((Box::new(ours), Some(theirs.into())))
    }

    fn exit(&self, status: i32) -> Exit {
        match status {
            // What QEMU tells over its socket.
            RESET => Exit { kind: ExitKind::Reset, status: 0 },
            other => rednix_vm::qemu::Qemu::Pc.exit(other),
        }
    }
}

/// A folder with the monitor and an image.
pub struct Place {
    pub folder: tempfile::TempDir,
    pub config: Config,
}

impl Place {
    pub fn new(monitor: &str) -> Place {
        let folder = tempfile::tempdir().unwrap();
        write_program(&folder.path().join("monitor"), monitor);
        std::fs::write(folder.path().join("disk.img"), [0; 512]).unwrap();
        let config = Config::new(
            vec![folder.path().into()],
            folder.path().join("scratch"),
            folder.path().join("logs"),
        );
        Place { folder, config }
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn machine(&self, name: &str) -> MachineSpec {
        MachineSpec { acceleration: Acceleration::Tcg, ..MachineSpec::new(name, self.file("disk.img")) }
    }
}

/// Writes a script that can be started. Another process does it: what this one has open for writing, a program that
/// another test is just starting has open too, and the kernel executes no such file.
fn write_program(path: &Path, text: &str) {
    let mut writer = std::process::Command::new("install")
        .args(["-m", "755", "/dev/stdin"])
        .arg(path)
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = writer.stdin.take().unwrap();
    std::io::Write::write_all(&mut input, text.as_bytes()).unwrap();
    drop(input);
    assert!(writer.wait().unwrap().success());
}

pub fn silent() -> Events {
    Arc::new(Silent)
}
