//! Frames into a file that packet viewers open: the classic format with microseconds. It reads none.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::Duration;

use crate::limits::CAPTURE_MAX;

/// Magic, version 2.4, no time zone, no accuracy, the longest frame, Ethernet.
const LINK_ETHERNET: u32 = 1;

pub struct Capture {
    file: BufWriter<File>,
    written: u64,
}

impl Capture {
    pub fn create(path: &Path) -> io::Result<Capture> {
        let mut file = BufWriter::new(File::create(path)?);
        file.write_all(&0xa1b2_c3d4_u32.to_le_bytes())?;
        file.write_all(&[2, 0, 4, 0])?;
        file.write_all(&[0; 8])?;
        file.write_all(&65536_u32.to_le_bytes())?;
        file.write_all(&LINK_ETHERNET.to_le_bytes())?;
        Ok(Capture { file, written: 24 })
    }

    /// One frame, `at` after the test's start. Beyond the limit frames are not kept.
    pub fn frame(&mut self, at: Duration, bytes: &[u8]) -> io::Result<()> {
        if self.written > CAPTURE_MAX {
            return Ok(());
        }
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes();
        self.file.write_all(&u32::try_from(at.as_secs()).unwrap_or(u32::MAX).to_le_bytes())?;
        self.file.write_all(&at.subsec_micros().to_le_bytes())?;
        self.file.write_all(&length)?;
        self.file.write_all(&length)?;
        self.file.write_all(bytes)?;
        self.written += 16 + bytes.len() as u64;
        Ok(())
    }

    pub fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_viewer_can_open_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("network.pcap");
        let mut capture = Capture::create(&path).unwrap();
        capture.frame(Duration::new(1, 5_000), &[7; 60]).unwrap();
        capture.flush().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes.len(), 24 + 16 + 60);
        assert_eq!(bytes[..4], [0xd4, 0xc3, 0xb2, 0xa1]);
        assert_eq!(bytes[24..32], [1, 0, 0, 0, 5, 0, 0, 0], "one second and five microseconds");
        assert_eq!(bytes[32..36], [60, 0, 0, 0]);
    }
}
