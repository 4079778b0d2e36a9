//! Running a program of the host (git, cargo, gpgv) without a terminal, with limits on time and output.
//!
//! Knows nothing of what the programs do.

use std::io::{self, Read};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::config::FetchConfig;
use crate::error::FetchError;
use crate::limits;

/// What a program left behind.
#[derive(Debug)]
pub struct Finished {
    pub is_success: bool,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Finished {
    /// Its last words, without empty lines, for an error.
    pub fn last_words(&self) -> String {
        let lines: Vec<&str> =
            self.stderr.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
        let start = lines.len().saturating_sub(limits::PROGRAM_LINES_MAX);
        let words = lines[start..].join("\n  ");
        if words.is_empty() { "it ended without a word".to_owned() } else { words }
    }
}

/// Runs a program to its end. A program that cannot be started is an error, one that fails is not.
pub fn run(config: &FetchConfig, command: Command) -> Result<Finished, FetchError> {
    run_with(config, command, Stdio::null())
}

/// As [`run`], with something on standard input.
pub fn run_with(config: &FetchConfig, mut command: Command, stdin: Stdio) -> Result<Finished, FetchError> {
    config.check_cancel()?;
    let program = command.get_program().to_string_lossy().into_owned();
    let wrap = |source: io::Error| FetchError::Program { program: program.clone(), source };
    command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(wrap)?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let deadline = Instant::now() + Duration::from_secs(limits::PROGRAM_RUN_S_MAX);
    std::thread::scope(|scope| {
        let stdout = scope.spawn(move || stdout.map(drain).unwrap_or_default());
        let stderr = scope.spawn(move || stderr.map(drain).unwrap_or_default());
        let mut pause = Duration::from_millis(1);
        let status = loop {
            match child.try_wait().map_err(wrap)? {
                Some(status) => break Some(status),
                None if Instant::now() > deadline || config.check_cancel().is_err() => {
                    let _ = child.kill();
                    let _ = child.wait();
                    break None;
                }
                None => std::thread::sleep(pause),
            }
            pause = (pause * 2).min(Duration::from_millis(20));
        };
        config.check_cancel()?;
        let stdout = stdout.join().unwrap_or_default();
        let mut stderr = String::from_utf8_lossy(&stderr.join().unwrap_or_default()).into_owned();
        if status.is_none() {
            stderr.push_str(&format!("\nstopped after {} seconds", limits::PROGRAM_RUN_S_MAX));
        }
        Ok(Finished { is_success: status.is_some_and(|status| status.success()), stdout, stderr })
    })
}

/// Reads to the end, keeping the first part up to the limit.
fn drain(mut from: impl Read) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut buffer = [0; 8192];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return kept,
            Ok(count) => {
                let room = limits::PROGRAM_OUTPUT_BYTES_MAX.saturating_sub(kept.len());
                kept.extend_from_slice(&buffer[..count.min(room)]);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return kept,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cancelled_program_is_killed() {
        let config = FetchConfig::new("/cache");
        let cancel = std::sync::Arc::clone(&config.cancel);
        let started = Instant::now();
        std::thread::scope(|scope| {
            let running = scope.spawn(|| {
                let mut command = Command::new("sleep");
                command.arg("1000");
                run(&config, command)
            });
            std::thread::sleep(Duration::from_millis(50));
            cancel.store(true, std::sync::atomic::Ordering::Relaxed);
            assert!(matches!(running.join().unwrap(), Err(FetchError::Cancelled)));
        });
        assert!(started.elapsed() < Duration::from_secs(500));
    }

    #[test]
    fn outputs_and_failures() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo out; echo one >&2; echo >&2; echo two >&2; exit 3"]);
        let finished = run(&FetchConfig::new("/cache"), command).unwrap();
        assert!(!finished.is_success);
        assert_eq!(finished.stdout, b"out\n");
        assert_eq!(finished.last_words(), "one\n  two");
        let error =
            run(&FetchConfig::new("/cache"), Command::new("/absent/program")).unwrap_err().to_string();
        assert!(error.contains("cannot run `/absent/program`"), "{error}");
    }
}
