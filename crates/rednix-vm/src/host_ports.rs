//! Ports of the host's loopback that a machine takes: whether they are free, and two of its own are not the same. It keeps
//! none of them: whoever starts the machine between the look and the start is told by the monitor.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener};

use crate::error::{Error, Result};
use crate::spec::{Display, MachineSpec, Network};

/// A port, what it is for, and by which option it is chosen.
struct Wanted {
    port: u16,
    purpose: String,
    option: &'static str,
}

fn wanted(spec: &MachineSpec) -> Vec<Wanted> {
    let mut found = Vec::new();
    if let Network::User { forwards, .. } = &spec.network {
        found.extend(forwards.iter().map(|forward| Wanted {
            port: forward.host,
            purpose: format!("forwarded to port {} of the guest", forward.guest),
            option: "--forward PORT:GUEST",
        }));
    }
    if let Display::Vnc { port } = spec.display {
        found.push(Wanted { port, purpose: "for its screen by VNC".into(), option: "--graphics=vnc=PORT" });
    }
    if let Some(gdb) = spec.gdb {
        found.push(Wanted { port: gdb.port, purpose: "for a debugger".into(), option: "--gdb=PORT" });
    }
    found
}

/// Refuses a machine that wants one port twice. Zero stands for any that is free, which a test takes.
pub(crate) fn check(spec: &MachineSpec) -> Result<()> {
    let mut all = wanted(spec);
    all.retain(|wanted| wanted.port != 0);
    for (at, one) in all.iter().enumerate() {
        if let Some(other) = all[..at].iter().find(|other| other.port == one.port) {
            return Err(spec.refuse(format!(
                "port {} of the host is wanted twice, {} and {}: choose another one, `{}`",
                one.port, other.purpose, one.purpose, one.option
            )));
        }
    }
    Ok(())
}

/// Looks whether all of them are free.
pub(crate) fn check_free(spec: &MachineSpec) -> Result<()> {
    for Wanted { port, purpose, option } in wanted(spec) {
        let Err(error) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) else { continue };
        let (reason, way_out) = match error.kind() {
            ErrorKind::AddrInUse => {
                ("is taken", format!("end what listens there (`ss -ltnp sport = {port}`), or "))
            }
            ErrorKind::PermissionDenied => ("may not be taken by this user", String::new()),
            _ => continue,
        };
        return Err(Error::Port {
            machine: spec.name.clone(),
            port,
            purpose,
            reason,
            how: format!("{way_out}choose another one: `{option}`"),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Forward, Gdb};

    fn with(port: u16) -> [(MachineSpec, &'static str, &'static str); 3] {
        let spec = MachineSpec::new("probe", "x".into());
        let forwards = vec![Forward { host: port, guest: 22 }];
        [
            (
                MachineSpec { network: Network::User { forwards, card: None }, ..spec.clone() },
                "port 22 of the guest",
                "--forward PORT:GUEST",
            ),
            (MachineSpec { display: Display::Vnc { port }, ..spec.clone() }, "VNC", "--graphics=vnc=PORT"),
            (MachineSpec { gdb: Some(Gdb { port, wait: true }), ..spec }, "debugger", "--gdb=PORT"),
        ]
    }

    #[test]
    fn a_taken_port_is_named_with_what_it_is_for() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        for (spec, purpose, option) in with(port) {
            let error = check_free(&spec).unwrap_err().to_string();
            let parts = ["machine `probe`", &format!("port {port} "), "is taken", purpose, option];
            assert!(parts.iter().all(|part| error.contains(part)), "{error}");
        }
        drop(listener);
        // Somebody else may have got that one, but not all that are free.
        let is_free = |_| {
            let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
            with(port).iter().all(|(spec, ..)| check_free(spec).is_ok())
        };
        assert!((0..20).any(is_free));
    }

    #[test]
    fn one_port_is_not_wanted_twice() {
        let [(mut spec, ..), (shown, ..), _] = with(5907);
        check(&spec).unwrap();
        let any = Forward { host: 0, guest: 80 };
        let forwards = vec![any, any];
        check(&MachineSpec { network: Network::User { forwards, card: None }, ..spec.clone() }).unwrap();
        spec.display = shown.display;
        let error = check(&spec).unwrap_err().to_string();
        assert!(
            error.contains("port 5907 of the host is wanted twice") && error.contains("--graphics"),
            "{error}"
        );
    }
}
