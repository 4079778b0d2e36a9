//! Where memory slots are said to be: `<bytes>@<address>:<interrupt>`, as monitors write it on a kernel's command line
//! (`virtio_mmio.device=…`), several of them with commas between. Looks at no slot.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use crate::limits::VIRTIO_SLOTS_MAX;
use crate::text::parse_number;

/// The key on a kernel's command line.
const COMMAND_LINE_KEY: &str = "virtio_mmio.device=";

/// The key in the environment that the loader hands over.
pub const ENVIRONMENT_KEY: &str = "VIRTIO_MMIO";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    pub address: u64,
    pub bytes: u64,
    pub interrupt: u32,
}

impl fmt::Display for Slot {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}@{:#x}:{}", self.bytes, self.address, self.interrupt)
    }
}

/// Bytes of the registers and of any configuration behind them.
const BYTES_MIN: u64 = 0x110;
const BYTES_MAX: u64 = 1 << 20;

impl Slot {
    /// One slot; a number may follow that is of no use here.
    pub fn parse(text: &str) -> Option<Slot> {
        let (bytes, rest) = text.split_once('@')?;
        let mut parts = rest.split(':');
        let slot = Slot {
            bytes: size(bytes)?,
            address: parse_number(parts.next()?)?,
            interrupt: parse_number(parts.next()?)?.try_into().ok()?,
        };
        let is_fine = (BYTES_MIN..=BYTES_MAX).contains(&slot.bytes)
            && slot.address.is_multiple_of(4)
            && slot.address.checked_add(slot.bytes).is_some()
            && slot.address != 0;
        is_fine.then_some(slot)
    }

    /// All slots of a list; what cannot be read comes back as it is.
    pub fn parse_list(list: &str) -> (Vec<Slot>, Vec<String>) {
        let (mut slots, mut unreadable) = (Vec::new(), Vec::new());
        for text in list.split(',').map(str::trim).filter(|text| !text.is_empty()) {
            match Slot::parse(text) {
                Some(slot) if slots.len() < VIRTIO_SLOTS_MAX => slots.push(slot),
                _ => unreadable.push(text.to_string()),
            }
        }
        (slots, unreadable)
    }

    /// The slots a kernel's command line names, as a list.
    pub fn list_of_command_line(line: &str) -> Option<String> {
        let named: Vec<&str> = line
            .split_ascii_whitespace()
            .filter_map(|word| word.strip_prefix(COMMAND_LINE_KEY))
            .filter(|text| Slot::parse(text).is_some())
            .take(VIRTIO_SLOTS_MAX)
            .collect();
        (!named.is_empty()).then(|| named.join(","))
    }
}

/// Bytes, with `K` or `M` for powers of 1024.
fn size(text: &str) -> Option<u64> {
    let (digits, shift) = match text.as_bytes().last()? {
        b'K' | b'k' => (&text[..text.len() - 1], 10),
        b'M' | b'm' => (&text[..text.len() - 1], 20),
        _ => (text, 0),
    };
    parse_number(digits)?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn slots_as_monitors_write_them() {
        let slot = |bytes, address, interrupt| Some(Slot { bytes, address, interrupt });
        let cases = [
            ("512@0xfeb00e00:12", slot(512, 0xFEB0_0E00, 12)),
            ("4K@0xd0000000:5", slot(4096, 0xD000_0000, 5)),
            ("4K@0xd0000000:5:0", slot(4096, 0xD000_0000, 5)),
            ("0x200@4273995264:24", slot(512, 4_273_995_264, 24)),
            ("512@0xfeb00e00", None),
            ("512@0:12", None),
            ("16@0xfeb00e00:12", None),
            ("512@0xfeb00e01:12", None),
            ("2M@0xfeb00e00:12", None),
            ("K@0xfeb00e00:12", None),
            ("512@0xffffffffffffff00:12", None),
            ("512@0xfeb00e00:99999999999", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(Slot::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn slots_of_a_command_line() {
        let line = "console=ttyS0 virtio_mmio.device=4K@0xd0000000:5 panic=1\tvirtio_mmio.device=4K@0xd0001000:6 virtio_mmio.device=x";
        assert_eq!(Slot::list_of_command_line(line).as_deref(), Some("4K@0xd0000000:5,4K@0xd0001000:6"));
        assert_eq!(Slot::list_of_command_line("quiet"), None);
    }

    proptest! {
        #[test]
        fn any_list(list in "[0-9a-fx@:,KM ]{0,60}") {
            let (slots, _) = Slot::parse_list(&list);
            let written: Vec<String> = slots.iter().map(Slot::to_string).collect();
            let (again, unreadable) = Slot::parse_list(&written.join(","));
            prop_assert_eq!(again, slots);
            prop_assert!(unreadable.is_empty());
        }
    }
}
