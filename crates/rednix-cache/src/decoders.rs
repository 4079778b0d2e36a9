//! Decompressors that say how much memory they need, and get it from a budget before they take it: what a file's own
//! header asks for, or all that is unpacked where that is less. Where a format's library bounds nothing, this does.

use std::io::{self, BufReader, Read};

use liblzma::stream::{Action, CONCATENATED, Status, Stream};
use zstd::stream::raw::{Decoder, Operation};
use zstd::zstd_safe::DParameter;

use crate::compression::Compression;
use crate::limits::{
    BROTLI_WINDOW_LOG_MAX, BUFFER_BYTES, DECODER_OVERHEAD_BYTES, XZ_MEMORY_BYTES_MAX, ZSTD_WINDOW_LOG_MAX,
};
use crate::memory::{Budget, Share};

/// What bzip2 takes for its largest blocks, and brotli beside its window.
const TABLES_BYTES: u64 = 4 << 20;

/// More memory than a decompressor may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unpacking it takes {needed} bytes of memory, and {limit} are allowed")]
pub struct TooMuchMemory {
    pub needed: u64,
    pub limit: u64,
}

impl TooMuchMemory {
    /// What an error of a decompressor's reader is about, where it is this.
    pub fn of(error: &io::Error) -> Option<TooMuchMemory> {
        error.get_ref().and_then(|inner| inner.downcast_ref()).copied()
    }
}

fn refuse(needed: u64, limit: u64) -> io::Error {
    io::Error::other(TooMuchMemory { needed, limit })
}

fn take(budget: &'static Budget, bytes: u64) -> io::Result<Share<'static>> {
    budget.take(bytes).ok_or_else(|| refuse(bytes, budget.bytes()))
}

/// A stream of what was compressed; several members in a row are one stream. No more than `size` bytes will be read
/// from it. The first read waits until the budget has room.
pub fn open<'r>(
    compression: Compression,
    from: impl Read + Send + 'r,
    size: u64,
    budget: &'static Budget,
) -> io::Result<Box<dyn Read + Send + 'r>> {
    Ok(match compression {
        Compression::None => Box::new(from),
        Compression::Xz => {
            // With no memory at first: it stops where a header says what is needed.
            let stream = Stream::new_stream_decoder(1, CONCATENATED).map_err(io::Error::other)?;
            Box::new(Xz { stream, input: Input::new(from), size, budget, share: None, is_done: false })
        }
        Compression::Zstd => {
            Box::new(Zstd { decoder: None, input: Input::new(from), size, budget, is_between: true })
        }
        Compression::Brotli => Box::new(Brotli::Waiting(Some(Input::new(from)), size, budget)),
        Compression::Bzip2 => {
            let inner = bzip2::read::MultiBzDecoder::new(BufReader::with_capacity(BUFFER_BYTES, from));
            Box::new(Charged { inner, bytes: TABLES_BYTES, budget, share: None })
        }
        // Its window is 32 KiB.
        Compression::Gzip => {
            let from = BufReader::with_capacity(BUFFER_BYTES, from);
            Box::new(flate2::bufread::MultiGzDecoder::new(from))
        }
    })
}

