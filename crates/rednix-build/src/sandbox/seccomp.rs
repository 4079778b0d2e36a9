//! A small system call filter for builders. It is no wall (namespaces and the missing capabilities are):
//! it keeps out what no output may hold, and kernel facilities that namespaces do not separate.

use std::collections::BTreeMap;
use std::io;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};

/// Setting these bits fails: outputs cannot have them, and a set-user-id file of the user who runs rednix
/// must not come into being even for a moment.
const FORBIDDEN_MODE_BITS: [u64; 2] = [0o4000, 0o2000];

/// Kernel key rings belong to users, not to namespaces.
const KEY_CALLS: [i64; 3] = [libc::SYS_add_key, libc::SYS_request_key, libc::SYS_keyctl];

/// A second way into the kernel that this filter could not see through; its users can do without.
const RING_CALLS: [i64; 1] = [libc::SYS_io_uring_setup];

/// Extended attributes are not part of a store path; tools treat "not supported" as "leave them out".
const ATTRIBUTE_CALLS: [i64; 3] = [libc::SYS_setxattr, libc::SYS_lsetxattr, libc::SYS_fsetxattr];

/// Installs the filters for this thread and all it starts. Needs `no_new_privs` or a capability.
pub fn install() -> io::Result<()> {
    let Ok(architecture) = TargetArch::try_from(std::env::consts::ARCH) else { return Ok(()) };
    for (rules, errno) in [
        (mode_rules()?, libc::EPERM),
        (plain_rules(&KEY_CALLS), libc::ENOSYS),
        (plain_rules(&RING_CALLS), libc::ENOSYS),
        (plain_rules(&ATTRIBUTE_CALLS), libc::ENOTSUP),
    ] {
        let filter =
            SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(errno as u32), architecture)
                .map_err(io::Error::other)?;
        let program: BpfProgram = filter.try_into().map_err(io::Error::other)?;
        seccompiler::apply_filter(&program).map_err(io::Error::other)?;
    }
    Ok(())
}

fn plain_rules(calls: &[i64]) -> BTreeMap<i64, Vec<SeccompRule>> {
    calls.iter().map(|&call| (call, Vec::new())).collect()
}

/// (system call, number of its mode argument).
fn mode_arguments() -> Vec<(i64, u8)> {
    let mut calls = vec![(libc::SYS_fchmod, 1), (libc::SYS_fchmodat, 2), (libc::SYS_fchmodat2, 2)];
    calls.extend([(libc::SYS_mknodat, 2), (libc::SYS_openat, 3)]);
    #[cfg(target_arch = "x86_64")]
    calls.extend([(libc::SYS_chmod, 1), (libc::SYS_mknod, 1), (libc::SYS_creat, 1), (libc::SYS_open, 2)]);
    calls
}

fn mode_rules() -> io::Result<BTreeMap<i64, Vec<SeccompRule>>> {
    let mut rules = BTreeMap::new();
    for (call, argument) in mode_arguments() {
        let mut alternatives = Vec::new();
        for bit in FORBIDDEN_MODE_BITS {
            let forbidden = condition(argument, bit, bit)?;
            // The mode argument of open means nothing, and may hold anything, unless a file is created.
            let flags = match call {
                libc::SYS_openat => Some(2),
                #[cfg(target_arch = "x86_64")]
                libc::SYS_open => Some(1),
                _ => None,
            };
            let Some(flags) = flags else {
                alternatives.push(SeccompRule::new(vec![forbidden]).map_err(io::Error::other)?);
                continue;
            };
            for creating in [libc::O_CREAT as u64, libc::O_TMPFILE as u64] {
                let conditions = vec![forbidden.clone(), condition(flags, creating, creating)?];
                alternatives.push(SeccompRule::new(conditions).map_err(io::Error::other)?);
            }
        }
        rules.insert(call, alternatives);
    }
    Ok(rules)
}

fn condition(argument: u8, mask: u64, value: u64) -> io::Result<SeccompCondition> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(mask), value)
        .map_err(io::Error::other)
}
