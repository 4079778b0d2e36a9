//! The reader against images written by the `redoxfs` crate, whole and damaged.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::Cursor;
use std::string::{String, ToString};
use std::sync::OnceLock;
use std::vec::Vec;

use proptest::prelude::*;
use redoxfs as upstream;

use super::*;
use crate::device::{BlockReader, DeviceError, MemoryDisk};
use crate::limits::BLOCK_BYTES;

std::thread_local! {
    /// Lets a hostile image through, as if its maker had computed all hashes anew.
    pub(super) static HASHES_IGNORED: Cell<bool> = const { Cell::new(false) };
}

const FILE: u16 = 0o100644;
const DIRECTORY: u16 = 0o040755;
const LINK: u16 = 0o120777;

/// What is put into an image: path → mode and contents.
type Contents = BTreeMap<String, (u16, Vec<u8>)>;

/// Bytes that do not compress, the same in every run.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .collect()
}

fn small_contents() -> Contents {
    let mut contents = Contents::new();
    let mut put =
        |path: &str, mode: u16, bytes: &[u8]| contents.insert(path.to_string(), (mode, bytes.to_vec()));
    put("etc", DIRECTORY, b"");
    put("etc/hostname", FILE, b"probe\n");
    put("etc/empty", FILE, b"");
    put("etc/loop", LINK, b"loop");
    put("usr", DIRECTORY, b"");
    put("usr/lib", DIRECTORY, b"");
    put("usr/lib/one", 0o100755, &noise(3967, 1));
    put("usr/lib/two", FILE, &noise(3968, 2));
    put("usr/lib/three", FILE, &noise(3969, 3));
    put("usr/lib/block", FILE, &noise(4096, 4));
    put("usr/lib/noise", FILE, &noise(300_001, 5));
    put("usr/lib/text", FILE, "the same line again\n".repeat(20_000).as_bytes());
    put("usr/lib/zero", FILE, &std::vec![0; 200_000]);
    put("usr/lib/short-text", FILE, "compressible ".repeat(700).as_bytes());
    put("lib", LINK, b"usr/lib");
    put("usr/absolute", LINK, b"/etc/hostname");
    put("usr/up", LINK, b"../lib/../lib/one");
    put("usr/dangling", LINK, b"nowhere");
    put("many", DIRECTORY, b"");
    for index in 0..700 {
        put(&std::format!("many/a-name-of-some-length-{index}"), FILE, std::format!("{index}").as_bytes());
    }
    contents
}

/// Writes an image with the published crate, one transaction for each node.
fn image(bytes: usize, contents: &Contents) -> Vec<u8> {
    let disk = upstream::DiskIo(Cursor::new(std::vec![0; bytes]));
    let mut file_system = upstream::FileSystem::create(disk, None, 1, 0).expect("an empty file system");
    let mut nodes = BTreeMap::from([(String::new(), 1)]);
    for (path, (mode, data)) in contents {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let parent = upstream::TreePtr::new(nodes[parent]);
        let id = file_system
            .tx(|transaction| {
                let node = transaction.create_node(parent, name, *mode, 2, 0)?;
                if !data.is_empty() {
                    transaction.write_node(node.ptr(), 0, data, 2, 0)?;
                }
                Ok(node.id())
            })
            .expect("a node");
        nodes.insert(path.clone(), id);
    }
    file_system.disk.0.into_inner()
}

fn small_image() -> &'static [u8] {
    static IMAGE: OnceLock<Vec<u8>> = OnceLock::new();
    IMAGE.get_or_init(|| image(16 << 20, &small_contents()))
}

/// Everything readable, in the form of `Contents`.
fn read_back<R: BlockReader>(file_system: &mut FileSystem<R>) -> Result<Contents, FileSystemError> {
    let root = file_system.root()?;
    let mut contents = Contents::new();
    file_system
        .walk(&root, &mut |visit| {
            let path = String::from_utf8_lossy(visit.path).into_owned();
            let bytes = match visit.node.kind() {
                NodeKind::Directory => Vec::new(),
                _ => visit.file_system.read_all(visit.node, 64 << 20, &path)?,
            };
            contents.insert(path, (visit.node.mode, bytes));
            Ok(())
        })
        .map_err(|error| match error {
            WalkError::FileSystem(error) | WalkError::Visitor(error) => error,
        })?;
    Ok(contents)
}

