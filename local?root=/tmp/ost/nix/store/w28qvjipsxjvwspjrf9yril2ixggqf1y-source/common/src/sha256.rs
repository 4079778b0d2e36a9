//! SHA-256 (FIPS 180-4) without vector instructions, for kernels that must not touch those registers. A crate for this
//! would bring eight others into every build of a loader and a kernel; tests compare with it instead.

/// Fractional parts of the cube roots of the first 64 primes.
const ROUND_CONSTANTS: [u32; 64] = [
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, //
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, //
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, //
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, //
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, //
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, //
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3, //
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
];

const CHUNK_BYTES: usize = 64;

pub struct Sha256 {
    state: [u32; 8],
    pending: [u8; CHUNK_BYTES],
    pending_bytes: usize,
    total_bytes: u64,
}

impl Default for Sha256 {
    fn default() -> Self {
        Sha256 {
            state: [
                0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab,
                0x5be0cd19,
            ],
            pending: [0; CHUNK_BYTES],
            pending_bytes: 0,
            total_bytes: 0,
        }
    }
}

impl Sha256 {
    pub fn update(&mut self, mut bytes: &[u8]) {
        self.total_bytes = self.total_bytes.wrapping_add(bytes.len() as u64);
        if self.pending_bytes > 0 {
            let taken = bytes.len().min(CHUNK_BYTES - self.pending_bytes);
            self.pending[self.pending_bytes..self.pending_bytes + taken].copy_from_slice(&bytes[..taken]);
            self.pending_bytes += taken;
            bytes = &bytes[taken..];
            if self.pending_bytes < CHUNK_BYTES {
                return;
            }
            compress(&mut self.state, &self.pending);
            self.pending_bytes = 0;
        }
        let (chunks, rest) = bytes.as_chunks::<CHUNK_BYTES>();
        for chunk in chunks {
            compress(&mut self.state, chunk);
        }
        self.pending[..rest.len()].copy_from_slice(rest);
        self.pending_bytes = rest.len();
    }

    pub fn finish(mut self) -> [u8; 32] {
        let bits = self.total_bytes.wrapping_mul(8);
        self.update(&[0x80]);
        while self.pending_bytes != CHUNK_BYTES - 8 {
            self.update(&[0]);
        }
        self.update(&bits.to_be_bytes());
        let mut digest = [0; 32];
        for (bytes, word) in digest.chunks_exact_mut(4).zip(self.state) {
            bytes.copy_from_slice(&word.to_be_bytes());
        }
        digest
    }
}

fn compress(state: &mut [u32; 8], chunk: &[u8; CHUNK_BYTES]) {
    let mut words = [0u32; 64];
    for (word, bytes) in words.iter_mut().zip(chunk.as_chunks::<4>().0) {
        *word = u32::from_be_bytes(*bytes);
    }
    for index in 16..64 {
        let (early, late) = (words[index - 15], words[index - 2]);
        let small = early.rotate_right(7) ^ early.rotate_right(18) ^ early >> 3;
        let large = late.rotate_right(17) ^ late.rotate_right(19) ^ late >> 10;
        words[index] =
            words[index - 16].wrapping_add(small).wrapping_add(words[index - 7]).wrapping_add(large);
    }
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = *state;
    for (word, constant) in words.into_iter().zip(ROUND_CONSTANTS) {
        let choice = e & f ^ !e & g;
        let majority = a & b ^ a & c ^ b & c;
        let first = h
            .wrapping_add(e.rotate_right(6) ^ e.rotate_right(11) ^ e.rotate_right(25))
            .wrapping_add(choice)
            .wrapping_add(constant)
            .wrapping_add(word);
        let second = (a.rotate_right(2) ^ a.rotate_right(13) ^ a.rotate_right(22)).wrapping_add(majority);
        (h, g, f, e, d, c, b, a) = (g, f, e, d.wrapping_add(first), c, b, a, first.wrapping_add(second));
    }
    for (word, value) in state.iter_mut().zip([a, b, c, d, e, f, g, h]) {
        *word = word.wrapping_add(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::Hex;
    use proptest::prelude::*;
    use sha2::Digest;

    fn digest(parts: &[&[u8]]) -> [u8; 32] {
        let mut hasher = Sha256::default();
        parts.iter().for_each(|part| hasher.update(part));
        hasher.finish()
    }

    #[test]
    fn known_answers() {
        for (input, expected) in [
            ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        ] {
            assert_eq!(std::format!("{}", Hex(&digest(&[input.as_bytes()]))), expected);
        }
    }

    proptest! {
        #[test]
        fn same_as_the_crate_however_split(bytes in prop::collection::vec(any::<u8>(), 0..300), at in 0usize..300) {
            let (left, right) = bytes.split_at(at.min(bytes.len()));
            prop_assert_eq!(digest(&[left, right]), <[u8; 32]>::from(sha2::Sha256::digest(&bytes)));
        }
    }
}
