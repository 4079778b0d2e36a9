//! Where a machine's writes go: a QCOW2 file that holds only what differs from the image, or, for monitors that read
//! nothing but raw disks, a copy that shares the image's blocks where the file system can. It never writes to an image.
//!
//! A layer gets its name only once it is whole, and its lock before its name: whoever finds one finds a good one, and
//! nobody but its machine writes to it. A QCOW2 file says itself which image it belongs to; beside a copy that is kept
//! lies a file that says so.

use std::fs::File;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::locked::Locked;
use crate::qcow2::{self, Backing, CLUSTER};
use crate::runner::{Stop, quote};
use crate::sparse;

/// What is made before a start, unless it is there from an earlier one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    pub kind: LayerKind,
    pub image: PathBuf,
    pub file: PathBuf,
    /// From one start to the next; else it goes with the machine.
    pub kept: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerKind {
    /// 256 KiB, whatever the image's size.
    Qcow2,
    /// Shares blocks on Btrfs, XFS and bcachefs; elsewhere it costs as many bytes as the image has that are no holes.
    Copy,
}

impl Layer {
    /// Makes it, if it is not there, and locks it: a second machine over the same layer is refused. Answers the lock.
    pub(crate) fn prepare(&self, stop: &Stop) -> Result<Locked> {
        loop {
            // An empty file is as good as none, and stays locked until the new one is in its place.
            let _empty = match self.open(&self.file, false)? {
                Some(file) if length(&file) > 0 => return self.check(&file).map(|()| file),
                other => other,
            };
            if let Some(file) = self.make(stop)? {
                return Ok(file);
            }
        }
    }

    /// Opens and locks a file; none where it is not there.
    fn open(&self, path: &Path, make: bool) -> Result<Option<Locked>> {
        loop {
            let opened = File::options().read(true).write(true).create(make).truncate(false).open(path);
            let file = match opened {
                Ok(file) => file,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound && !make => return Ok(None),
                // The name of the part says nobody anything.
                Err(error) if make => return Err(Error::io("make the layer", &self.file)(error)),
                Err(error) => return Err(Error::io("open", path)(error)),
            };
            let found = file.metadata().map_err(Error::io("look at", path))?;
            if !found.is_file() {
                return Err(Error::io("use as a layer", path)(std::io::Error::other("it is no file")));
            }
            let file = match Locked::new(file, FlockOperation::NonBlockingLockExclusive) {
                Ok(file) => file,
                Err(rustix::io::Errno::WOULDBLOCK) => return Err(Error::InUse { path: self.file.clone() }),
                Err(error) => return Err(Error::io("lock", path)(error.into())),
            };
            // Another start may have put a file of its own there, or taken this one away, before we had the lock.
            let there = std::fs::metadata(path);
            if there.is_ok_and(|there| (there.dev(), there.ino()) == (found.dev(), found.ino())) {
                return Ok(Some(file));
            }
        }
    }

    /// None where another start was faster.
    fn make(&self, stop: &Stop) -> Result<Option<Locked>> {
        // One name for all starts, so that what a killed one left is used again and not left for good.
        let place = self.place();
        let name = place.file_name().unwrap_or_default().to_string_lossy();
        let part = place.with_file_name(format!(".{name}.rednix-part"));
        let Some(file) = self.open(&part, true)? else { return Ok(None) };
        if std::fs::metadata(&self.file).is_ok_and(|found| found.len() > 0) {
            let _ = std::fs::remove_file(&part);
            return Ok(None);
        }
        let made = self
            .fill(&file, &part, stop)
            .and_then(|()| std::fs::rename(&part, &place).map_err(Error::io("put a layer to", &place)));
        made.inspect_err(|_| drop(std::fs::remove_file(&part)))?;
        Ok(Some(file))
    }

    /// Where a link leads, which stays a link.
    fn place(&self) -> PathBuf {
        let link = || {
            let target = std::fs::read_link(&self.file).ok()?;
            Some(self.file.parent()?.join(target))
        };
        std::fs::canonicalize(&self.file).ok().or_else(link).unwrap_or_else(|| self.file.clone())
    }

