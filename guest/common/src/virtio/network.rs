//! Network cards: configuration and the header before each packet. Moves no packets.

use super::transport::Transport;

const FEATURE_ADDRESS: u64 = 1 << 5;

/// What a driver can make use of. Nothing that lets packets grow beyond a frame is among it.
pub const FEATURES: u64 = FEATURE_ADDRESS;

pub const RECEIVE_QUEUE: u16 = 0;
pub const SEND_QUEUE: u16 = 1;

/// Bytes before each packet in both directions. Zeroes ask for nothing.
pub const HEADER_BYTES: usize = 12;
/// The largest frame, with one VLAN tag and without its check sum.
pub const FRAME_BYTES_MAX: usize = 1518;

/// The card's address on its network, where it has one of its own.
pub fn address(device: &(impl Transport + ?Sized), features: u64) -> Option<[u8; 6]> {
    (features & FEATURE_ADDRESS != 0).then(|| core::array::from_fn(|index| device.configuration_u8(index)))
}

/// An address for a card that has none: locally administered, made of what tells cards of one machine apart.
pub fn made_up_address(number: u32) -> [u8; 6] {
    let [a, b, c, d] = number.to_be_bytes();
    [0x02, 0x52, a, b, c, d]
}

/// The bytes of the packet in a buffer that the device says it has written; none where it is not even a header.
pub fn packet(buffer: &[u8], written: u32) -> &[u8] {
    buffer.get(HEADER_BYTES..(written as usize).min(buffer.len())).unwrap_or(&[])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_bounded_by_their_buffer() {
        let buffer: [u8; 16] = core::array::from_fn(|index| index as u8);
        // written → packet
        let cases: [(u32, &[u8]); 6] = [
            (0, &[]),
            (11, &[]),
            (12, &[]),
            (14, &[12, 13]),
            (16, &[12, 13, 14, 15]),
            (u32::MAX, &[12, 13, 14, 15]),
        ];
        for (written, expected) in cases {
            assert_eq!(packet(&buffer, written), expected, "{written}");
        }
        assert_eq!(packet(&[0; 4], 4), &[] as &[u8]);
    }

    #[test]
    fn made_up_addresses_are_local_and_differ() {
        assert_eq!(made_up_address(0x0102), [2, 0x52, 0, 0, 1, 2]);
        assert_eq!(made_up_address(7)[0] & 3, 2);
    }
}
