//! Chooses between KVM and TCG, and how TCG emulates. `auto` trusts KVM only after the runner's smoke test, whose verdict
//! is kept per kernel, processor and monitor. It runs no machines itself.

use std::time::SystemTime;

use rednix_events::{Event, Events};

use crate::error::{Error, Result};
use crate::kept::Question;
use crate::limits::NEGATIVE_VERDICT_AGE;
use crate::runner::{Config, Engine, Program, Runner};
use crate::spec::{Acceleration, Architecture, MachineSpec};

const DEVICE: &str = "/dev/kvm";

/// What the machine runs on; says why in an event.
pub fn choose(
    runner: &dyn Runner,
    program: &Program,
    spec: &MachineSpec,
    config: &Config,
    events: &Events,
) -> Result<Engine> {
    if runner.needs_kvm() {
        return require(runner, program, spec, config).map(|()| Engine::Kvm);
    }
    match spec.acceleration {
        Acceleration::Tcg => emulation(runner, program, spec, config),
        Acceleration::Kvm => {
            verdict(runner, program, spec, config)?.map(|()| Engine::Kvm).map_err(|reason| Error::Missing {
                what: "a KVM that works, which `--accel kvm` asks for,".into(),
                how: format!("{reason}. `--accel tcg` emulates, `--accel auto` does where KVM does not work"),
            })
        }
        Acceleration::Auto => {
            let verdict = verdict(runner, program, spec, config)?;
            let message = match &verdict {
                Ok(()) => "the machine runs on KVM, which passed a test with a small guest".to_owned(),
                Err(reason) => format!("the machine is emulated (TCG), KVM is not used: {reason}"),
            };
            events.emit(Event::Notice { message });
            if verdict.is_ok() { Ok(Engine::Kvm) } else { emulation(runner, program, spec, config) }
        }
    }
}

fn emulation(runner: &dyn Runner, program: &Program, spec: &MachineSpec, config: &Config) -> Result<Engine> {
    let several = spec.cpus > 1 && runner.emulates_in_threads(program, config)?;
    Ok(if several { Engine::Threads } else { Engine::Turns })
}

/// For monitors that cannot go without it. A test on such a host has nothing to say, so this is a lack, not a failure.
fn require(runner: &dyn Runner, program: &Program, spec: &MachineSpec, config: &Config) -> Result<()> {
    if spec.acceleration == Acceleration::Tcg {
        return Err(spec.refuse(format!("{} has no emulation: use `qemu`", runner.name())));
    }
    verdict(runner, program, spec, config)?.map_err(|reason| Error::Missing {
        what: format!("a KVM that works, which {} needs,", runner.name()),
        how: format!("{reason}. Use QEMU, which goes without: `--vmm qemu` or `--vmm microvm`"),
    })
}

/// Whether KVM works with that monitor; why not.
fn verdict(
    runner: &dyn Runner,
    program: &Program,
    spec: &MachineSpec,
    config: &Config,
) -> Result<Result<(), String>> {
    match usable_device(spec.architecture) {
        Ok(()) => smoke_test(runner, program, spec, config),
        Err(reason) => Ok(Err(reason)),
    }
}

fn usable_device(guest: Architecture) -> Result<(), String> {
    let (host, needed) = match guest {
        Architecture::X86_64 | Architecture::I586 => (std::env::consts::ARCH, "x86_64"),
        Architecture::Aarch64 => (std::env::consts::ARCH, "aarch64"),
        Architecture::Riscv64 => (std::env::consts::ARCH, "riscv64"),
    };
    if host != needed {
        return Err(format!("the host is {host}, the guest needs {needed}"));
    }
    let device = std::fs::OpenOptions::new().read(true).write(true).open(DEVICE);
    device.map(|_| ()).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => format!("there is no {DEVICE}"),
        std::io::ErrorKind::PermissionDenied => {
            format!("{DEVICE} may not be opened (the group `kvm` usually may)")
        }
        _ => format!("{DEVICE} cannot be opened: {error}"),
    })
}

fn smoke_test(
    runner: &dyn Runner,
    program: &Program,
    spec: &MachineSpec,
    config: &Config,
) -> Result<Result<(), String>> {
    let key = format!("{} {} | {} | {}", program.path.display(), program.identity, kernel(), processor());
    let question = Question::new(config, "acceleration-1", key);
    let kept = read_verdict(&question);
    // Who insists on KVM may just have mended it.
    if let Some(verdict) = kept.filter(|verdict| verdict.is_ok() || spec.acceleration != Acceleration::Kvm) {
        return Ok(verdict);
    }
    let verdict = runner.smoke_test(program, config)?;
    write_verdict(&question, &verdict);
    Ok(verdict)
}

fn kernel() -> String {
    let name = rustix::system::uname();
    format!("{} {}", name.release().to_string_lossy(), name.version().to_string_lossy())
}

fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find(|line| line.starts_with("model name"));
    model.and_then(|line| line.split_once(':')).map_or("unknown", |(_, name)| name.trim()).to_owned()
}

/// A kept verdict; none when there is none, or a negative one that is old enough to ask again.
fn read_verdict(question: &Question) -> Option<Result<(), String>> {
    let (verdict, given) = question.kept()?;
    match verdict.split_once(' ') {
        None if verdict == "usable" => Some(Ok(())),
        Some(("unusable", reason)) => {
            let age = SystemTime::now().duration_since(given).ok()?;
            (age < NEGATIVE_VERDICT_AGE).then(|| Err(reason.to_owned()))
        }
        _ => None,
    }
}