    fn fill(&self, file: &File, path: &Path, stop: &Stop) -> Result<()> {
        let write = || Error::io("write", path);
        file.set_len(0).map_err(write())?;
        let image = File::open(&self.image).map_err(Error::io("open", &self.image))?;
        match self.kind {
            LayerKind::Qcow2 => {
                let size = image.metadata().map_err(Error::io("look at", &self.image))?.len();
                let blocks =
                    qcow2::empty(&self.image, size).map_err(Error::io("put a layer over", &self.image))?;
                file.set_len(4 * CLUSTER).map_err(write())?;
                for (offset, bytes) in blocks {
                    file.write_all_at(&bytes, offset).map_err(write())?;
                }
            }
            LayerKind::Copy => {
                sparse::copy(&image, file, stop)
                    .map_err(sparse::failed("write a copy of the image to", path))?;
            }
        }
        if self.kept {
            // Its name must not outlast its contents when the host loses power.
            file.sync_all().map_err(write())?;
            self.write_label()?;
        }
        Ok(())
    }

    /// A layer from earlier must be one over this very image: over another one it would be garbage.
    fn check(&self, file: &File) -> Result<()> {
        let wrong =
            |reason: String| Err(Error::Layer { path: self.file.clone(), image: self.image.clone(), reason });
        let image = std::fs::metadata(&self.image).map_err(Error::io("look at", &self.image))?;
        match self.kind {
            LayerKind::Qcow2 => match qcow2::backing(file) {
                None => wrong("it is no QCOW2 file".into()),
                Some(Backing { image: name, .. }) if name != self.image.as_os_str().as_bytes() => {
                    wrong(format!("it belongs to the image `{}`", String::from_utf8_lossy(&name)))
                }
                Some(Backing { size, .. }) if size != image.len() => {
                    wrong(format!("it belongs to an image of {size} bytes, and this one has {}", image.len()))
                }
                Some(_) => Ok(()),
            },
            LayerKind::Copy => {
                let label = self.label();
                let said = std::fs::read(&label).ok().and_then(|text| serde_json::from_slice(&text).ok());
                match said {
                    None => {
                        wrong(format!("`{}`, which says what it is a copy of, is not there", label.display()))
                    }
                    Some(said) if Some(&said) != self.identity().as_ref() => wrong(format!(
                        "it is a copy of the image `{}`{}",
                        said["image"].as_str().unwrap_or_default(),
                        if said["image"] == json!(self.image) { ", which has changed since" } else { "" }
                    )),
                    Some(_) if length(file) != image.len() => wrong("its size is not the image's".into()),
                    Some(_) => Ok(()),
                }
            }
        }
    }

    /// Beside a copy that is kept.
    fn label(&self) -> PathBuf {
        let mut name = self.file.clone().into_os_string();
        name.push(".image");
        name.into()
    }

    /// Which image it is: in a store the name says it all, elsewhere the time does.
    fn identity(&self) -> Option<Value> {
        let found = std::fs::metadata(&self.image).ok()?;
        let modified = format!("{}.{:09}", found.mtime(), found.mtime_nsec());
        Some(json!({ "image": self.image, "bytes": found.len(), "modified": modified }))
    }

    fn write_label(&self) -> Result<()> {
        let (LayerKind::Copy, Some(identity)) = (self.kind, self.identity()) else { return Ok(()) };
        let path = self.label();
        let write = |mut file: File| {
            file.write_all(format!("{identity}\n").as_bytes()).and_then(|()| file.sync_all())
        };
        File::create(&path).and_then(write).map_err(Error::io("write", &path))
    }

    pub fn shell_text(&self) -> String {
        let (image, file) = (quote(self.image.as_os_str()), quote(self.file.as_os_str()));
        if self.kind == LayerKind::Qcow2 {
            return format!("[ -e {file} ] || qemu-img create -q -f qcow2 -F raw -b {image} {file}");
        }
        let label = self.identity().filter(|_| self.kept).map_or(String::new(), |identity| {
            let (identity, label) = (identity.to_string(), self.label());
            format!(" && echo {} > {}", quote(identity.as_ref()), quote(label.as_os_str()))
        });
        // What is copied may be read only.
        format!(
            "[ -e {file} ] || {{ cp --reflink=auto --sparse=always {image} {file} && chmod u+w {file}{label}; }}"
        )
    }
}

