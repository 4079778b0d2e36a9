//! Initfs images of both formats; the fixed parts of the header are filled in.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rednix_image::initfs::{Format, MAGIC, PAGE_SIZE, edit, parse};

fuzz_target!(|input: &[u8]| {
    let Some((&choice, input)) = input.split_first() else { return };
    let mut image = input.to_vec();
    let page_size_offset = if choice & 1 == 1 { 0x14 } else { 0x2a };
    if choice < 0xf0 && image.len() >= page_size_offset + 2 {
        image[..MAGIC.len()].copy_from_slice(MAGIC);
        image[page_size_offset..page_size_offset + 2].copy_from_slice(&(PAGE_SIZE as u16).to_le_bytes());
    }
    let read = parse(&image);
    // What was changed can be read and changed again, and then stays.
    if let Ok((changed, _)) = edit(&image, &[]) {
        assert_eq!(edit(&changed, &[]).expect("it was written here").0, changed);
    }
    assert!(read.is_err() || Format::detect(&image).is_some());
});
