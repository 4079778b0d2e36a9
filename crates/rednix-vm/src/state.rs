//! Folders of saved machines: by which file they are known, who may use one meanwhile, and how a new state takes the place
//! of the one before. What is in a state is its monitor's own.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::locked::Locked;
use crate::runner::{Runner, Stop};
use crate::sparse;
use crate::spec::MachineSpec;

/// Name of a saved machine's layer, in its folder as in the private folder of a machine.
pub const LAYER: &str = "disk.layer";

/// Without this file a folder is somebody else's, and nothing in it is touched.
const MARK: &str = "rednix-machine-state";
/// The mark's length: always the same, so that it is written at once.
const MARK_BYTES: usize = 256;
const VERSION: u32 = 1;
/// Where a state lies until it is whole.
const UNFINISHED: &str = "unfinished";
/// What the saved machine is like, beside what its monitor keeps of it.
const MACHINE: &str = "machine.json";
/// All names that states have had.
const NAMES: [&str; 7] = ["config.json", "state.json", "memory-ranges", "state", "memory", LAYER, MACHINE];
/// What may be another one when a machine goes on: where things are, and what its start alone needs.
const OF_A_START: [&str; 6] = ["image", "loader", "restore", "persist", "acceleration", "gdb"];

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    version: u32,
    monitor: String,
    /// There is a state to go on from.
    whole: bool,
}

impl Mark {
    fn read(file: &File) -> Option<Mark> {
        let mut bytes = [0; MARK_BYTES];
        file.read_exact_at(&mut bytes, 0).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    fn write(file: &File, monitor: &str, whole: bool) -> io::Result<()> {
        let mark = Mark { version: VERSION, monitor: monitor.to_owned(), whole };
        let mut bytes = serde_json::to_vec(&mark)?;
        bytes.resize(MARK_BYTES - 1, b' ');
        bytes.push(b'\n');
        file.write_all_at(&bytes, 0)?;
        file.sync_all()
    }
}

/// Whether a machine can be saved to the folder, and then whether there is one already, to go on with. Refuses what cannot
/// be, before anything starts.
pub fn check_saving(runner: &dyn Runner, spec: &MachineSpec, folder: &Path) -> Result<bool> {
    if !runner.saves_state() {
        return Err(spec.refuse(format!(
            "{} saves no state: leave `--snapshot` out, or use `--vmm cloud-hypervisor` or `--vmm firecracker`",
            runner.name()
        )));
    }
    if spec.persist.is_some() {
        return Err(spec.refuse(
            "a saved machine's disk is saved with it, and its memory must never meet one that went on without it: leave \
             `--persist` or `--snapshot` out",
        ));
    }
    let is_there = look(folder, runner.name())?;
    if is_there && let Some(difference) = difference(folder, spec)? {
        return Err(Error::State {
            folder: folder.to_owned(),
            reason: format!(
                "the machine there goes on as it was saved, and {difference}; ask for it as it was"
            ),
        });
    }
    Ok(is_there)
}

/// In what the saved machine is another one than is asked for, as words.
fn difference(folder: &Path, spec: &MachineSpec) -> Result<Option<String>> {
    let path = folder.join(MACHINE);
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        // Saved by a version that kept nothing of it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("read", &path)(error)),
    };
    let (Ok(Value::Object(saved)), Ok(Value::Object(wanted))) =
        (serde_json::from_slice(&text), serde_json::to_value(spec))
    else {
        return Ok(Some(format!("`{}` does not say how that was", path.display())));
    };
    let differs = wanted
        .iter()
        .filter(|(key, _)| !OF_A_START.contains(&key.as_str()))
        .find(|(key, value)| saved.get(*key).is_some_and(|known| known != *value));
    Ok(differs.map(|(key, value)| format!("its `{key}` was {}, not {value}", saved[key])))
}

/// Whether there is a state of that monitor. A folder that holds anything else is refused.
pub(crate) fn look(folder: &Path, monitor: &str) -> Result<bool> {
    let wrong = |reason: String| Err(Error::State { folder: folder.to_owned(), reason });
    let mark = match File::open(folder.join(MARK)) {
        Ok(mark) => mark,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return match folder.read_dir() {
                Ok(mut entries) => match entries.next() {
                    None => Ok(false),
                    Some(_) => wrong("it has files, and they are no machine's that was saved there".into()),
                },
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
                Err(error) => Err(Error::io("read", folder)(error)),
            };
        }
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => return wrong("it is no folder".into()),
        Err(error) => return Err(Error::io("open", folder.join(MARK))(error)),
    };
    match Mark::read(&mark) {
        // Killed before it was written.
        None => Ok(false),
        Some(Mark { version, .. }) if version != VERSION => {
            wrong(format!("it was saved in a form of another version ({version}, not {VERSION})"))
        }
        Some(mark) if mark.monitor != monitor => {
            wrong(format!("the machine there was saved by `--vmm {}`, not by {monitor}", mark.monitor))
        }
        Some(mark) => Ok(mark.whole),
    }
}

