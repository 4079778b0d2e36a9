//! TCP ports of the host's loopback: free ones, and those that lead to somebody who listens. It serves nothing.

use std::io::{ErrorKind, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use crate::limits::PORT_PATIENCE;

/// Ports that nobody has, each another one. Somebody else may take one after this is gone.
#[derive(Debug, Default)]
pub struct Free {
    /// Held, so that none is given twice.
    given: Vec<TcpListener>,
}

impl Free {
    pub fn next(&mut self) -> std::io::Result<u16> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        self.given.push(listener);
        Ok(port)
    }
}

/// Whether a forward leads to somebody who listens. A monitor takes every connection and closes those that the guest
/// refused, so one that stays open counts.
pub fn answers(port: u16) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let Ok(mut stream) = TcpStream::connect_timeout(&address, PORT_PATIENCE) else { return false };
    if stream.set_read_timeout(Some(PORT_PATIENCE)).is_err() {
        return false;
    }
    match stream.read(&mut [0]) {
        Ok(count) => count > 0,
        Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_listener_answers() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        // Sooner or later: this machine may stop for longer than anybody is waited for.
        assert!((0..30).any(|_| answers(port)), "a listener that says nothing");
        // The near end of a connection, whose port nobody else gets.
        let connection = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        assert!(!answers(connection.local_addr().unwrap().port()), "nobody");
        std::thread::spawn(move || listener.incoming().for_each(drop));
        assert!((0..30).any(|_| !answers(port)), "a forward that the guest refuses");
    }
}
