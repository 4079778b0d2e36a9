//! Large files into a bucket, in parts, several at once, each read from the file as it is sent. Until the last request
//! the bucket shows nothing of them; parts of an upload that failed are given back.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::Mutex;
use std::time::Duration;

use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, ETAG};

use super::Transport;
use super::http::{Http, patience};
use super::s3::element;
use crate::error::{Error, Result, quoted};
use crate::limits::{REFUSAL_BYTES_MAX, S3_PART_BYTES_MIN, S3_PARTS_MAX, S3_PARTS_PARALLEL};

/// Some bytes of a file, wherever others read it.
struct Part {
    file: File,
    at: u64,
    left: u64,
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.file.read_at(&mut buffer[..wanted], self.at)?;
        self.at += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}

/// Starts and lengths of the parts of a file: as few as may be, as many as are allowed.
fn parts(size: u64) -> Vec<(u64, u64)> {
    let length = S3_PART_BYTES_MIN.max(size.div_ceil(S3_PARTS_MAX));
    (0..size.div_ceil(length)).map(|number| (number * length, length.min(size - number * length))).collect()
}

pub(super) fn put(http: &Http, place: &str, kind: &'static str, file: &File, size: u64) -> Result<()> {
    let url = http.url(place);
    let begun = http.ask(|| {
        let request = http.request(Method::POST, place, &[("uploads", "")])?.header(CONTENT_TYPE, kind);
        text(http, &url, http.deliver(&url, request)?, http.patience().small)
    })?;
    let upload = element(&begun, "UploadId").filter(|id| !id.is_empty() && id.len() <= 1024);
    let upload = upload.ok_or_else(|| protocol(&url, "it began an upload without an `UploadId`"))?;
    // The only escapes that such an identifier may need.
    let upload =
        upload.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&");
    let done = send_parts(http, place, &url, &upload, file, size)
        .and_then(|tags| complete(http, place, &url, &upload, &tags));
    if done.is_err() {
        // Otherwise they are kept, and paid for. Nothing that anybody could see goes.
        let given_back = http.request(Method::DELETE, place, &[("uploadId", &upload)]);
        let _ = given_back.and_then(|request| http.deliver(&url, request));
    }
    done
}

fn protocol(url: &str, reason: &str) -> Error {
    Error::Protocol { url: url.to_owned(), reason: reason.to_owned() }
}

fn text(http: &Http, url: &str, response: reqwest::blocking::Response, time: Duration) -> Result<String> {
    let bytes = http.read_whole(url, response.take(REFUSAL_BYTES_MAX), None, REFUSAL_BYTES_MAX, time)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Sends all parts and returns their tags, in order.
fn send_parts(
    http: &Http,
    place: &str,
    url: &str,
    upload: &str,
    file: &File,
    size: u64,
) -> Result<Vec<String>> {
    let parts = parts(size);
    let next = Mutex::new(parts.iter().enumerate());
    let outcome = Mutex::new((vec![String::new(); parts.len()], None::<Error>));
    std::thread::scope(|scope| {
        for _ in 0..S3_PARTS_PARALLEL.min(parts.len()) {
            scope.spawn(|| {
                loop {
                    let taken = next.lock().unwrap_or_else(|e| e.into_inner()).next();
                    let Some((index, &(at, length))) = taken else { return };
                    let sent = send_part(http, place, url, upload, file, index + 1, at, length);
                    let mut outcome = outcome.lock().unwrap_or_else(|e| e.into_inner());
                    match sent {
                        Ok(tag) => outcome.0[index] = tag,
                        Err(error) => drop(outcome.1.get_or_insert(error)),
                    }
                    if outcome.1.is_some() {
                        return;
                    }
                }
            });
        }
    });
    let (tags, error) = outcome.into_inner().unwrap_or_else(|e| e.into_inner());
    error.map_or(Ok(tags), Err)
}

#[expect(clippy::too_many_arguments, reason = "a part is what all of these say")]
fn send_part(
    http: &Http,
    place: &str,
    url: &str,
    upload: &str,
    file: &File,
    number: usize,
    at: u64,
    length: u64,
) -> Result<String> {
    let number = number.to_string();
    http.ask(|| {
        let file = file.try_clone().map_err(|error| Error::io("read", "the archive to be sent", error))?;
        let body = reqwest::blocking::Body::sized(Part { file, at, left: length }, length);
        let request = http.request(Method::PUT, place, &[("partNumber", &number), ("uploadId", upload)])?;
        let response = http.deliver(url, request.timeout(patience(length)).body(body))?;
        let tag = response.headers().get(ETAG).and_then(|tag| tag.to_str().ok()).map(str::to_owned);
        tag.ok_or_else(|| protocol(url, "it took a part without an `ETag`"))
    })
}

fn complete(http: &Http, place: &str, url: &str, upload: &str, tags: &[String]) -> Result<()> {
    let mut body = "<CompleteMultipartUpload>".to_owned();
    for (index, tag) in tags.iter().enumerate() {
        let tag = tag.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        body.push_str(&format!("<Part><PartNumber>{}</PartNumber><ETag>{tag}</ETag></Part>", index + 1));
    }
    body.push_str("</CompleteMultipartUpload>");
    // Not repeated: a second request for what is complete by now is an error.
    let request = http.request(Method::POST, place, &[("uploadId", upload)])?;
    let request = request.header(CONTENT_TYPE, "application/xml").timeout(patience(0)).body(body);
    let answer = text(http, url, http.deliver(url, request)?, patience(0))?;
    // It may begin with "done" long before it is, and end with an error.
    match element(&answer, "Code") {
        Some(code) if answer.contains("<Error>") => {
            Err(protocol(url, &format!("it could not put the parts together: {}", quoted(code))))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn parts_are_the_whole_and_not_too_many(size in 1u64..(5 << 40)) {
            let parts = parts(size);
            prop_assert!(parts.len() as u64 <= S3_PARTS_MAX);
            let mut end = 0;
            for &(at, length) in &parts {
                prop_assert_eq!(at, end);
                prop_assert!(length > 0);
                end += length;
            }
            prop_assert_eq!(end, size);
            // All but the last have one length, which is what the storage wants.
            prop_assert!(parts.iter().rev().skip(1).all(|part| part.1 == parts[0].1 && part.1 >= S3_PART_BYTES_MIN));
        }
    }
}
