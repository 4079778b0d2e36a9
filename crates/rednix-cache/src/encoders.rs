//! Compressors of what is pushed and served. Their tables are some megabytes: a few are kept to be used again, for
//! making them anew costs small paths more than compressing does. Chooses no level.

use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use zstd::stream::raw;
use zstd::stream::zio::Writer;
use zstd::zstd_safe::{CCtx, CParameter};

use crate::limits::ENCODERS_KEPT;

/// Of this process.
pub static ENCODERS: Encoders = Encoders(Mutex::new(Vec::new()));

pub struct Encoders(Mutex<Vec<CCtx<'static>>>);

/// One compressor; kept for others when dropped.
pub struct Encoder {
    context: Option<CCtx<'static>>,
    from: &'static Encoders,
}

impl Encoders {
    pub fn take(&'static self, level: i32) -> io::Result<Encoder> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let context = match kept {
            Some(context) => context,
            None => CCtx::try_create().ok_or(io::ErrorKind::OutOfMemory)?,
        };
        let mut encoder = Encoder { context: Some(context), from: self };
        raw::Encoder::with_context(encoder.context()).set_parameter(CParameter::CompressionLevel(level))?;
        Ok(encoder)
    }
}

impl Encoder {
    fn context(&mut self) -> &mut CCtx<'static> {
        self.context.as_mut().expect("it is only taken when dropped")
    }

    /// Compresses exactly `size` bytes into `out`.
    pub fn over<W: Write>(&mut self, out: W, size: u64) -> io::Result<Writer<W, raw::Encoder<'_>>> {
        let mut encoder = raw::Encoder::with_context(self.context());
        encoder.set_pledged_src_size(Some(size))?;
        Ok(Writer::new(out, encoder))
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        let mut kept = self.from.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < ENCODERS_KEPT {
            kept.extend(self.context.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_broken_off_leaves_nothing_in_what_comes_after() {
        let pack = |contents: &[u8], promised: usize| -> io::Result<Vec<u8>> {
            let mut encoder = ENCODERS.take(3)?;
            let mut writer = encoder.over(Vec::new(), promised as u64)?;
            writer.write_all(contents)?;
            writer.finish()?;
            Ok(writer.into_inner().0)
        };
        let contents: Vec<u8> = (0..300_000u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
        let first = pack(&contents, contents.len()).unwrap();
        assert!(pack(&contents, contents.len() + 1).is_err());
        assert!(pack(&contents, contents.len() - 1).is_err());
        drop(ENCODERS.take(3).unwrap().over(Vec::new(), 10).unwrap().write(b"some"));
        assert_eq!(pack(&contents, contents.len()).unwrap(), first);
        assert_eq!(zstd::decode_all(first.as_slice()).unwrap(), contents);
    }
}