/// Bytes read and not used yet, of which some can be looked at.
struct Input<R> {
    from: R,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl<R: Read> Input<R> {
    fn new(from: R) -> Input<R> {
        Input { from, buffer: vec![0; BUFFER_BYTES].into_boxed_slice(), start: 0, end: 0 }
    }

    /// What is there, which are at least `count` bytes (few) unless the end comes first.
    fn at_least(&mut self, count: usize) -> io::Result<&[u8]> {
        if self.end - self.start < count && self.buffer.len() - self.start < count {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        while self.end - self.start < count {
            match self.from.read(&mut self.buffer[self.end..]) {
                Ok(0) => break,
                Ok(more) => self.end += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(&self.buffer[self.start..self.end])
    }

    fn consume(&mut self, count: usize) {
        self.start += count;
        debug_assert!(self.start <= self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }
}

impl<R: Read> Read for Input<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let there = self.at_least(1)?;
        let count = there.len().min(buffer.len());
        buffer[..count].copy_from_slice(&there[..count]);
        self.consume(count);
        Ok(count)
    }
}

struct Xz<R> {
    stream: Stream,
    input: Input<R>,
    size: u64,
    budget: &'static Budget,
    share: Option<Share<'static>>,
    is_done: bool,
}

impl<R> Xz<R> {
    /// Called where a block's header says that it needs more than is allowed so far.
    fn allow(&mut self) -> io::Result<()> {
        // All blocks of a file are made alike. One that grows would hold memory while it waits for more.
        if let Some(share) = &self.share {
            return Err(refuse(share.bytes() + 1, share.bytes()));
        }
        // The library does not say how much; it says of a limit whether it is enough.
        let mut steps = (1..=XZ_MEMORY_BYTES_MAX >> 20).map(|mebibytes| mebibytes << 20);
        let needed = steps.find(|&limit| self.stream.set_memlimit(limit).is_ok());
        let needed = needed.ok_or_else(|| refuse(XZ_MEMORY_BYTES_MAX + 1, XZ_MEMORY_BYTES_MAX))?;
        // Of a dictionary only that is touched which was unpacked, whatever its size.
        let all = self.size.saturating_add(DECODER_OVERHEAD_BYTES);
        if all <= needed {
            self.stream.set_memlimit(XZ_MEMORY_BYTES_MAX).map_err(io::Error::other)?;
        }
        self.share = Some(take(self.budget, needed.min(all))?);
        Ok(())
    }
}

impl<R: Read> Read for Xz<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while !self.is_done && !buffer.is_empty() {
            let input = self.input.at_least(1)?;
            let action = if input.is_empty() { Action::Finish } else { Action::Run };
            let before = (self.stream.total_in(), self.stream.total_out());
            let status = self.stream.process(input, buffer, action);
            self.input.consume((self.stream.total_in() - before.0) as usize);
            let count = (self.stream.total_out() - before.1) as usize;
            match status {
                Err(liblzma::stream::Error::MemLimit) => self.allow()?,
                Err(error) => return Err(error.into()),
                Ok(Status::StreamEnd) => self.is_done = true,
                Ok(_) if count == 0 && matches!(action, Action::Finish) => {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                Ok(_) => {}
            }
            if count > 0 {
                return Ok(count);
            }
        }
        Ok(0)
    }
}

struct Zstd<R> {
    /// With the memory it may have.
    decoder: Option<(Decoder<'static>, Share<'static>)>,
    input: Input<R>,
    size: u64,
    budget: &'static Budget,
    /// Before a frame, or behind the last.
    is_between: bool,
}

/// The longest header of a frame.
const FRAME_HEADER_BYTES: usize = 18;

/// The window that the header of a zstd frame asks for, in bytes (RFC 8878, section 3.1.1.1); 0 of a frame to be skipped.
/// `None`: it is no such header, or not whole.
pub fn zstd_window(header: &[u8]) -> Option<u64> {
    let magic = u32::from_le_bytes(header.get(..4)?.try_into().ok()?);
    if magic & 0xffff_fff0 == 0x184d_2a50 {
        return Some(0);
    }
    if magic != 0xfd2f_b528 {
        return None;
    }
    let descriptor = *header.get(4)?;
    let is_single_segment = descriptor & 0x20 != 0;
    if !is_single_segment {
        let window = *header.get(5)?;
        let base = 1u64 << (10 + (window >> 3));
        return Some(base + base / 8 * u64::from(window & 7));
    }
    // The window is as large as the contents.
    let at = 5 + [0, 1, 2, 4][usize::from(descriptor & 3)];
    let length = [1, 2, 4, 8][usize::from(descriptor >> 6)];
    let mut size = [0; 8];
    size[..length].copy_from_slice(header.get(at..at + length)?);
    let size = u64::from_le_bytes(size);
    Some(if length == 2 { size + 256 } else { size })
}

impl<R: Read> Zstd<R> {
    /// Takes memory for the next frame. False where there is none.
    fn begin(&mut self) -> io::Result<bool> {
        let header = self.input.at_least(FRAME_HEADER_BYTES)?;
        if header.is_empty() {
            return Ok(false);
        }
        // Older formats are none of a cache's, and would take memory without a bound.
        let window = zstd_window(header).ok_or_else(|| io::Error::other("it is not compressed with zstd"))?;
        if window > 1 << ZSTD_WINDOW_LOG_MAX {
            return Err(refuse(window, 1 << ZSTD_WINDOW_LOG_MAX));
        }
        let needed = window.min(self.size).saturating_add(DECODER_OVERHEAD_BYTES);
        if self.decoder.as_ref().is_none_or(|(_, share)| share.bytes() < needed) {
            // Given back first: who waits holds nothing.
            self.decoder = None;
            let share = take(self.budget, needed)?;
            let mut decoder = Decoder::new()?;
            decoder.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX))?;
            self.decoder = Some((decoder, share));
        }
        self.is_between = false;
        Ok(true)
    }
}