fn write_verdict(question: &Question, verdict: &Result<(), String>) {
    match verdict {
        Ok(()) => question.keep("usable"),
        Err(reason) => question.keep(&format!("unusable {reason}")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;
    use std::path::Path;

    use super::*;
    use crate::control::Control;
    use crate::exit::{Exit, ExitKind};
    use crate::runner::{Command, Wiring};

    /// Finds KVM useless, for the reason of the moment.
    #[derive(Default)]
    struct Refused {
        needs_kvm: bool,
        sound: bool,
        asked: std::cell::Cell<u32>,
    }

    impl Runner for Refused {
        fn name(&self) -> &'static str {
            "refused"
        }
        fn find(&self, _: &MachineSpec, _: &Config) -> Result<Program> {
            Ok(Program::at("/bin/true".into()))
        }
        fn limitations(&self) -> &'static [&'static str] {
            &[]
        }
        fn needs_kvm(&self) -> bool {
            self.needs_kvm
        }
        fn check(&self, _: &MachineSpec) -> Result<()> {
            Ok(())
        }
        fn smoke_test(&self, _: &Program, _: &Config) -> Result<Result<(), String>> {
            self.asked.set(self.asked.get() + 1);
            Ok(Err("it died".into()))
        }
        fn emulates_in_threads(&self, _: &Program, _: &Config) -> Result<bool> {
            Ok(self.sound)
        }
        fn command(&self, _: &Program, _: &MachineSpec, _: &Config, _: &Wiring<'_>) -> Result<Command> {
            Ok(Command::default())
        }
        fn control(&self, _: &Program, _: &Path) -> Result<(Box<dyn Control>, Option<OwnedFd>)> {
            Err(Error::Control("none".into()))
        }
        fn exit(&self, status: i32) -> Exit {
            Exit { kind: ExitKind::Failed, status }
        }
    }

    #[test]
    fn a_monitor_that_needs_kvm_says_why_it_cannot_have_it() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config::new(vec![], folder.path().into(), folder.path().into());
        let events: Events = std::sync::Arc::new(rednix_events::Silent);
        let choose_for = |acceleration| {
            let spec = MachineSpec { acceleration, ..MachineSpec::new("x", "x".into()) };
            let refused = Refused { needs_kvm: true, ..Refused::default() };
            choose(&refused, &Program::at("/bin/true".into()), &spec, &config, &events).unwrap_err()
        };
        for acceleration in [Acceleration::Auto, Acceleration::Kvm] {
            let error = choose_for(acceleration);
            assert!(error.is_missing() && error.to_string().contains("--vmm qemu"), "{error}");
        }
        assert!(choose_for(Acceleration::Tcg).to_string().contains("no emulation"));
    }

    #[test]
    fn kvm_that_is_asked_for_is_tried_too() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::new(vec![], folder.path().into(), folder.path().into());
        config.cache_folder = Some(folder.path().into());
        let events: Events = std::sync::Arc::new(rednix_events::Silent);
        let refused = Refused::default();
        let spec = MachineSpec { acceleration: Acceleration::Kvm, ..MachineSpec::new("x", "x".into()) };
        for tries in 1..3 {
            let error =
                choose(&refused, &Program::at("/bin/true".into()), &spec, &config, &events).unwrap_err();
            let text = error.to_string();
            assert!(error.is_missing() && text.contains("--accel tcg"), "{text}");
            if usable_device(spec.architecture).is_ok() {
                assert!(text.contains("it died"), "{text}");
                assert_eq!(refused.asked.get(), tries, "a verdict against it is asked for again");
            }
        }
        let auto = MachineSpec { acceleration: Acceleration::Auto, ..spec };
        let before = refused.asked.get();
        let engine = choose(&refused, &Program::at("/bin/true".into()), &auto, &config, &events).unwrap();
        assert_eq!(engine, Engine::Turns);
        assert_eq!(refused.asked.get(), before, "the verdict is kept");
    }

    #[test]
    fn verdicts_against_kvm_age() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::new(vec![], folder.path().into(), folder.path().into());
        let cache = folder.path().join("cache");
        config.cache_folder = Some(cache.clone());
        let question = Question::new(&config, "acceleration-1", "key".into());
        assert_eq!(read_verdict(&question), None);
        write_verdict(&question, &Ok(()));
        assert_eq!(read_verdict(&question), Some(Ok(())));
        write_verdict(&question, &Err("too\nslow".into()));
        assert_eq!(read_verdict(&question), Some(Err("too slow".into())));
        let file = std::fs::read_dir(cache).unwrap().next().unwrap().unwrap().path();
        let old = SystemTime::now() - NEGATIVE_VERDICT_AGE - std::time::Duration::from_secs(1);
        std::fs::File::options().write(true).open(&file).unwrap().set_modified(old).unwrap();
        assert_eq!(read_verdict(&question), None);
    }

    /// Only several processors are worth the question.
    #[test]
    fn processors_have_threads_where_the_monitor_is_sound() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config::new(vec![], folder.path().into(), folder.path().into());
        let events: Events = std::sync::Arc::new(rednix_events::Silent);
        for (cpus, sound, expected) in
            [(1, true, Engine::Turns), (2, true, Engine::Threads), (2, false, Engine::Turns)]
        {
            let runner = Refused { sound, ..Refused::default() };
            let new = MachineSpec::new("x", "x".into());
            let spec = MachineSpec { acceleration: Acceleration::Tcg, cpus, ..new };
            let engine = choose(&runner, &Program::at("/bin/true".into()), &spec, &config, &events).unwrap();
            assert_eq!(engine, expected);
        }
    }
}