#[test]
fn everything_written_is_read() {
    let mut file_system = FileSystem::open(MemoryDisk(small_image()), 0).expect("a file system");
    assert!(file_system.header().generation > 256, "the ring must have gone round");
    let found = read_back(&mut file_system).expect("contents");
    let expected = small_contents();
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (path, value) in expected {
        assert!(found[&path] == value, "{path} differs");
    }
}

#[test]
fn a_file_system_behind_other_blocks() {
    let mut disk = std::vec![0; 512 * BLOCK_BYTES];
    disk.extend_from_slice(small_image());
    assert_eq!(
        FileSystem::open(MemoryDisk(&disk), 0).map(|_| ()).map_err(|error| error.to_string()),
        Err("no RedoxFS of version 8 at block 0".to_string())
    );
    let mut file_system = FileSystem::open(MemoryDisk(&disk), 512).expect("a file system");
    assert_eq!(file_system.start_block(), 512);
    let node = file_system.file("etc/hostname").expect("a file");
    assert_eq!(file_system.read_all(&node, 100, "").expect("bytes"), b"probe\n");
}

#[test]
fn paths() {
    let mut file_system = FileSystem::open(MemoryDisk(small_image()), 0).expect("a file system");
    let expected = small_contents();
    for (path, same_as) in [
        ("etc/hostname", "etc/hostname"),
        ("/etc//./hostname", "etc/hostname"),
        ("usr/absolute", "etc/hostname"),
        ("lib/one", "usr/lib/one"),
        ("usr/up", "usr/lib/one"),
        ("usr/../../etc/hostname", "etc/hostname"),
        ("many/a-name-of-some-length-699", "many/a-name-of-some-length-699"),
    ] {
        let node = file_system.file(path).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(file_system.read_all(&node, 1 << 20, path).expect("bytes"), expected[same_as].1, "{path}");
    }
    for (path, message) in [
        ("etc/nothing", "`etc/nothing` is not there"),
        ("usr/dangling", "`usr/dangling` is not there"),
        ("etc/loop", "`etc/loop` has too many links or components"),
        ("etc/hostname/x", "`etc/hostname/x` is not a directory"),
        ("etc", "`etc` is not a file"),
        ("many/a-name-of-some-length-700", "`many/a-name-of-some-length-700` is not there"),
    ] {
        assert_eq!(
            file_system.file(path).map(|_| ()).map_err(|error| error.to_string()),
            Err(message.into())
        );
    }
    assert_eq!(file_system.lookup("lib", false).expect("a link").kind(), NodeKind::Symlink);
    assert_eq!(file_system.lookup("", true).expect("the root").id, ROOT_NODE);
}

#[test]
fn reading_at_any_offset() {
    let mut file_system = FileSystem::open(MemoryDisk(small_image()), 0).expect("a file system");
    let expected = small_contents();
    for path in ["usr/lib/noise", "usr/lib/text", "usr/lib/one", "usr/lib/short-text", "usr/lib/zero"] {
        let (node, bytes) = (file_system.file(path).expect("a file"), &expected[path].1);
        for offset in
            [0, 1, 3967, 4095, 4096, 131_071, 131_072, 262_143, bytes.len() - 1, bytes.len(), bytes.len() + 5]
        {
            for length in [0, 1, 5000, 140_000] {
                let mut buffer = std::vec![0xAA; length];
                let count = file_system.read(&node, offset as u64, &mut buffer).expect("bytes");
                let wanted = bytes.get(offset..).unwrap_or(&[]);
                assert_eq!(&buffer[..count], &wanted[..wanted.len().min(length)], "{path} {offset} {length}");
            }
        }
    }
}