/// Keeps a state as it is for as long as the answer is held: while it is read nobody may save another one over it.
pub(crate) fn hold(folder: &Path) -> Result<Locked> {
    let path = folder.join(MARK);
    let mark = File::open(&path).map_err(Error::io("open", &path))?;
    lock(mark, folder, FlockOperation::NonBlockingLockShared)
}

fn lock(mark: File, folder: &Path, operation: FlockOperation) -> Result<Locked> {
    match Locked::new(mark, operation) {
        Ok(mark) => Ok(mark),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::InUse { path: folder.to_owned() }),
        Err(error) => Err(Error::io("lock", folder.join(MARK))(error.into())),
    }
}

/// A state on its way into its folder. The one before stays until the new one is whole.
pub(crate) struct Saving {
    folder: PathBuf,
    monitor: &'static str,
    /// Locked.
    mark: Locked,
    unfinished: PathBuf,
}

impl Saving {
    pub fn begin(folder: &Path, monitor: &'static str) -> Result<Self> {
        look(folder, monitor)?;
        std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        let path = folder.join(MARK);
        let mark = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let mark = mark.map_err(Error::io("create", &path))?;
        let mark = lock(mark, folder, FlockOperation::NonBlockingLockExclusive)?;
        if Mark::read(&mark).is_none() {
            Mark::write(&mark, monitor, false).map_err(Error::io("write", &path))?;
        }
        let unfinished = folder.join(UNFINISHED);
        // Left by one that was killed.
        remove(&unfinished)?;
        std::fs::create_dir(&unfinished).map_err(Error::io("create", &unfinished))?;
        Ok(Saving { folder: folder.to_owned(), monitor, mark, unfinished })
    }

    /// Where the monitor is to write it.
    pub fn target(&self) -> &Path {
        &self.unfinished
    }

    /// What the machine is like belongs to its state, and what it wrote to its disk.
    pub fn keep(&self, spec: &MachineSpec, scratch: &Path) -> Result<()> {
        let path = self.unfinished.join(MACHINE);
        let text = serde_json::to_vec_pretty(spec).unwrap_or_default();
        std::fs::write(&path, text).map_err(Error::io("write", &path))?;
        let layer = scratch.join(LAYER);
        if !layer.exists() {
            return Ok(());
        }
        sparse::copy_file(&layer, &self.unfinished.join(LAYER), &Stop::default())
    }

    /// It takes the place of the one before.
    pub fn finish(self) -> Result<()> {
        let path = self.folder.join(MARK);
        let mark = |whole| Mark::write(&self.mark, self.monitor, whole).map_err(Error::io("write", &path));
        // Parts of two states must not be taken for one.
        mark(false)?;
        for name in NAMES {
            remove(&self.folder.join(name))?;
        }
        let entries = self.unfinished.read_dir().map_err(Error::io("read", &self.unfinished))?;
        for entry in entries {
            let entry = entry.map_err(Error::io("read", &self.unfinished))?;
            let to = self.folder.join(entry.file_name());
            std::fs::rename(entry.path(), &to).map_err(Error::io("put a part of a state to", &to))?;
        }
        // A mark on the disk must not say more than there is beside it.
        let flushed = File::open(&self.folder).and_then(|folder| Ok(rustix::fs::syncfs(folder)?));
        flushed.map_err(Error::io("flush", &self.folder))?;
        mark(true)
    }
}

impl Drop for Saving {
    fn drop(&mut self) {
        // What stays is only space, and goes with the next one.
        let _ = remove(&self.unfinished);
    }
}