impl<R: Read> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if self.is_between && !self.begin()? {
                return Ok(0);
            }
            let Some((decoder, _)) = &mut self.decoder else { return Ok(0) };
            let input = self.input.at_least(1)?;
            let is_end = input.is_empty();
            let status = decoder.run_on_buffers(input, buffer)?;
            self.input.consume(status.bytes_read);
            self.is_between = status.remaining == 0;
            if status.bytes_written > 0 {
                return Ok(status.bytes_written);
            }
            if is_end && !self.is_between {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

enum Brotli<R: Read> {
    /// Nothing was read of it.
    Waiting(Option<Input<R>>, u64, &'static Budget),
    Open {
        inner: Box<brotli_decompressor::Decompressor<Input<R>>>,
        _share: Share<'static>,
    },
}

/// The logarithm of the window that a brotli stream begins with (RFC 7932, section 9.1); 62 at most, of the windows that
/// are not in the format and that the library knows.
pub fn brotli_window_log(header: [u8; 2]) -> u32 {
    let bits = u32::from(u16::from_le_bytes(header));
    match (bits & 1, bits >> 1 & 7, bits >> 4 & 7) {
        (0, ..) => 16,
        (_, 0, 0) => 17,
        (_, 0, 1) => bits >> 8 & 63,
        (_, 0, more) => 8 + more,
        (_, more, _) => 17 + more,
    }
}

impl<R: Read> Read for Brotli<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Brotli::Waiting(input, size, budget) = self {
            let (size, budget) = (*size, *budget);
            let Some(input) = input.as_mut() else { return Err(io::Error::other("read on after an error")) };
            let header = match *input.at_least(2)? {
                [] => return Err(io::ErrorKind::UnexpectedEof.into()),
                [only] => [only, 0],
                [first, second, ..] => [first, second],
            };
            let log = brotli_window_log(header);
            if log > BROTLI_WINDOW_LOG_MAX {
                return Err(refuse(1 << log, 1 << BROTLI_WINDOW_LOG_MAX));
            }
            let share = take(budget, (1u64 << log).min(size) + TABLES_BYTES)?;
            let Brotli::Waiting(input, ..) = self else { return Ok(0) };
            let Some(input) = input.take() else { return Ok(0) };
            let inner = brotli_decompressor::Decompressor::new(input, BUFFER_BYTES);
            *self = Brotli::Open { inner: Box::new(inner), _share: share };
        }
        match self {
            Brotli::Open { inner, .. } => inner.read(buffer),
            Brotli::Waiting(..) => Ok(0),
        }
    }
}

/// One that always takes the same.
struct Charged<R> {
    inner: R,
    bytes: u64,
    budget: &'static Budget,
    share: Option<Share<'static>>,
}