#[test]
fn large_and_sparse_files() {
    let megabyte = 1 << 20;
    let contents = Contents::from([("large".to_string(), (FILE, noise(40 * megabyte + 7, 9)))]);
    let bytes = image(80 * megabyte, &contents);
    let disk = upstream::DiskIo(Cursor::new(bytes));
    let mut writer = upstream::FileSystem::open(disk, None, Some(0), false).expect("the image");
    // Record numbers far enough for every indirection: 16 MiB, 2 GiB, 256 GiB and 32 TiB.
    let places = [20u64 << 20, 3 << 30, 300 << 30, 40 << 40];
    for (index, place) in places.iter().enumerate() {
        writer
            .tx(|transaction| {
                let root = upstream::TreePtr::root();
                let node = transaction.create_node(root, &std::format!("sparse{index}"), FILE, 2, 0)?;
                transaction.write_node(node.ptr(), *place, b"at the end", 2, 0)
            })
            .expect("a sparse file");
    }
    let bytes = writer.disk.0.into_inner();
    let mut file_system = FileSystem::open(MemoryDisk(&bytes), 0).expect("a file system");
    let node = file_system.file("large").expect("a file");
    assert!(file_system.read_all(&node, 64 << 20, "large").expect("bytes") == contents["large"].1);
    for (index, place) in places.iter().enumerate() {
        let node = file_system.file(&std::format!("sparse{index}")).expect("a file");
        assert_eq!(node.size, place + 10);
        let mut buffer = [0xAA; 20];
        assert_eq!(file_system.read(&node, place - 10, &mut buffer), Ok(20), "{place}");
        assert_eq!(&buffer, b"\0\0\0\0\0\0\0\0\0\0at the end");
        assert_eq!(file_system.read(&node, place / 2, &mut buffer), Ok(20));
        assert_eq!(buffer, [0; 20]);
    }
    let too_large = file_system.file("sparse0").expect("a file");
    assert!(matches!(
        file_system.read_all(&too_large, 1000, "sparse0"),
        Err(FileSystemError::TooLarge { limit: 1000, .. })
    ));
}

#[test]
fn directories_with_a_tree_of_more_than_one_level() {
    let mut contents = Contents::from([("d".to_string(), (DIRECTORY, Vec::new()))]);
    let padding = "n".repeat(230);
    for index in 0..4000 {
        contents.insert(std::format!("d/{padding}{index}"), (FILE, Vec::new()));
    }
    let bytes = image(64 << 20, &contents);
    let mut file_system = FileSystem::open(MemoryDisk(&bytes), 0).expect("a file system");
    let directory = file_system.lookup("d", true).expect("a directory");
    assert!(directory.pointer(0).marker_height() >= Some(2), "{:?}", directory.pointer(0).marker_height());
    assert_eq!(file_system.entries(&directory).expect("names").len(), 4000);
    for path in contents.keys() {
        file_system.lookup(path, true).unwrap_or_else(|error| panic!("{error}"));
    }
    assert!(file_system.child(&directory, b"other").expect("a look").is_none());
}

#[test]
fn the_newest_header_wins_and_damaged_ones_are_ignored() {
    let mut bytes = small_image().to_vec();
    let current = FileSystem::open(MemoryDisk(&bytes), 0).expect("a file system").header().generation;
    let slot = (current % 256) as usize;
    assert_ne!(slot, 0);
    bytes[slot * BLOCK_BYTES + 40] ^= 1;
    let older = FileSystem::open(MemoryDisk(&bytes), 0).expect("a file system").header().generation;
    assert_eq!(older, current - 1);
}

#[test]
fn encrypted_file_systems_are_refused() {
    let disk = upstream::DiskIo(Cursor::new(std::vec![0; 2 << 20]));
    let mut file_system = upstream::FileSystem::create(disk, Some(b"secret"), 1, 0).expect("a file system");
    // The very first header has no valid hash when there is a password: go round the ring once.
    for index in 0..300 {
        let name = std::format!("{}", index % 2);
        let root = upstream::TreePtr::root();
        let mode = FILE;
        file_system
            .tx(|transaction| match index % 4 {
                0 | 1 => transaction.create_node(root, &name, mode, 2, 0).map(|_| ()),
                _ => transaction.remove_node(root, &name, mode & 0xF000).map(|_| ()),
            })
            .expect("a change");
    }
    let bytes = file_system.disk.0.into_inner();
    assert_eq!(
        FileSystem::open(MemoryDisk(&bytes), 0).map(|_| ()),
        Err(FileSystemError::Encrypted { block: 0 })
    );
}

