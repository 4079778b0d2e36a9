//! Debian packages, their data archive plain: the input is that archive, or with the first bit set the whole file.
#![no_main]

use std::io::Write;

use libfuzzer_sys::fuzz_target;
use rednix_fetch::archive::deb::unpack_deb_file;
use rednix_fetch::archive::writer::TreeWriter;
use rednix_fuzz::{COMPRESSED, repair_tar};

fn member(package: &mut Vec<u8>, name: &str, contents: &[u8]) {
    write!(package, "{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100_644, contents.len())
        .expect("writing to memory does not fail");
    package.extend_from_slice(contents);
    package.extend(std::iter::repeat_n(b'\n', contents.len() % 2));
}

fuzz_target!(|input: &[u8]| {
    if COMPRESSED.iter().any(|magic| input.windows(magic.len()).any(|window| window == *magic)) {
        return;
    }
    let Some((&choice, input)) = input.split_first() else { return };
    let mut package = b"!<arch>\n".to_vec();
    if choice & 1 == 1 {
        package = input.to_vec();
    } else {
        member(&mut package, "debian-binary", b"2.0\n");
        member(&mut package, "data.tar", &repair_tar(input));
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("package.deb");
    std::fs::write(&file, package).expect("the package can be written");
    let mut writer = TreeWriter::create(&folder.path().join("output")).expect("an output folder");
    let _ = unpack_deb_file(&file, &mut writer);
    assert_eq!(std::fs::read_dir(folder.path()).expect("the folder is there").count(), 2);
});
