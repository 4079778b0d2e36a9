//! Messages to Redox's PCI daemon and its answers, over the channel that it hands to a driver. Knows the few messages a
//! virtio driver needs: everything else is read from configuration space.
//!
//! Little-endian; an alternative is its number in 32 bits, an optional value one byte before it, a list its length in
//! 64 bits, and an answer has its own length in 64 bits before it. Requests have no length.

use std::fmt;

/// A request to the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// What function this is.
    Function,
    ReadConfiguration {
        offset: u16,
    },
    WriteConfiguration {
        offset: u16,
        value: u32,
    },
}

impl Request {
    pub fn to_bytes(self) -> Vec<u8> {
        match self {
            Request::Function => 1u32.to_le_bytes().to_vec(),
            Request::ReadConfiguration { offset } => {
                [&7u32.to_le_bytes()[..], &offset.to_le_bytes()].concat()
            }
            Request::WriteConfiguration { offset, value } => {
                [&8u32.to_le_bytes()[..], &offset.to_le_bytes(), &value.to_le_bytes()].concat()
            }
        }
    }

    /// The number that the answer to this begins with.
    fn answer(self) -> u32 {
        match self {
            Request::Function => 1,
            Request::ReadConfiguration { .. } => 9,
            Request::WriteConfiguration { .. } => 10,
        }
    }
}

/// A PCI function as the daemon describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Function {
    pub segment: u16,
    pub bus: u8,
    pub device: u8,
    pub function: u8,
    /// Line of the interrupt controller, where the function has an interrupt pin.
    pub interrupt_line: Option<u8>,
    pub vendor: u16,
    pub identity: u16,
}

impl fmt::Display for Function {
    /// As schemes of drivers are named: they may have no colons.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Function { segment, bus, device, function, .. } = self;
        write!(formatter, "pci-{segment:04x}-{bus:02x}-{device:02x}.{function}")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerError {
    /// It ends too early, or has what no such answer has.
    Malformed,
    /// The number of another answer.
    Other(u32),
}

impl fmt::Display for AnswerError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AnswerError::Malformed => formatter.write_str(
                "the PCI daemon's answer cannot be read; it may be of another age than these drivers (February 2026)",
            ),
            AnswerError::Other(number) => {
                write!(formatter, "the PCI daemon gives the answer {number} to another question")
            }
        }
    }
}

/// The value in an answer to `ReadConfiguration`; 0 for `WriteConfiguration`, which has none.
pub fn parse_value(request: Request, answer: &[u8]) -> Result<u32, AnswerError> {
    let mut reader = Reader::of(request, answer)?;
    match request {
        Request::ReadConfiguration { .. } => reader.u32().ok_or(AnswerError::Malformed),
        _ => Ok(0),
    }
}

/// The function in an answer to `Function`.
pub fn parse_function(answer: &[u8]) -> Result<Function, AnswerError> {
    let mut reader = Reader::of(Request::Function, answer)?;
    function(&mut reader).ok_or(AnswerError::Malformed)
}

const BASE_ADDRESSES: usize = 6;