#[test]
fn device_errors_are_passed_on() {
    struct Broken;
    impl BlockReader for Broken {
        fn read_blocks(&mut self, first: u64, _: &mut [u8]) -> Result<(), DeviceError> {
            Err(DeviceError { block: first, code: 7 })
        }
    }
    let error = FileSystem::open(Broken, 5).map(|_| ()).expect_err("no device");
    assert_eq!(error.to_string(), "cannot read block 5: device error 0x7");
}

/// A small image whose few used blocks are worth damaging.
fn tiny_image() -> &'static (Contents, Vec<u8>) {
    static IMAGE: OnceLock<(Contents, Vec<u8>)> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let mut contents = small_contents();
        contents.retain(|path, _| !path.starts_with("many/") || path.ends_with('7'));
        let bytes = image(4 << 20, &contents);
        (contents, bytes)
    })
}

fn damage() -> impl Strategy<Value = Vec<(usize, usize, u8)>> {
    prop::collection::vec((any::<prop::sample::Index>(), 0..BLOCK_BYTES, any::<u8>()), 1..20).prop_map(
        |changes| {
            let used: Vec<usize> = tiny_image()
                .1
                .chunks(BLOCK_BYTES)
                .enumerate()
                .filter(|(index, block)| *index >= 256 && block.iter().any(|byte| *byte != 0))
                .map(|(index, _)| index)
                .collect();
            changes
                .into_iter()
                .map(|(block, offset, byte)| (used[block.index(used.len())], offset, byte))
                .collect()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn damaged_blocks_give_errors_never_wrong_contents(changes in damage()) {
        let (expected, good) = tiny_image();
        let mut bytes = good.clone();
        for (block, offset, byte) in changes {
            bytes[block * BLOCK_BYTES + offset] = byte;
        }
        let mut file_system = FileSystem::open(MemoryDisk(&bytes), 0).expect("headers are whole");
        if let Ok(contents) = read_back(&mut file_system) {
            prop_assert!(contents == *expected);
        }
        for (path, (mode, data)) in expected.iter().filter(|(_, (mode, _))| mode & 0xF000 == 0x8000) {
            if let Ok(found) = file_system.file(path).and_then(|node| file_system.read_all(&node, 1 << 20, path)) {
                prop_assert!(found == *data, "{} {:o}", path, mode);
            }
        }
    }

    #[test]
    fn hostile_blocks_end_in_bounded_time_without_panic(changes in damage()) {
        let mut bytes = tiny_image().1.clone();
        for (block, offset, byte) in changes {
            // Fields lie at the start of blocks more often than anywhere else.
            let offset = if offset % 2 == 0 { offset % 160 } else { offset };
            bytes[block * BLOCK_BYTES + offset] = byte;
        }
        HASHES_IGNORED.set(true);
        let mut file_system = FileSystem::open(MemoryDisk(&bytes), 0).expect("headers are whole");
        let _ = read_back(&mut file_system);
        let _ = file_system.file("usr/lib/noise");
        let _ = file_system.file("usr/up");
        HASHES_IGNORED.set(false);
    }

    #[test]
    fn any_block_is_parsed_without_panic(seed in any::<u64>(), zeroes in 0..BLOCK_BYTES) {
        let mut block = [0; BLOCK_BYTES];
        block[zeroes..].copy_from_slice(&noise(BLOCK_BYTES - zeroes, seed));
        let _ = Header::parse(&block);
        let _ = Node::parse(5, &block);
        let _ = super::directory::list_entries(&block, |_, _| Ok(()));
        let _ = super::directory::tree_pointers(&block, Some(seed as u32));
    }
}