impl<R: Read> Read for Charged<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.share.is_none() {
            self.share = Some(take(self.budget, self.bytes)?);
        }
        self.inner.read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use liblzma::stream::{Check, Filters, LzmaOptions};
    use proptest::prelude::*;

    use super::*;

    static BUDGET: Budget = Budget::new(10 << 20);

    fn zstd(contents: &[u8], window_log: u32, is_pledged: bool) -> Vec<u8> {
        let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(window_log).unwrap();
        if is_pledged {
            encoder.set_pledged_src_size(Some(contents.len() as u64)).unwrap();
        }
        encoder.write_all(contents).unwrap();
        encoder.finish().unwrap()
    }

    fn xz(contents: &[u8], dictionary: u32) -> Vec<u8> {
        let mut options = LzmaOptions::new_preset(0).unwrap();
        let mut filters = Filters::new();
        filters.lzma2(options.dict_size(dictionary));
        let stream = Stream::new_stream_encoder(&filters, Check::Crc32).unwrap();
        let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
        encoder.write_all(contents).unwrap();
        encoder.finish().unwrap()
    }

    fn gzip(contents: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(contents).unwrap();
        encoder.finish().unwrap()
    }

    fn bzip2(contents: &[u8]) -> Vec<u8> {
        let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        encoder.write_all(contents).unwrap();
        encoder.finish().unwrap()
    }

    /// Stored blocks in a window of 2^`log`: the header, the length of each block, its bytes; an empty last one.
    fn brotli(contents: &[u8], log: u32) -> Vec<u8> {
        let mut bits: Vec<bool> = Vec::new();
        let put = |bits: &mut Vec<bool>, value: u64, count: u32| {
            bits.extend((0..count).map(|at| value >> at & 1 == 1));
        };
        match log {
            16 => put(&mut bits, 0, 1),
            18..=24 => put(&mut bits, 1 | u64::from(log - 17) << 1, 4),
            // Beyond the format.
            _ => put(&mut bits, 0b0001_0001 | u64::from(log) << 8, 14),
        }
        for block in contents.chunks(1 << 16) {
            put(&mut bits, 0, 1);
            put(&mut bits, 0, 2);
            put(&mut bits, block.len() as u64 - 1, 16);
            put(&mut bits, 1, 1);
            bits.resize(bits.len().next_multiple_of(8), false);
            block.iter().for_each(|&byte| put(&mut bits, u64::from(byte), 8));
        }
        put(&mut bits, 3, 2);
        let byte = |bits: &[bool]| bits.iter().rev().fold(0, |byte, &bit| byte << 1 | u8::from(bit));
        bits.chunks(8).map(byte).collect()
    }

    fn packed(compression: Compression, contents: &[u8]) -> Vec<u8> {
        match compression {
            Compression::None => contents.to_vec(),
            Compression::Xz => xz(contents, 1 << 20),
            Compression::Zstd => zstd(contents, 20, false),
            Compression::Gzip => gzip(contents),
            Compression::Bzip2 => bzip2(contents),
            Compression::Brotli => brotli(contents, 18),
        }
    }

    fn unpacked(compression: Compression, bytes: &[u8], size: u64) -> io::Result<Vec<u8>> {
        let mut plain = Vec::new();
        open(compression, bytes, size, &BUDGET)?.read_to_end(&mut plain)?;
        Ok(plain)
    }

    fn needed(compression: Compression, bytes: &[u8], size: u64) -> Option<u64> {
        let error = unpacked(compression, bytes, size).err()?;
        Some(TooMuchMemory::of(&error).unwrap_or_else(|| panic!("{error}")).needed)
    }

    #[test]
    fn what_does_not_fit_is_refused_and_what_is_small_fits_anyway() {
        let contents = vec![7; 3 << 20];
        let all = contents.len() as u64;
        let much = 1 << 40;
        // Windows larger than the budget: refused, unless little comes out of them.
        let files = [
            (Compression::Zstd, zstd(&contents, 24, false)),
            (Compression::Xz, xz(&contents, 24 << 20)),
            (Compression::Brotli, brotli(&contents, 24)),
        ];
        for (compression, file) in files {
            let told = needed(compression, &file, much);
            assert!(
                told.is_some_and(|bytes| (16 << 20..26 << 20).contains(&bytes)),
                "{compression}: {told:?}"
            );
            assert_eq!(unpacked(compression, &file, all + 1).unwrap(), contents, "{compression}");
        }
        // Windows beyond anything are refused whatever comes out.
        for (compression, file) in [
            (Compression::Zstd, zstd(b"x", 28, false)),
            (Compression::Xz, xz(b"x", 80 << 20)),
            (Compression::Brotli, brotli(b"x", 30)),
        ] {
            assert!(needed(compression, &file, 1).is_some(), "{compression}");
        }
        // A later member that needs more: given to zstd, which has nothing to keep; not to xz.
        let growing = [zstd(&contents, 12, false), zstd(&contents, 22, false)].concat();
        assert_eq!(unpacked(Compression::Zstd, &growing, much).unwrap().len() as u64, all * 2);
        let growing = [xz(&contents, 1 << 16), xz(&contents, 8 << 20)].concat();
        assert!(needed(Compression::Xz, &growing, much).is_some());
        let shrinking = [xz(&contents, 8 << 20), xz(&contents, 1 << 16)].concat();
        assert_eq!(unpacked(Compression::Xz, &shrinking, much).unwrap().len() as u64, all * 2);
        // All of the budget is there again.
        assert_eq!(BUDGET.take(BUDGET.bytes()).map(|share| share.bytes()), Some(BUDGET.bytes()));
    }

    #[test]
    fn older_formats_of_zstd_and_other_bytes_are_refused() {
        for magic in [0xfd2f_b522u32, 0xfd2f_b527, 0x184c_2102, 0] {
            let mut file = zstd(b"contents", 12, false);
            file[..4].copy_from_slice(&magic.to_le_bytes());
            assert!(unpacked(Compression::Zstd, &file, 100).is_err());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn members_in_a_row_are_one_stream_and_a_cut_one_is_an_error(
            members in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..5000), 1..4),
            skipped in proptest::collection::vec(any::<u8>(), 0..40),
            cut in any::<prop::sample::Index>(),
        ) {
            for compression in Compression::ALL {
                let count = if compression == Compression::Brotli { 1 } else { members.len() };
                let mut file = Vec::new();
                if compression == Compression::Zstd {
                    file.extend_from_slice(b"\x5a\x2a\x4d\x18");
                    file.extend_from_slice(&(skipped.len() as u32).to_le_bytes());
                    file.extend_from_slice(&skipped);
                }
                let before_last = file.len() + members[..count - 1].iter().map(|m| packed(compression, m).len()).sum::<usize>();
                members[..count].iter().for_each(|member| file.extend(packed(compression, member)));
                let plain = members[..count].concat();
                prop_assert_eq!(unpacked(compression, &file, plain.len() as u64 + 1).unwrap(), plain.clone());
                if compression != Compression::None {
                    let cut = before_last + 1 + cut.index(file.len() - before_last - 1);
                    let short = unpacked(compression, &file[..cut], u64::MAX);
                    prop_assert!(short.is_err_and(|error| TooMuchMemory::of(&error).is_none()), "{} {}", compression, cut);
                }
            }
        }

        /// The library agrees: it takes the frame with this window and not with half of it.
        #[test]
        fn the_window_of_a_frame_is_what_the_library_needs(log in 12u32..22, size in 1usize..100_000, pledged in any::<bool>()) {
            let file = zstd(&vec![1; size], log, pledged);
            let window = zstd_window(&file).unwrap();
            prop_assert!(window >= 1 && window <= 1 << log.max(18), "{}", window);
            let with = |limit: u32| {
                let mut decoder = zstd::stream::read::Decoder::new(file.as_slice()).unwrap();
                decoder.window_log_max(limit).unwrap();
                let mut plain = vec![0; 10];
                decoder.read(&mut plain).is_ok()
            };
            prop_assert!(with(window.next_power_of_two().trailing_zeros().max(10)));
            if window > 2048 {
                prop_assert!(!with((window - 1).ilog2()));
            }
        }

        #[test]
        fn any_header_is_read_or_not(bytes in proptest::collection::vec(any::<u8>(), 0..20), pair in any::<[u8; 2]>()) {
            let mut file = b"\x28\xb5\x2f\xfd".to_vec();
            file.extend_from_slice(&bytes);
            let _ = (zstd_window(&bytes), zstd_window(&file));
            prop_assert!(brotli_window_log(pair) < 64);
            for compression in Compression::ALL {
                let _ = unpacked(compression, &file, 1 << 20);
            }
        }
    }
}
