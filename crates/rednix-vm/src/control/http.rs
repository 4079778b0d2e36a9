//! The little of HTTP/1.1 that the interfaces of Cloud Hypervisor and Firecracker need, over a socket in a folder of
//! ours: one request, one answer with a length. No redirects, no chunks, no reuse of connections.

use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::error::{Error, Result};
use crate::limits::{CONTROL_TIMEOUT, HTTP_BODY_MAX, HTTP_HEAD_MAX, SOCKET_TIMEOUT};

/// An answer's status and body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

/// What the bytes received so far come to; none while there is more to come.
pub fn parse(bytes: &[u8]) -> std::result::Result<Option<Answer>, &'static str> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return if bytes.len() > HTTP_HEAD_MAX { Err("the head is too long") } else { Ok(None) };
    };
    let head = std::str::from_utf8(&bytes[..end]).map_err(|_| "the head is no text")?;
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    if !words.next().is_some_and(|word| word.starts_with("HTTP/1.")) {
        return Err("it is no HTTP");
    }
    let status = words.next().filter(|word| word.len() == 3).and_then(|word| word.parse().ok());
    let status = status.ok_or("it has no status")?;
    let mut length = 0;
    for line in lines {
        let Some((name, value)) = line.split_once(':') else { return Err("a header has no colon") };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse::<usize>().map_err(|_| "its length is no number")?;
        }
    }
    if length > HTTP_BODY_MAX {
        return Err("the body is too long");
    }
    let body = &bytes[end + 4..];
    Ok((body.len() >= length).then(|| Answer { status, body: body[..length].to_vec() }))
}

/// The socket of a monitor.
#[derive(Clone, Debug)]
pub struct Interface {
    socket: PathBuf,
}

impl Interface {
    pub fn new(socket: PathBuf) -> Self {
        Interface { socket }
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// One request; a status of refusal is an error with the monitor's own words.
    pub fn request(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Vec<u8>> {
        self.request_within(method, path, body, CONTROL_TIMEOUT)
    }

    pub fn request_within(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        timeout: Duration,
    ) -> Result<Vec<u8>> {
        let wrong = |reason: String| Error::Control(format!("`{method} {path}`: {reason}"));
        let answer = self.exchange(method, path, body, timeout).map_err(|error| wrong(error.to_string()))?;
        if (200..300).contains(&answer.status) {
            return Ok(answer.body);
        }
        let said = String::from_utf8_lossy(&answer.body).trim().to_owned();
        Err(wrong(format!("status {}: {said}", answer.status)))
    }

    /// Waits for the socket, which the monitor makes soon after its start.
    fn connect(&self) -> std::io::Result<UnixStream> {
        let deadline = Instant::now() + SOCKET_TIMEOUT;
        // The address of a socket has room for about a hundred bytes; through a handle of its folder it is always short.
        let folder = self.socket.parent().unwrap_or(Path::new("/"));
        let handle = std::fs::File::open(folder)?;
        let name = self.socket.file_name().unwrap_or_default();
        let path = Path::new("/proc/self/fd").join(handle.as_raw_fd().to_string()).join(name);
        loop {
            match UnixStream::connect(&path) {
                Err(error)
                    if matches!(
                        error.kind(),
                        std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused
                    ) && Instant::now() < deadline =>
                {
                    std::thread::sleep(Duration::from_millis(2));
                }
                result => return result,
            }
        }
    }

    fn exchange(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        timeout: Duration,
    ) -> std::io::Result<Answer> {
        let mut stream = self.connect()?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(CONTROL_TIMEOUT))?;
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes())?;
        let mut bytes = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            match parse(&bytes) {
                Ok(Some(answer)) => return Ok(answer),
                Ok(None) => {}
                Err(reason) => return Err(std::io::Error::other(format!("a strange answer: {reason}"))),
            }
            match stream.read(&mut buffer) {
                Ok(0) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => bytes.extend(&buffer[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn answers_are_read() {
        let answer = |status, body: &str| Ok(Some(Answer { status, body: body.as_bytes().to_vec() }));
        let cases: [(&str, std::result::Result<Option<Answer>, &str>); 9] = [
            ("HTTP/1.1 204 \r\nServer: x\r\n\r\n", answer(204, "")),
            ("HTTP/1.1 200 OK\r\ncontent-Length: 2\r\n\r\n{}more", answer(200, "{}")),
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}", Ok(None)),
            ("HTTP/1.1 400 Bad\r\nConte", Ok(None)),
            ("SSH-2.0\r\n\r\n", Err("it is no HTTP")),
            ("HTTP/1.1\r\n\r\n", Err("it has no status")),
            ("HTTP/1.1 200\r\nnothing\r\n\r\n", Err("a header has no colon")),
            ("HTTP/1.1 200\r\nContent-Length: -1\r\n\r\n", Err("its length is no number")),
            ("HTTP/1.1 200\r\nContent-Length: 99999999\r\n\r\n", Err("the body is too long")),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text.as_bytes()), expected, "{text:?}");
        }
        assert_eq!(parse(&[b'x'; HTTP_HEAD_MAX + 1]), Err("the head is too long"));
    }

    proptest! {
        #[test]
        fn anything_is_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }

        /// However an answer is cut, it is incomplete until its last byte and the same after it.
        #[test]
        fn an_answer_comes_in_pieces(status in 100u16..600, body in "[ -~]{0,40}", cut in 0usize..200) {
            let text = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            let cut = cut.min(text.len());
            let part = parse(&text.as_bytes()[..cut]).unwrap();
            prop_assert_eq!(part.is_some(), cut == text.len());
            prop_assert_eq!(parse(text.as_bytes()).unwrap().unwrap(), Answer { status, body: body.into_bytes() });
        }
    }
}
