//! What several fuzz targets share.

/// First bytes of compressed archives. Targets that unpack pass them over, because a few of their bytes can stand
/// for a full disk.
pub const COMPRESSED: [&[u8]; 4] = [b"\x1f\x8b", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"BZh"];

const BLOCK: usize = 512;

/// Corrects the checksums of a tar's headers, which a fuzzer would not find by itself.
pub fn repair_tar(archive: &[u8]) -> Vec<u8> {
    let mut archive = archive.to_vec();
    let mut offset = 0;
    while let Some(header) = archive.get_mut(offset..offset + BLOCK) {
        let size = &header[124..136];
        let octal = |byte: &u8| byte.is_ascii_digit().then(|| usize::from(byte & 7));
        let size = size.iter().map_while(octal).fold(0usize, |sum, digit| sum * 8 + digit);
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        offset = offset.saturating_add(BLOCK).saturating_add(size.next_multiple_of(BLOCK));
        if offset > archive.len() {
            break;
        }
    }
    archive
}
