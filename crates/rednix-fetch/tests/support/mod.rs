//! A tiny web server on the loopback, for tests: it can break off, stall, refuse, redirect and change its mind.
//!
//! Not a real server: one thread per connection, one request per connection.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What a path does.
#[derive(Clone)]
#[allow(dead_code)]
pub enum Reply {
    /// A file with ranges and an entity tag.
    File(Vec<u8>),
    /// A file, always sent whole.
    NoRange(Vec<u8>),
    /// The first answer breaks off after so many bytes.
    CutOnce(Vec<u8>, usize),
    /// As `CutOnce`, and afterwards the file is another one.
    CutThenChanged(Vec<u8>, usize, Vec<u8>),
    /// Always breaks off after so many bytes, and always sends from the start.
    CutAlways(Vec<u8>, usize),
    Status(u16),
    /// A status for the first answer, then the file.
    StatusOnce(u16, Vec<u8>),
    Redirect(String),
    /// Some bytes, then nothing.
    Stall(Vec<u8>),
    /// More bytes than anyone asked for, without saying how many.
    Endless,
}

pub struct Server {
    pub base: String,
    log: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub fn start(replies: &[(&str, Reply)]) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let replies: BTreeMap<String, Reply> =
            replies.iter().map(|(path, reply)| (path.to_string(), reply.clone())).collect();
        let replies = Arc::new(replies);
        let log = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&log);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (replies, log) = (Arc::clone(&replies), Arc::clone(&shared));
                std::thread::spawn(move || {
                    let _ = answer(stream, &replies, &log);
                });
            }
        });
        Server { base, log }
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// All requests so far: path, and the range asked for.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }
}

struct Request {
    path: String,
    range_start: Option<usize>,
    if_range: Option<String>,
}

fn read_request(stream: &TcpStream) -> Option<Request> {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let first = lines.next()?;
    // A proxy is asked for whole urls.
    let target = first.split(' ').nth(1)?;
    let path = match target.strip_prefix("http://") {
        Some(rest) => format!("proxied:{rest}"),
        None => target.to_owned(),
    };
    let (mut range_start, mut if_range) = (None, None);
    for line in lines.take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':')?;
        match name.to_ascii_lowercase().as_str() {
            "range" => range_start = value.trim().strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok(),
            "if-range" => if_range = Some(value.trim().to_owned()),
            _ => {}
        }
    }
    Some(Request { path, range_start, if_range })
}

fn tag(contents: &[u8]) -> String {
    let sum = contents
        .iter()
        .fold(contents.len() as u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
    format!("\"{sum:x}\"")
}

/// Sends a file as the request wants it, at most `limit` bytes of it.
fn send(
    stream: &mut TcpStream,
    request: &Request,
    contents: &[u8],
    ranges: bool,
    limit: usize,
) -> std::io::Result<()> {
    let tag = tag(contents);
    let unchanged = request.if_range.as_ref().is_none_or(|value| *value == tag);
    let start = request.range_start.filter(|_| ranges && unchanged);
    let body = match start {
        Some(start) if start >= contents.len() => {
            return write!(stream, "HTTP/1.1 416 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
        Some(start) => {
            let (last, size) = (contents.len() - 1, contents.len());
            write!(stream, "HTTP/1.1 206 Part\r\nContent-Range: bytes {start}-{last}/{size}\r\n")?;
            &contents[start..]
        }
        None => {
            write!(stream, "HTTP/1.1 200 Yes\r\n")?;
            contents
        }
    };
    write!(stream, "ETag: {tag}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len())?;
    stream.write_all(&body[..body.len().min(limit)])
}

fn answer(
    mut stream: TcpStream,
    replies: &BTreeMap<String, Reply>,
    log: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let Some(request) = read_request(&stream) else { return Ok(()) };
    let range = request.range_start.map(|start| format!(" from {start}")).unwrap_or_default();
    let line = format!("{}{range}", request.path);
    let earlier = {
        let mut log = log.lock().unwrap();
        let earlier = log.iter().filter(|line| line.split(' ').next() == Some(&request.path)).count();
        log.push(line);
        earlier
    };
    let whole = usize::MAX;
    let status = |stream: &mut TcpStream, status: u16| {
        write!(stream, "HTTP/1.1 {status} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    };
    match replies.get(&request.path) {
        None => status(&mut stream, 404),
        Some(Reply::File(contents)) => send(&mut stream, &request, contents, true, whole),
        Some(Reply::NoRange(contents)) => send(&mut stream, &request, contents, false, whole),
        Some(Reply::CutOnce(contents, limit)) => {
            send(&mut stream, &request, contents, true, if earlier == 0 { *limit } else { whole })
        }
        Some(Reply::CutThenChanged(contents, limit, _)) if earlier == 0 => {
            send(&mut stream, &request, contents, true, *limit)
        }
        Some(Reply::CutThenChanged(_, _, changed)) => send(&mut stream, &request, changed, true, whole),
        Some(Reply::CutAlways(contents, limit)) => send(&mut stream, &request, contents, false, *limit),
        Some(Reply::Status(code)) => status(&mut stream, *code),
        Some(Reply::StatusOnce(code, _)) if earlier == 0 => status(&mut stream, *code),
        Some(Reply::StatusOnce(_, contents)) => send(&mut stream, &request, contents, true, whole),
        Some(Reply::Redirect(to)) => {
            write!(
                stream,
                "HTTP/1.1 302 There\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            )
        }
        Some(Reply::Stall(contents)) => {
            write!(stream, "HTTP/1.1 200 Yes\r\nContent-Length: 1000000\r\n\r\n")?;
            stream.write_all(contents)?;
            std::thread::sleep(Duration::from_secs(1000));
            Ok(())
        }
        Some(Reply::Endless) => {
            write!(stream, "HTTP/1.1 200 Yes\r\nConnection: close\r\n\r\n")?;
            let block = [0; 65536];
            for _ in 0..1000 {
                stream.write_all(&block)?;
            }
            Ok(())
        }
    }
}
