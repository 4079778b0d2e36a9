//! The memory of caches' clients: whatever a cache holds and however large a path is, the process stays below 64 MiB; and
//! of the server, whatever is sent to it and however little is taken.
//! Looked at is the peak that the kernel counted, of the program itself.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use rednix_cache::NarInfo;
use rednix_cache::compression::Compression;
use rednix_store::PathInfo;
use rednix_store::hash::{Hash, HashAlgorithm, Hasher};
use rednix_store::path::output_path;

use crate::Outcome;
use crate::caches::{Machine, Server, text};
use crate::support::{scratch, verify, write};

pub const TESTS: [(&str, fn() -> Outcome); 5] = [
    ("cache_memory_of_hostile_entries", cache_memory_of_hostile_entries),
    ("cache_memory_of_windows", cache_memory_of_windows),
    ("cache_memory_of_pushing", cache_memory_of_pushing),
    ("cache_memory_of_logs", cache_memory_of_logs),
    ("cache_memory_of_windows_too_large", cache_memory_of_windows_too_large),
];

const MEMORY_KIB_MAX: u64 = 64 << 10;
/// Of the server: compressors for sixteen uploads, and pieces on their way to clients.
const SERVER_KIB_MAX: u64 = 160 << 10;

/// The peak so far, in KiB.
fn counted(status: &str) -> u64 {
    let text = std::fs::read_to_string(status).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or_default()
}

/// First argument that turns this test program into one that starts another and writes how much memory it took. A
/// program that has ended can only be asked for by whoever waited for it; and what starts it counts as its own until
/// then, so that this is no work for the large process of the tests.
pub const MEASURED: &str = "measured";

/// The file to write to, the program, its arguments.
#[allow(unsafe_code)]
pub fn measured(arguments: &[std::ffi::OsString]) -> ! {
    let status = Command::new(&arguments[1]).args(&arguments[2..]).status().expect("it can be started");
    // SAFETY: rusage is plain data for which zero bytes are valid, and it outlives the call.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: as above: the call fills it and keeps no pointer.
    unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, &mut usage) };
    std::fs::write(&arguments[0], usage.ru_maxrss.to_string()).expect("it can be written");
    std::process::exit(status.code().unwrap_or(255));
}

/// Runs to the end, and returns the peak of the memory in KiB, and what was said.
fn peak(command: &mut Command) -> Result<(u64, Option<i32>, String), String> {
    let folder = scratch();
    let file = folder.path().join("peak");
    let mut wrapped = Command::new(std::env::current_exe().map_err(|e| e.to_string())?);
    wrapped.arg(MEASURED).arg(&file).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => wrapped.env(name, value),
            None => wrapped.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        wrapped.current_dir(folder);
    }
    let output = wrapped.stdin(Stdio::null()).stdout(Stdio::null()).output().map_err(|e| e.to_string())?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let counted = std::fs::read_to_string(&file).map_err(|e| format!("{e}: {said}"))?;
    Ok((counted.parse().map_err(|e| format!("{e}: {counted}"))?, output.status.code(), said))
}

fn bounded(what: &str, (most, status, said): (u64, Option<i32>, String)) -> Result<(), String> {
    match (most <= MEMORY_KIB_MAX, status) {
        (true, Some(0)) => {
            eprintln!("{what}: at most {most} KiB");
            Ok(())
        }
        (true, _) => Err(format!("{what}: {said}")),
        (false, _) => Err(format!("{what}: {most} KiB, more than {MEMORY_KIB_MAX}")),
    }
}

/// The archive of one file of so many bytes that hardly repeat within a window, and do beyond: text that packs well.
fn nar(bytes: usize, seed: u64, out: &mut dyn Write) -> std::io::Result<()> {
    let string = |out: &mut dyn Write, text: &[u8]| {
        out.write_all(&(text.len() as u64).to_le_bytes())?;
        out.write_all(text)?;
        out.write_all(&[0; 8][..text.len().wrapping_neg() % 8])
    };
    for text in ["nix-archive-1", "(", "type", "regular", "contents"] {
        string(out, text.as_bytes())?;
    }
    assert_eq!(bytes % 4096, 0);
    out.write_all(&(bytes as u64).to_le_bytes())?;
    for number in 0..bytes as u64 / 4096 {
        let mut page = [seed as u8; 4096];
        page[..8].copy_from_slice(&number.to_le_bytes());
        out.write_all(&page)?;
    }
    string(out, b")")
}