fn remove(path: &Path) -> Result<()> {
    let removed = match std::fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Disk, Network};

    fn save(folder: &Path, text: &str) -> Result<()> {
        let saving = Saving::begin(folder, "one")?;
        std::fs::write(saving.target().join("state"), text).unwrap();
        saving.finish()
    }

    #[test]
    fn a_folder_of_somebody_else_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("project");
        std::fs::create_dir(&path).unwrap();
        for name in NAMES {
            std::fs::write(path.join(name), name).unwrap();
        }
        for result in [look(&path, "one").map(drop), save(&path, "x"), hold(&path).map(drop)] {
            assert!(result.is_err());
        }
        let error = look(&path, "one").unwrap_err().to_string();
        assert!(error.contains("no machine's that was saved") && error.contains("hint: "), "{error}");
        assert!(NAMES.iter().all(|name| std::fs::read_to_string(path.join(name)).unwrap() == *name));
        assert_eq!(path.read_dir().unwrap().count(), NAMES.len());
        let error = look(&path.join("state"), "one").unwrap_err().to_string();
        assert!(error.contains("it is no folder"), "{error}");
    }

    #[test]
    fn a_new_state_takes_the_place_of_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new").join("state");
        assert!(!look(&path, "one").unwrap());
        save(&path, "first").unwrap();
        assert!(look(&path, "one").unwrap());
        std::fs::write(path.join(LAYER), "of the first").unwrap();
        std::fs::write(path.join("notes"), "of the user").unwrap();
        // One that does not come to its end changes nothing, and neither does one that was killed.
        drop(Saving::begin(&path, "one").unwrap());
        std::fs::create_dir(path.join(UNFINISHED)).unwrap();
        std::fs::write(path.join(UNFINISHED).join("memory"), "").unwrap();
        assert!(look(&path, "one").unwrap());
        assert_eq!(std::fs::read_to_string(path.join("state")).unwrap(), "first");
        save(&path, "second").unwrap();
        assert_eq!(std::fs::read_to_string(path.join("state")).unwrap(), "second");
        assert!(!path.join(LAYER).exists() && !path.join("memory").exists() && path.join("notes").exists());
        let error = look(&path, "two").unwrap_err().to_string();
        assert!(error.contains("--vmm one"), "{error}");
    }

    #[test]
    fn a_state_that_is_not_whole_is_none() {
        let folder = tempfile::tempdir().unwrap();
        drop(Saving::begin(folder.path(), "one").unwrap());
        assert!(!look(folder.path(), "one").unwrap());
        std::fs::write(folder.path().join(MARK), "").unwrap();
        assert!(!look(folder.path(), "one").unwrap());
        save(folder.path(), "x").unwrap();
        assert!(look(folder.path(), "one").unwrap());
    }

    #[test]
    fn nobody_saves_over_what_is_read_or_saved() {
        let folder = tempfile::tempdir().unwrap();
        save(folder.path(), "x").unwrap();
        let readers = [hold(folder.path()).unwrap(), hold(folder.path()).unwrap()];
        assert!(matches!(save(folder.path(), "y"), Err(Error::InUse { .. })));
        drop(readers);
        let saving = Saving::begin(folder.path(), "one").unwrap();
        assert!(matches!(save(folder.path(), "y"), Err(Error::InUse { .. })));
        assert!(matches!(hold(folder.path()), Err(Error::InUse { .. })));
        drop(saving);
        save(folder.path(), "y").unwrap();
    }

    #[test]
    fn a_saved_disk_keeps_its_holes() {
        use std::os::unix::fs::MetadataExt;
        let (folder, scratch) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let layer = File::create(scratch.path().join(LAYER)).unwrap();
        layer.set_len(64 << 20).unwrap();
        layer.write_all_at(b"middle", 32 << 20).unwrap();
        let saving = Saving::begin(folder.path(), "one").unwrap();
        saving.keep(&MachineSpec::new("x", "x".into()), scratch.path()).unwrap();
        saving.finish().unwrap();
        let kept = std::fs::metadata(folder.path().join(LAYER)).unwrap();
        assert_eq!(kept.len(), 64 << 20);
        assert!(kept.blocks() < 1 << 13, "the holes are holes");
    }

    #[test]
    fn only_the_machine_that_was_saved_goes_on() {
        let (folder, scratch) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let runner = crate::by_name("firecracker").unwrap();
        let spec = MachineSpec::new("probe", "/old".into());
        let saving = Saving::begin(folder.path(), runner.name()).unwrap();
        saving.keep(&spec, scratch.path()).unwrap();
        saving.finish().unwrap();
        let goes_on = |change: &dyn Fn(&mut MachineSpec)| {
            let mut wanted =
                MachineSpec { image: "/new".into(), loader: Some("/new".into()), ..spec.clone() };
            change(&mut wanted);
            check_saving(runner.as_ref(), &wanted, folder.path()).map_err(|error| error.to_string())
        };
        assert_eq!(goes_on(&|_| {}), Ok(true));
        let tap = || Network::Tap { interface: "tap0".into(), card: None };
        let cases: [(&dyn Fn(&mut MachineSpec), &str); 5] = [
            (&|spec| spec.memory_mib = 512, "its `memoryMib` was 1024, not 512"),
            (&|spec| spec.cpus = 4, "its `cpus` was 2, not 4"),
            (&|spec| spec.name = "minimal".into(), "its `name` was \"probe\", not \"minimal\""),
            (&|spec| spec.disk = Some(Disk::VirtioModern), "`disk` was null"),
            (&|spec| spec.network = tap(), "`network` was \"none\""),
        ];
        for (change, expected) in cases {
            let error = goes_on(change).unwrap_err();
            assert!(error.contains(expected) && error.contains("hint: "), "{error}");
        }
        // One of before this was kept.
        std::fs::remove_file(folder.path().join(MACHINE)).unwrap();
        assert_eq!(goes_on(&|spec| spec.cpus = 4), Ok(true));
    }

    #[test]
    fn only_monitors_that_save_are_asked_to() {
        let folder = tempfile::tempdir().unwrap();
        let spec = MachineSpec::new("x", "x".into());
        for name in crate::runner::NAMES {
            let runner = crate::by_name(name).unwrap();
            let result = check_saving(runner.as_ref(), &spec, folder.path());
            if ["cloud-hypervisor", "firecracker"].contains(&name) {
                assert!(!result.unwrap());
                let persist = MachineSpec { persist: Some("/layer".into()), ..spec.clone() };
                let error = check_saving(runner.as_ref(), &persist, folder.path()).unwrap_err().to_string();
                assert!(error.contains("leave `--persist` or `--snapshot` out"), "{error}");
            } else {
                let error = result.unwrap_err().to_string();
                assert!(error.contains("saves no state") && error.contains("--vmm firecracker"), "{error}");
            }
        }
    }
}
