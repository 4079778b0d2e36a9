//! A builder that asks the kernel itself, past every tool: for sockets that namespaces do not separate, for modes and
//! attributes no output may have, for other processes, for what is mounted. Says what it got and should not have.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::os::unix::fs::MetadataExt;

/// Not all of these are in libc.
const SETXATTRAT: i64 = 463;
const PIDFD_GETFD: i64 = 438;
const FCHMODAT2: i64 = 452;
const X32: i64 = 0x4000_0000;

fn call(number: i64, arguments: [i64; 6]) -> i64 {
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: every call below passes numbers, or pointers to values that outlive it, and this process is there for
    // nothing else: whatever the kernel changes in it ends with it.
    unsafe { libc::syscall(number, a, b, c, d, e, f) }
}

fn pointer(text: &CStr) -> i64 {
    text.as_ptr() as i64
}

/// Everything that worked and must not.
pub fn reached(attributes: &serde_json::Value) -> Vec<String> {
    let mut reached = Vec::new();
    let mut must_fail = |what: String, result: i64| {
        if result >= 0 {
            reached.push(what);
        }
    };
    for (name, family) in [
        ("vsock", libc::AF_VSOCK),
        ("packet", libc::AF_PACKET),
        ("alg", libc::AF_ALG),
        ("bluetooth", libc::AF_BLUETOOTH),
        ("tipc", libc::AF_TIPC),
        ("rds", libc::AF_RDS),
        ("qipcrtr", 42),
        ("kcm", 41),
    ] {
        for kind in [libc::SOCK_STREAM, libc::SOCK_DGRAM, libc::SOCK_SEQPACKET, libc::SOCK_RAW] {
            must_fail(
                format!("socket {name}"),
                call(libc::SYS_socket, [family.into(), kind.into(), 0, 0, 0, 0]),
            );
        }
    }
    must_fail("user's key ring".into(), call(libc::SYS_keyctl, [0, -4, 1, 0, 0, 0]));
    must_fail(
        "adding a key".into(),
        call(libc::SYS_add_key, [pointer(c"user"), pointer(c"rednix-test"), pointer(c"x"), 1, -4, 0]),
    );
    must_fail("io_uring".into(), call(libc::SYS_io_uring_setup, [1, [0u64; 16].as_ptr() as i64, 0, 0, 0, 0]));
    must_fail("another's memory".into(), call(libc::SYS_ptrace, [libc::PTRACE_ATTACH.into(), 1, 0, 0, 0, 0]));
    let pidfd = call(libc::SYS_pidfd_open, [1, 0, 0, 0, 0, 0]);
    for fd in 0..8 {
        must_fail(format!("descriptor {fd} of process 1"), call(PIDFD_GETFD, [pidfd, fd, 0, 0, 0, 0]));
    }
    let key = attributes["key"].as_i64().unwrap_or_default();
    must_fail("the host's shared memory".into(), call(libc::SYS_shmget, [key, 0, 0, 0, 0, 0]));
    let mount = [pointer(c"none"), pointer(c"/build"), pointer(c"tmpfs"), 0, 0, 0];
    must_fail("mounting".into(), call(libc::SYS_mount, mount));
    must_fail("unmounting".into(), call(libc::SYS_umount2, [pointer(c"/proc"), 2, 0, 0, 0, 0]));
    must_fail("changing root".into(), call(libc::SYS_chroot, [pointer(c"/build"), 0, 0, 0, 0, 0]));
    must_fail("a mount namespace".into(), call(libc::SYS_unshare, [libc::CLONE_NEWNS.into(), 0, 0, 0, 0, 0]));
    reached.extend(modes());
    for path in ["/proc/1/root", "/proc/1/cwd", "/proc/1/fd/0", "/proc/1/exe", "/proc/1/mem", "/proc/kcore"] {
        if std::fs::File::open(path).is_ok() {
            reached.push(path.to_owned());
        }
    }
    reached.extend(nested(attributes["input"].as_str().unwrap_or_default()));
    reached
}