/// A cache in a folder whose every path has an archive packed in its own way.
struct Cache {
    folder: PathBuf,
    paths: Vec<String>,
}

impl Cache {
    fn add(
        &mut self,
        compression: Compression,
        bytes: usize,
        pack: impl FnOnce(&[u8]) -> Result<Vec<u8>, String>,
    ) -> Result<(), String> {
        let seed = self.paths.len() as u64 + 1;
        let mut plain = Vec::new();
        nar(bytes, seed, &mut plain).map_err(|e| e.to_string())?;
        let mut hasher = Hasher::new(HashAlgorithm::Sha256);
        hasher.update(&plain);
        let name = format!("large-{seed}");
        let path = output_path("out", &Hash::sha256(name.as_bytes()), &name).map_err(|e| e.to_string())?;
        let info = PathInfo::new(path.clone(), hasher.finish(), plain.len() as u64);
        let entry = NarInfo::of(&info, format!("nar/{name}"), compression);
        std::fs::create_dir_all(self.folder.join("nar")).map_err(|e| e.to_string())?;
        std::fs::write(self.folder.join(&entry.url), pack(&plain)?).map_err(|e| e.to_string())?;
        write(&self.folder.join(format!("{}.narinfo", path.hash_part())), &entry.to_text());
        self.paths.push(path.to_string());
        Ok(())
    }

    fn url(&self) -> String {
        format!("file://{}?trusted=1", self.folder.display())
    }
}

fn zstd(plain: &[u8], window_log: u32) -> Result<Vec<u8>, String> {
    let pack = || {
        let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1)?;
        encoder.window_log(window_log)?;
        encoder.write_all(plain)?;
        encoder.finish()
    };
    pack().map_err(|e: std::io::Error| e.to_string())
}

/// Packed fast, with a dictionary of so many MiB.
fn xz(plain: &[u8], dictionary: u32) -> Result<Vec<u8>, String> {
    let pack = || {
        let mut options = liblzma::stream::LzmaOptions::new_preset(0)?;
        let mut filters = liblzma::stream::Filters::new();
        filters.lzma2(options.dict_size(dictionary << 20));
        let stream = liblzma::stream::Stream::new_stream_encoder(&filters, liblzma::stream::Check::Crc64)?;
        let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
        encoder.write_all(plain)?;
        encoder.finish()
    };
    pack().map_err(|e: std::io::Error| e.to_string())
}

/// More at once than there is room for: six transfers, with windows of 8 to 33 MiB in all orders.
fn cache_memory_of_windows() -> Outcome {
    let folder = scratch();
    let mut cache = Cache { folder: folder.path().join("cache"), paths: Vec::new() };
    for _ in 0..2 {
        for window_log in [25, 24, 23] {
            cache.add(Compression::Zstd, 34 << 20, |plain| zstd(plain, window_log))?;
        }
        for dictionary in [8, 32, 16] {
            cache.add(Compression::Xz, 34 << 20, |plain| xz(plain, dictionary))?;
        }
    }
    let machine = Machine::new("");
    let mut command = machine.command(&["cache", "pull", "--from", &cache.url()]);
    bounded("windows of 8 to 32 MiB", peak(command.args(&cache.paths))?)?;
    verify(&machine.store())?;
    let other = Machine::new("");
    let from = format!("local?root={}&trusted=1", machine.store().display());
    let mut command = other.command(&["cache", "pull", "--from", &from]);
    bounded("from one store into another", peak(command.args(&cache.paths))?)?;
    Ok(None)
}

/// What alone needs more than all may have is refused, and says so; where little comes out of it, it fits.
fn cache_memory_of_windows_too_large() -> Outcome {
    let folder = scratch();
    let mut cache = Cache { folder: folder.path().join("cache"), paths: Vec::new() };
    cache.add(Compression::Xz, 4 << 20, |plain| xz(plain, 64))?;
    cache.add(Compression::Zstd, 4 << 20, |plain| zstd(plain, 27))?;
    let machine = Machine::new("");
    let mut command = machine.command(&["cache", "pull", "--from", &cache.url()]);
    bounded("little behind large windows", peak(command.args(&cache.paths))?)?;
    cache.add(Compression::Xz, 40 << 20, |plain| xz(plain, 64))?;
    cache.add(Compression::Zstd, 40 << 20, |plain| zstd(plain, 26))?;
    for path in &cache.paths[2..] {
        let (most, status, said) =
            peak(&mut machine.command(&["cache", "pull", "--from", &cache.url(), path]))?;
        if status != Some(1) || !said.contains("is not unpacked: unpacking it takes") || most > MEMORY_KIB_MAX
        {
            return Err(format!("{status:?}, {most} KiB: {said}"));
        }
    }
    verify(&machine.store())?;
    Ok(None)
}