fn length(file: &File) -> u64 {
    file.metadata().map_or(0, |found| found.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(folder: &Path, kind: LayerKind) -> Layer {
        Layer { kind, image: folder.join("disk.img"), file: folder.join("layer"), kept: true }
    }

    #[test]
    fn a_layer_has_one_machine_at_a_time() {
        for kind in [LayerKind::Qcow2, LayerKind::Copy] {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("disk.img"), vec![7; 1 << 20]).unwrap();
            let layer = layer(folder.path(), kind);
            let lock = layer.prepare(&Stop::default()).unwrap();
            let error = layer.prepare(&Stop::default()).unwrap_err().to_string();
            assert!(error.contains("another machine"), "{error}");
            drop(lock);
            layer.prepare(&Stop::default()).unwrap();
        }
    }

    #[test]
    fn a_layer_is_kept_and_only_for_its_image() {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("disk.img");
        File::create(&image).unwrap().set_len(1 << 30).unwrap();
        let qcow2 = layer(folder.path(), LayerKind::Qcow2);
        let lock = qcow2.prepare(&Stop::default()).unwrap();
        lock.write_all_at(b"kept", 3 * CLUSTER).unwrap();
        drop(lock);
        let mut kept = [0; 4];
        qcow2.prepare(&Stop::default()).unwrap().read_exact_at(&mut kept, 3 * CLUSTER).unwrap();
        assert_eq!(&kept, b"kept");
        let other = Layer { image: folder.path().join("other.img"), ..qcow2.clone() };
        std::fs::write(&other.image, "x").unwrap();
        let error = other.prepare(&Stop::default()).unwrap_err().to_string();
        assert!(error.contains("belongs to the image") && error.contains("or remove `"), "{error}");
        // The same name, and another size.
        File::create(&image).unwrap().set_len(1 << 29).unwrap();
        let error = qcow2.prepare(&Stop::default()).unwrap_err().to_string();
        assert!(error.contains("1073741824 bytes"), "{error}");
    }

    /// What stands where a copy is to be, beside it, and why that is refused.
    #[test]
    fn what_is_no_whole_copy_of_the_image_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let copy = layer(folder.path(), LayerKind::Copy);
        std::fs::write(&copy.image, vec![7; 1 << 20]).unwrap();
        let refused = |layer: &Layer, expected: &str| {
            let error = layer.prepare(&Stop::default()).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("hint: name another file"), "{error}");
        };
        // As large as the image, and empty.
        File::create(&copy.file).unwrap().set_len(1 << 20).unwrap();
        refused(&copy, "layer.image`, which says what it is a copy of, is not there");
        std::fs::remove_file(&copy.file).unwrap();
        copy.prepare(&Stop::default()).unwrap();
        std::fs::write(&copy.file, vec![8; 1 << 20]).unwrap();
        copy.prepare(&Stop::default()).expect("what the machine wrote is kept");
        assert!(std::fs::read(&copy.file).unwrap() == vec![8; 1 << 20]);
        // The same size, another image.
        let other = Layer { image: folder.path().join("other.img"), ..copy.clone() };
        std::fs::write(&other.image, vec![9; 1 << 20]).unwrap();
        refused(&other, "disk.img`");
        // The same name, and another content.
        std::fs::write(&copy.image, vec![6; 1 << 20]).unwrap();
        let later = std::time::SystemTime::now() + std::time::Duration::from_secs(5);
        File::options().write(true).open(&copy.image).unwrap().set_modified(later).unwrap();
        refused(&copy, "which has changed since");
    }

    #[test]
    fn half_of_a_layer_has_no_name() {
        for kind in [LayerKind::Qcow2, LayerKind::Copy] {
            let folder = tempfile::tempdir().unwrap();
            let layer = layer(folder.path(), kind);
            std::fs::write(&layer.image, vec![7; 1 << 20]).unwrap();
            // What a killed start left, and an empty file.
            let part = folder.path().join(".layer.rednix-part");
            std::fs::write(&part, vec![1; 2 << 20]).unwrap();
            std::fs::write(&layer.file, "").unwrap();
            let held = File::open(&part).unwrap();
            let held = Locked::new(held, FlockOperation::NonBlockingLockExclusive).unwrap();
            let error = layer.prepare(&Stop::default()).unwrap_err().to_string();
            assert!(error.contains("another machine"), "{error}");
            drop(held);
            let lock = layer.prepare(&Stop::default()).unwrap();
            assert!(!part.exists());
            assert_eq!(length(&lock), std::fs::metadata(&layer.file).unwrap().len());
            assert_eq!(length(&lock), if kind == LayerKind::Copy { 1 << 20 } else { 4 * CLUSTER });
        }
    }

    #[test]
    fn a_layer_that_cannot_be_made_is_called_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let mut layer = layer(folder.path(), LayerKind::Qcow2);
        std::fs::write(&layer.image, "x").unwrap();
        layer.file = folder.path().join("no/such/layer");
        let error = layer.prepare(&Stop::default()).unwrap_err().to_string();
        assert!(error.starts_with(&format!("cannot make the layer `{}`: ", layer.file.display())), "{error}");
    }

    #[test]
    fn a_link_leads_to_the_layer() {
        for there in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let layer = layer(folder.path(), LayerKind::Copy);
            std::fs::write(&layer.image, vec![7; 1 << 20]).unwrap();
            let target = folder.path().join("elsewhere").join("l");
            std::fs::create_dir(target.parent().unwrap()).unwrap();
            if there {
                std::fs::write(&target, "").unwrap();
            }
            std::os::unix::fs::symlink("elsewhere/l", &layer.file).unwrap();
            for _ in 0..2 {
                layer.prepare(&Stop::default()).unwrap();
                assert!(layer.file.is_symlink());
                assert_eq!(std::fs::metadata(&target).unwrap().len(), 1 << 20);
            }
        }
    }

    #[test]
    fn a_copy_that_is_stopped_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let layer = layer(folder.path(), LayerKind::Copy);
        std::fs::write(&layer.image, vec![7; 1 << 20]).unwrap();
        let stop = Stop::default();
        stop.request();
        match layer.prepare(&stop) {
            Err(Error::Interrupted) => {
                assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "only the image is left");
            }
            Ok(_) => println!("skipped: this file system shares blocks, so nothing is copied"),
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn many_starts_at_once_are_one() {
        for kind in [LayerKind::Qcow2, LayerKind::Copy] {
            let folder = tempfile::tempdir().unwrap();
            let layer = layer(folder.path(), kind);
            std::fs::write(&layer.image, vec![7; 1 << 20]).unwrap();
            let locks: Vec<Result<Locked>> = std::thread::scope(|scope| {
                let starts: Vec<_> =
                    (0..8).map(|_| scope.spawn(|| layer.prepare(&Stop::default()))).collect();
                starts.into_iter().map(|start| start.join().unwrap()).collect()
            });
            assert_eq!(locks.iter().filter(|lock| lock.is_ok()).count(), 1, "{locks:?}");
            let others = locks.iter().flat_map(|lock| lock.as_ref().err());
            assert!(others.into_iter().all(|error| matches!(error, Error::InUse { .. })), "{locks:?}");
        }
    }

    #[test]
    fn copies_keep_contents_and_holes() {
        let folder = tempfile::tempdir().unwrap();
        let layer = layer(folder.path(), LayerKind::Copy);
        let image = File::create(&layer.image).unwrap();
        image.set_len(64 << 20).unwrap();
        image.write_all_at(b"middle", 32 << 20).unwrap();
        layer.prepare(&Stop::default()).unwrap();
        let copied = File::open(&layer.file).unwrap();
        let mut middle = [0; 6];
        copied.read_exact_at(&mut middle, 32 << 20).unwrap();
        assert_eq!((&middle, copied.metadata().unwrap().len()), (b"middle", 64 << 20));
        assert!(copied.metadata().unwrap().blocks() < 1 << 13, "the holes are holes");
    }

    #[test]
    fn qemu_reads_what_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let layer = layer(folder.path(), LayerKind::Qcow2);
        File::create(&layer.image).unwrap().set_len((3 << 30) + 512).unwrap();
        layer.prepare(&Stop::default()).unwrap();
        let run = |arguments: &[&str]| {
            let mut command = std::process::Command::new("qemu-img");
            command.args(arguments).arg(&layer.file).output()
        };
        let Ok(output) = run(&["check"]) else {
            println!("skipped: no qemu-img");
            return;
        };
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let info = String::from_utf8_lossy(&run(&["info", "--output=json"]).unwrap().stdout).into_owned();
        assert!(
            info.contains("3221225984") && info.contains("\"backing-filename-format\": \"raw\""),
            "{info}"
        );
    }
}
