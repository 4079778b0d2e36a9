//! A file that is locked for as long as this is held. Who holds it is no matter here.

use std::fs::File;
use std::ops::Deref;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

#[derive(Debug)]
pub(crate) struct Locked(File);

impl Locked {
    /// Fails with [`Errno::WOULDBLOCK`] when somebody else has it.
    pub fn new(file: File, operation: FlockOperation) -> Result<Self, Errno> {
        flock(&file, operation).map(|()| Locked(file))
    }
}

impl Deref for Locked {
    type Target = File;

    fn deref(&self) -> &File {
        &self.0
    }
}

impl Drop for Locked {
    /// Closing alone is not enough: a program that another thread is just starting has the descriptor too, until it runs.
    fn drop(&mut self) {
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_descriptor_does_not_keep_it() {
        let path = tempfile::NamedTempFile::new().unwrap();
        let lock = || Locked::new(File::open(path.path()).unwrap(), FlockOperation::NonBlockingLockExclusive);
        let held = lock().unwrap();
        assert_eq!(lock().unwrap_err(), Errno::WOULDBLOCK);
        let second = held.try_clone().unwrap();
        drop(held);
        lock().unwrap();
        drop(second);
    }
}