/// Files of a folder over HTTP.
fn serve(folder: PathBuf) -> Result<String, String> {
    use std::io::BufRead;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").map_err(|e| e.to_string())?;
    let address = listener.local_addr().map_err(|e| e.to_string())?;
    let answer = move |stream: &std::net::TcpStream, folder: &PathBuf| -> std::io::Result<bool> {
        let (mut reader, mut first) = (std::io::BufReader::new(stream), String::new());
        reader.read_line(&mut first)?;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(false);
            }
            if line.trim().is_empty() {
                break;
            }
        }
        let place = first.split(' ').nth(1).unwrap_or_default().trim_start_matches('/');
        let (status, body) = match std::fs::read(folder.join(place)) {
            Ok(body) => (200, body),
            Err(_) => (404, Vec::new()),
        };
        let mut stream = stream;
        write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n", body.len())?;
        stream.write_all(&body)?;
        Ok(true)
    };
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let folder = folder.clone();
            std::thread::spawn(move || while answer(&stream, &folder).is_ok_and(|more| more) {});
        }
    });
    Ok(format!("http://{address}?trusted=1"))
}

/// A hundred entries that are as large as one may be: nothing but what looks bad in messages, and references without end.
fn cache_memory_of_hostile_entries() -> Outcome {
    let folder = scratch();
    let foreign = |number: usize| {
        let name = format!("x{number}");
        output_path("out", &Hash::sha256(name.as_bytes()), "x").expect("a name")
    };
    let bad_line = |_: usize, _: &NarInfo| "\u{1}".repeat((1 << 20) - 1);
    let references = |number: usize, entry: &NarInfo| {
        let mut entry = entry.clone();
        entry.references = (0..20_000).map(|other| foreign(number * 20_000 + other)).collect();
        entry.to_text()
    };
    let kinds: [(&str, &dyn Fn(usize, &NarInfo) -> String); 2] =
        [("bad lines", &bad_line), ("references", &references)];
    for (what, text) in kinds {
        let cache = folder.path().join(what);
        let mut paths = Vec::new();
        for number in 0..100 {
            let name = format!("hostile-{number}");
            let path =
                output_path("out", &Hash::sha256(name.as_bytes()), &name).map_err(|e| e.to_string())?;
            let info = PathInfo::new(path.clone(), Hash::sha256(b""), 100);
            let entry = NarInfo::of(&info, "nar/x".to_owned(), Compression::None);
            write(&cache.join(format!("{}.narinfo", path.hash_part())), &text(number, &entry));
            paths.push(path.to_string());
        }
        for address in [format!("file://{}?trusted=1", cache.display()), serve(cache)?] {
            let machine = Machine::new("");
            let mut command = machine.command(&["cache", "pull", "--from", &address]);
            let (most, status, said) = peak(command.args(&paths))?;
            eprintln!("{what} from {address}: at most {most} KiB, {} bytes said", said.len());
            if status != Some(1) || most > MEMORY_KIB_MAX || said.len() > 200_000 {
                let start: String = said.chars().take(2000).collect();
                return Err(format!("{what}: {status:?}, {most} KiB, {} bytes: {start}", said.len()));
            }
        }
    }
    Ok(None)
}

/// A bucket that takes everything and keeps nothing, for as many requests as come.
fn bucket() -> Result<String, String> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").map_err(|e| e.to_string())?;
    let address = listener.local_addr().map_err(|e| e.to_string())?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || while answer(&stream).is_ok_and(|more| more) {});
        }
    });
    Ok(format!("s3://bucket?endpoint={address}&scheme=http"))
}

fn answer(stream: &std::net::TcpStream) -> std::io::Result<bool> {
    use std::io::BufRead;
    let mut reader = std::io::BufReader::new(stream);
    let (mut first, mut length) = (String::new(), 0);
    reader.read_line(&mut first)?;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(false);
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or_default();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    std::io::copy(&mut reader.take(length), &mut std::io::sink())?;
    let (status, body) = match first.split(' ').next() {
        Some("GET" | "HEAD") => (404, ""),
        Some("POST") if first.contains("uploads=") => (200, "<R><UploadId>u</UploadId></R>"),
        _ => (200, ""),
    };
    let length = body.len();
    let mut stream = stream;
    write!(stream, "HTTP/1.1 {status} X\r\nETag: \"t\"\r\nContent-Length: {length}\r\n\r\n{body}")?;
    Ok(true)
}

