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

/// Second ways into the kernel that this filter cannot see through: modes and flags lie in memory there. Whoever uses
/// them falls back to what came before them.
const HIDING_CALLS: [i64; 2] = [libc::SYS_io_uring_setup, libc::SYS_openat2];

/// Not in libc yet; the number is the same on all architectures.
const SYS_SETXATTRAT: i64 = 463;

/// Extended attributes are not part of a store path; tools treat "not supported" as "leave them out".
const ATTRIBUTE_CALLS: [i64; 4] =
    [libc::SYS_setxattr, libc::SYS_lsetxattr, libc::SYS_fsetxattr, SYS_SETXATTRAT];

/// The families of sockets that network namespaces separate and programs need. Others reach beyond: vsock sockets to
/// the machine that runs this one, and to other builds on it.
const SOCKET_FAMILIES: [i32; 4] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

/// Set in the numbers of a second way to call the same functions (x32), where the kernel has it.
#[cfg(target_arch = "x86_64")]
const SECOND_NUMBERS: i64 = 0x4000_0000;

/// Installs the filters for this thread and all it starts. Needs `no_new_privs` or a capability.
pub fn install() -> io::Result<()> {
    let Ok(architecture) = TargetArch::try_from(std::env::consts::ARCH) else { return Ok(()) };
    for (rules, errno) in [
        (mode_rules()?, libc::EPERM),
        (plain_rules(&KEY_CALLS), libc::ENOSYS),
        (plain_rules(&HIDING_CALLS), libc::ENOSYS),
        (plain_rules(&ATTRIBUTE_CALLS), libc::ENOTSUP),
        (socket_rules()?, libc::EAFNOSUPPORT),
    ] {
        #[cfg(target_arch = "x86_64")]
        let rules = rules
            .into_iter()
            .flat_map(|(call, rule)| [(call, rule.clone()), (call | SECOND_NUMBERS, rule)])
            .collect();
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

fn socket_rules() -> io::Result<BTreeMap<i64, Vec<SeccompRule>>> {
    let others = SOCKET_FAMILIES.map(|family| {
        SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, family as u64)
            .map_err(io::Error::other)
    });
    let others = others.into_iter().collect::<io::Result<Vec<_>>>()?;
    let rule = SeccompRule::new(others).map_err(io::Error::other)?;
    Ok([libc::SYS_socket, libc::SYS_socketpair].map(|call| (call, vec![rule.clone()])).into())
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
