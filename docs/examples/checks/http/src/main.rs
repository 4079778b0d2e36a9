//! `http serve ADDRESS:PORT FOLDER` answers requests one after another; `http get ADDRESS:PORT /FILE` prints what a
//! server has, as much as it says there is: a connection may stay open. One request a connection, no ranges, no
//! encryption.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// How often an empty connection is looked at again.
const PATIENCE: u32 = 100;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["serve", address, folder] => serve(address, Path::new(folder)),
        ["get", address, path] => get(address, path),
        _ => {
            eprintln!("usage: http serve ADDRESS:PORT FOLDER | http get ADDRESS:PORT /FILE");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("http: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(address: &str, folder: &Path) -> io::Result<bool> {
    let listener = TcpListener::bind(address)?;
    println!("serving {} at {address}", folder.display());
    loop {
        let (stream, _) = listener.accept()?;
        if let Err(error) = answer(stream, folder) {
            eprintln!("http: {error}");
        }
    }
}

fn answer(mut stream: TcpStream, folder: &Path) -> io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).take(8192);
    let mut request = String::new();
    // Seen on Redox: the first read of a new connection may come back empty.
    for _ in 0..PATIENCE {
        if lines.read_line(&mut request)? > 0 {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut header = String::new();
    while lines.read_line(&mut header)? > 2 {
        header.clear();
    }
    let found = match request.split_whitespace().collect::<Vec<_>>().as_slice() {
        ["GET", path, _] => inside(path).and_then(|path| std::fs::read(folder.join(path)).ok()),
        _ => None,
    };
    let (status, body) = match found {
        Some(body) => ("200 OK", body),
        None => ("404 Not Found", b"not here\n".to_vec()),
    };
    println!("{} {status}", request.trim_end());
    let head = format!("HTTP/1.0 {status}\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes())?;
    stream.write_all(&body)
}

/// A path that stays in its folder.
fn inside(path: &str) -> Option<PathBuf> {
    let path = Path::new(path.trim_start_matches('/'));
    let stays = path.components().all(|part| matches!(part, Component::Normal(_)));
    stays.then(|| path.to_path_buf())
}

fn get(address: &str, path: &str) -> io::Result<bool> {
    let mut stream = TcpStream::connect(address)?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut lines = BufReader::new(stream);
    let mut status = String::new();
    lines.read_line(&mut status)?;
    // Without a length all that comes is the body.
    let mut length = u64::MAX;
    let mut header = String::new();
    while lines.read_line(&mut header)? > 2 {
        if let Some(("content-length", value)) = header.to_ascii_lowercase().split_once(':') {
            length = value.trim().parse().unwrap_or(u64::MAX);
        }
        header.clear();
    }
    let is_good = status.split_whitespace().nth(1) == Some("200");
    if !is_good {
        eprintln!("http: {}", status.trim_end());
    }
    io::copy(&mut lines.take(length), &mut io::stdout())?;
    Ok(is_good)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_inside() {
        assert_eq!(inside("/a/b"), Some(PathBuf::from("a/b")));
        assert_eq!(inside("/../b"), None);
        assert_eq!(inside("/a/../../b"), None);
    }

    #[test]
    fn a_file_goes_over_a_socket() {
        let folder = std::env::temp_dir().join(format!("http-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("file"), "contents").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let served = folder.clone();
        let server = std::thread::spawn(move || {
            for _ in 0..2 {
                answer(listener.accept().unwrap().0, &served).unwrap();
            }
        });
        assert!(get(&address, "/file").unwrap());
        assert!(!get(&address, "/missing").unwrap());
        server.join().unwrap();
        std::fs::remove_dir_all(folder).unwrap();
    }
}
