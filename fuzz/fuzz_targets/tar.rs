//! Plain tar archives, unpacked into a folder: whatever they hold, nothing appears beside that folder.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use rednix_fetch::archive::deb::UsrMerge;
use rednix_fetch::archive::tar::{Layout, Strip, unpack_stream};
use rednix_fetch::archive::writer::TreeWriter;
use rednix_fuzz::{COMPRESSED, repair_tar};

fuzz_target!(|input: &[u8]| {
    let Some((&choice, archive)) = input.split_first() else { return };
    let archive = repair_tar(archive);
    if COMPRESSED.iter().any(|magic| archive.starts_with(magic)) {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut writer = TreeWriter::create(&folder.path().join("output")).expect("an output folder");
    let strip = Strip(usize::from(choice % 3));
    let layout: &dyn Layout = if choice >= 128 { &UsrMerge } else { &strip };
    let _ = unpack_stream(Path::new("fuzz.tar"), archive.as_slice(), &mut writer, layout);
    let names: Vec<_> = std::fs::read_dir(folder.path()).expect("the folder is there").flatten().collect();
    assert!(names.len() == 1 && names[0].file_name() == "output");
});