/// Several large paths at once into a bucket: each in parts, three of 32 MiB at a time.
fn cache_memory_of_pushing() -> Outcome {
    let folder = scratch();
    let machine = Machine::new("");
    let mut paths = Vec::new();
    let mut state = 1u64;
    for number in 0..4 {
        let file = folder.path().join(format!("noise-{number}"));
        let mut out = std::io::BufWriter::new(std::fs::File::create(&file).map_err(|e| e.to_string())?);
        for _ in 0..(80 << 20) / 8 {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let mixed = (state ^ state >> 29).wrapping_mul(0xbf58476d1ce4e5b9);
            out.write_all(&mixed.to_le_bytes()).map_err(|e| e.to_string())?;
        }
        drop(out);
        let added = machine.call(&["store", "add", text(&file)?]);
        added.expect(0, &[])?;
        std::fs::remove_file(&file).map_err(|e| e.to_string())?;
        paths.push(added.stdout.trim().to_owned());
    }
    let mut command = machine.command(&["cache", "push", &bucket()?]);
    command.args(&paths).env("AWS_ACCESS_KEY_ID", "a").env("AWS_SECRET_ACCESS_KEY", "b");
    bounded("pushing 4 paths of 80 MiB", peak(&mut command)?)?;
    Ok(None)
}

/// Logs of 48 MiB, twelve coming at once, and forty going out to clients that do not read.
fn cache_memory_of_logs() -> Outcome {
    const LINES: u64 = 1 << 20;
    let folder = scratch();
    let token = folder.path().join("token");
    write(&token, "token-of-the-test");
    let server = Server::start(Some(&folder.path().join("store")), &["--token", text(&token)?])?;
    let address = server.url.trim_start_matches("http://").to_owned();
    let place = |number: usize| format!("/log/{number:0>32}-x.drv");
    let connect = |head: String| {
        let stream = std::net::TcpStream::connect(&address)?;
        (&stream).write_all(head.as_bytes())?;
        Ok::<_, std::io::Error>(stream)
    };
    let upload = |number: usize| {
        let size = LINES * 48;
        let stream = connect(format!(
            "PUT {} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer token-of-the-test\r\nContent-Length: {size}\r\n\r\n",
            place(number)
        ))?;
        let mut out = std::io::BufWriter::with_capacity(1 << 20, &stream);
        for line in 0..LINES {
            writeln!(out, "line {line:>10} of the log of the derivation {number:>2}")?;
        }
        out.flush()?;
        drop(out);
        let mut answer = String::new();
        (&stream).read_to_string(&mut answer)?;
        Ok::<_, std::io::Error>(answer)
    };
    std::thread::scope(|scope| {
        let sent: Vec<_> = (0..12).map(|number| scope.spawn(move || upload(number))).collect();
        for upload in sent {
            let answer = upload.join().map_err(|_| "an upload panicked")?.map_err(|e| e.to_string())?;
            if !answer.starts_with("HTTP/1.1 201") {
                return Err(answer);
            }
        }
        Ok(())
    })?;
    let get = |number: usize| {
        let place = place(number % 12);
        connect(format!("GET {place} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
    };
    let silent: Result<Vec<_>, _> = (0..40).map(get).collect();
    let silent = silent.map_err(|e| e.to_string())?;
    std::thread::sleep(Duration::from_secs(2));
    let most = counted(&format!("/proc/{}/status", server.id()));
    drop(silent);
    // And who reads gets all of it.
    let mut all = Vec::new();
    get(3).and_then(|mut stream| stream.read_to_end(&mut all)).map_err(|e| e.to_string())?;
    if (all.len() as u64) < LINES * 48
        || !String::from_utf8_lossy(&all).contains("line    1048575 of the log")
    {
        return Err(format!("the log came with {} bytes", all.len()));
    }
    if most == 0 || most > SERVER_KIB_MAX {
        return Err(format!("the server took {most} KiB, more than {SERVER_KIB_MAX}"));
    }
    eprintln!("the server with 52 logs of 48 MiB: at most {most} KiB");
    Ok(None)
}
