//! The few system interfaces that rustix does not offer, each wrapped so that callers need no `unsafe`.
//! It takes no decisions: when to fork, whom to become and what to mount is said elsewhere.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::AsRawFd;

use rustix::process::{Pid, Signal};

/// Returns the child's pid to the caller and `None` to the child.
///
/// The process must have a single thread: the child of a process with several may only do very little
/// before it executes something, and ours does a lot.
pub fn fork() -> io::Result<Option<Pid>> {
    // SAFETY: the sandbox child is single threaded (checked by its caller), so no lock can be held by a
    // thread that does not exist in the child.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        pid => Ok(Pid::from_raw(pid)),
    }
}

/// How many threads this process has.
pub fn thread_count() -> io::Result<usize> {
    Ok(std::fs::read_dir("/proc/self/task")?.count())
}

/// Closes every descriptor from `first` on.
pub fn close_from(first: u32) -> io::Result<()> {
    // SAFETY: called at the start of the sandbox child, before anything of ours owns a descriptor >= first.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
    if result == 0 {
        return Ok(());
    }
    // Before kernel 5.9.
    let open: Vec<i32> = std::fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|&number: &i32| number >= first as i32)
        .collect();
    for number in open {
        // SAFETY: as above; closing a number that is already closed is harmless here.
        unsafe { libc::close(number) };
    }
    Ok(())
}

/// Brings the loopback interface of the current network namespace up.
pub fn loopback_up() -> io::Result<()> {
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None)?;
    // SAFETY: ifreq is plain data for which zero bytes are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the request lives across the call and has the shape SIOCSIFFLAGS reads.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &request) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Gives signals their default effect and unblocks them: ignored ones would stay ignored in the builder.
pub fn reset_signals() {
    for signal in 1..=64 {
        // SAFETY: SIG_DFL is always a valid disposition; signals that cannot be changed just fail.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: the set is initialised by sigemptyset before it is used.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
    }
}

/// Switches address space randomisation off for what is executed next: one source of chance less.
pub fn fixed_addresses() {
    // SAFETY: personality only changes flags of this process; failure leaves it as it was.
    unsafe {
        let current = libc::personality(0xffff_ffff);
        if current >= 0 {
            libc::personality(current as libc::c_ulong | libc::ADDR_NO_RANDOMIZE as libc::c_ulong);
        }
    }
}

/// Becomes another user for good, with no supplementary groups.
pub fn become_user(user: u32, group: u32) -> io::Result<()> {
    // SAFETY: an empty list is valid; the calls change only this single-threaded process.
    let done = unsafe {
        libc::setgroups(0, std::ptr::null()) == 0
            && libc::setresgid(group, group, group) == 0
            && libc::setresuid(user, user, user) == 0
    };
    if done { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Takes every capability out of the bounding set, so that nothing executed later can have one.
pub fn drop_bounding_capabilities() {
    for capability in 0..=63 {
        // SAFETY: prctl with plain integers; the first number that the kernel does not know fails.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) } != 0 {
            break;
        }
    }
}

/// Gives up all capabilities this process has.
pub fn drop_capabilities() -> io::Result<()> {
    drop_bounding_capabilities();
    let none = rustix::thread::CapabilitySet::empty();
    let sets = rustix::thread::CapabilitySets { effective: none, permitted: none, inheritable: none };
    Ok(rustix::thread::set_capabilities(None, sets)?)
}

/// Replaces the process image; returns only an error.
pub fn execute(path: &CStr, arguments: &[CString], environment: &[CString]) -> io::Error {
    let pointers = |list: &[CString]| -> Vec<*const libc::c_char> {
        list.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: both arrays end in a null pointer and point to strings that live until the call returns.
    unsafe { libc::execve(path.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error()
}

/// Ends the process at once, without running anything that was registered for its end.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: _exit never returns and needs nothing.
    unsafe { libc::_exit(status) }
}

/// Asks for SIGKILL when the thread that started this process ends.
pub fn die_with_parent() -> io::Result<()> {
    Ok(rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?)
}