fn function(reader: &mut Reader<'_>) -> Option<Function> {
    let (segment, bus, device, function) = (reader.u16()?, reader.u8()?, reader.u8()?, reader.u8()?);
    for _ in 0..BASE_ADDRESSES {
        // None, 32 bits, 64 bits, ports: the address and, for memory, the size.
        let bytes = match reader.u32()? {
            0 => 0,
            1 => 8,
            2 => 16,
            3 => 2,
            _ => return None,
        };
        reader.skip(bytes)?;
    }
    // The option ROM: address, size, whether it is on.
    if reader.is_present()? {
        reader.skip(9)?;
    }
    let interrupt_line = if reader.is_present()? {
        let line = reader.u8()?;
        // How a device tree names it.
        if reader.is_present()? {
            reader.skip(4 + 12 + 8)?;
        }
        Some(line)
    } else {
        None
    };
    let (vendor, identity) = (reader.u16()?, reader.u16()?);
    Some(Function { segment, bus, device, function, interrupt_line, vendor, identity })
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn of(request: Request, answer: &'a [u8]) -> Result<Reader<'a>, AnswerError> {
        let mut reader = Reader(answer);
        match reader.u32() {
            Some(number) if number == request.answer() => Ok(reader),
            Some(number) => Err(AnswerError::Other(number)),
            None => Err(AnswerError::Malformed),
        }
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn skip(&mut self, bytes: usize) -> Option<()> {
        self.0 = self.0.get(bytes..)?;
        Some(())
    }

    fn u8(&mut self) -> Option<u8> {
        self.take().map(u8::from_le_bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn is_present(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A disk in the way of QEMU, with everything that may be there.
    fn answer(rom: bool, line: bool, tree: bool) -> Vec<u8> {
        let mut bytes = 1u32.to_le_bytes().to_vec();
        bytes.extend([0, 0, 0, 4, 0]);
        bytes.extend([1, 0, 0, 0].iter().chain(&[0; 8]));
        bytes.extend([3, 0, 0, 0, 0x40, 0xC0]);
        bytes.extend([0; 8]);
        bytes.extend([2, 0, 0, 0].iter().chain(&[0; 16]));
        bytes.extend([0; 4]);
        bytes.push(rom.into());
        bytes.extend(vec![0; if rom { 9 } else { 0 }]);
        bytes.push(line.into());
        if line {
            bytes.extend([11, tree.into()]);
            bytes.extend(vec![0; if tree { 24 } else { 0 }]);
        }
        bytes.extend([0xF4, 0x1A, 0x42, 0x10, 1, 0, 0, 1]);
        bytes
    }

    #[test]
    fn functions_with_and_without_optional_parts() {
        for (rom, line, tree) in [(true, true, true), (false, true, false), (true, false, false)] {
            let found = parse_function(&answer(rom, line, tree)).unwrap();
            assert_eq!((found.vendor, found.identity), (0x1AF4, 0x1042));
            assert_eq!(found.interrupt_line, line.then_some(11));
            assert_eq!(found.to_string(), "pci-0000-00-04.0");
        }
    }

    #[test]
    fn requests_as_bytes() {
        assert_eq!(Request::Function.to_bytes(), [1, 0, 0, 0]);
        assert_eq!(Request::ReadConfiguration { offset: 0x34 }.to_bytes(), [7, 0, 0, 0, 0x34, 0]);
        let write = Request::WriteConfiguration { offset: 0x98, value: 0x8002_0011 };
        assert_eq!(write.to_bytes(), [8, 0, 0, 0, 0x98, 0, 0x11, 0, 2, 0x80]);
    }

    #[test]
    fn values_and_other_answers() {
        let read = Request::ReadConfiguration { offset: 0 };
        assert_eq!(parse_value(read, &[9, 0, 0, 0, 1, 2, 3, 4]), Ok(0x0403_0201));
        assert_eq!(parse_value(read, &[9, 0, 0, 0, 1, 2, 3]), Err(AnswerError::Malformed));
        assert_eq!(parse_value(read, &[6, 0, 0, 0, 1]), Err(AnswerError::Other(6)));
        assert_eq!(parse_value(Request::WriteConfiguration { offset: 0, value: 0 }, &[10, 0, 0, 0]), Ok(0));
        assert_eq!(parse_function(&[]), Err(AnswerError::Malformed));
    }

    proptest! {
        #[test]
        fn any_answer_is_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), known: bool) {
            let mut bytes = bytes;
            if known && !bytes.is_empty() {
                bytes.splice(..bytes.len().min(4), [1, 0, 0, 0]);
            }
            let _ = parse_function(&bytes);
            let _ = parse_value(Request::ReadConfiguration { offset: 0 }, &bytes);
        }

        #[test]
        fn cut_answers_are_refused(cut in 0usize..88) {
            let whole = answer(true, true, true);
            // All but class and revision is needed.
            if cut + 4 < whole.len() {
                prop_assert_eq!(parse_function(&whole[..cut]), Err(AnswerError::Malformed));
            }
        }
    }
}