/// Set-user-id bits, devices and attributes, by every call that can ask for them.
fn modes() -> Vec<String> {
    let mut reached = Vec::new();
    std::fs::write("/build/plain", "").expect("the build folder can be written to");
    let fd = call(libc::SYS_open, [pointer(c"/build/plain"), libc::O_RDWR.into(), 0, 0, 0, 0]);
    let at = i64::from(libc::AT_FDCWD);
    let mode = 0o6755;
    let create = i64::from(libc::O_CREAT | libc::O_WRONLY);
    // flags, mode and way of resolving
    let how: [u64; 3] = [create as u64, mode as u64, 0];
    let (plain, made) = (c"/build/plain", c"/build/made");
    let attempts: [(&str, i64, [i64; 6]); 12] = [
        ("chmod", libc::SYS_chmod, [pointer(plain), mode, 0, 0, 0, 0]),
        ("fchmod", libc::SYS_fchmod, [fd, mode, 0, 0, 0, 0]),
        ("fchmodat", libc::SYS_fchmodat, [at, pointer(plain), mode, 0, 0, 0]),
        ("fchmodat2", FCHMODAT2, [at, pointer(plain), mode, 0, 0, 0]),
        ("open", libc::SYS_open, [pointer(made), create, mode, 0, 0, 0]),
        ("openat", libc::SYS_openat, [at, pointer(made), create, mode, 0, 0]),
        ("openat2", libc::SYS_openat2, [at, pointer(made), how.as_ptr() as i64, 24, 0, 0]),
        ("creat", libc::SYS_creat, [pointer(made), mode, 0, 0, 0, 0]),
        ("mknod", libc::SYS_mknod, [pointer(made), i64::from(libc::S_IFREG) | mode, 0, 0, 0, 0]),
        ("mknodat", libc::SYS_mknodat, [at, pointer(made), i64::from(libc::S_IFREG) | mode, 0, 0, 0]),
        ("a device", libc::SYS_mknod, [pointer(made), i64::from(libc::S_IFCHR) | 0o666, 0x103, 0, 0, 0]),
        ("a disk", libc::SYS_mknod, [pointer(made), i64::from(libc::S_IFBLK) | 0o666, 0x800, 0, 0, 0]),
    ];
    for (what, number, arguments) in attempts {
        for (way, number) in [("", number), (" by its second number", number | X32)] {
            call(number, arguments);
            for file in ["/build/plain", "/build/made"] {
                let Ok(status) = std::fs::symlink_metadata(file) else { continue };
                if status.mode() & 0o6000 != 0 || !matches!(status.mode() & libc::S_IFMT, libc::S_IFREG) {
                    reached.push(format!("{what}{way}"));
                }
            }
            let _ = std::fs::remove_file("/build/made");
        }
    }
    let value = [pointer(c"x"), 1, 0];
    for (what, number, arguments) in [
        ("setxattr", libc::SYS_setxattr, [pointer(plain), pointer(c"user.x"), value[0], 1, 0, 0]),
        ("fsetxattr", libc::SYS_fsetxattr, [fd, pointer(c"user.x"), value[0], 1, 0, 0]),
        ("setxattrat", SETXATTRAT, [at, pointer(plain), 0, pointer(c"user.x"), value.as_ptr() as i64, 16]),
    ] {
        if call(number, arguments) == 0 {
            reached.push(what.to_owned());
        }
    }
    reached
}

/// A user namespace within gives every capability there; none of them over what came from outside.
fn nested(input: &str) -> Vec<String> {
    let mut reached = Vec::new();
    let flags = libc::CLONE_NEWUSER | libc::CLONE_NEWNS | libc::CLONE_NEWPID;
    if call(libc::SYS_unshare, [flags.into(), 0, 0, 0, 0, 0]) != 0 {
        return reached;
    }
    let input = CString::new(input).expect("a path holds no zero byte");
    let writable = i64::from((libc::MS_REMOUNT | libc::MS_BIND) as u32);
    for (what, place) in [("an input", input.as_c_str()), ("the root", c"/")] {
        if call(libc::SYS_mount, [0, pointer(place), 0, writable, 0, 0]) == 0 {
            reached.push(format!("making {what} writable"));
        }
        if call(libc::SYS_umount2, [pointer(place), 2, 0, 0, 0, 0]) == 0 {
            reached.push(format!("unmounting {what}"));
        }
    }
    let device = [pointer(c"/build/device"), i64::from(libc::S_IFCHR) | 0o666, 0x103, 0, 0, 0];
    if call(libc::SYS_mknod, device) == 0 {
        reached.push("a device from within".to_owned());
    }
    // The largest handle the kernel knows; what is in it does not matter where opening is denied.
    let handle = [8u32, 1, 2, 0, 0, 0];
    let root = call(libc::SYS_open, [pointer(c"/"), libc::O_RDONLY.into(), 0, 0, 0, 0]);
    call(libc::SYS_open_by_handle_at, [root, handle.as_ptr() as i64, 0, 0, 0, 0]);
    if std::io::Error::last_os_error().raw_os_error() != Some(libc::EPERM) {
        reached.push("opening files by their numbers".to_owned());
    }
    reached
}
