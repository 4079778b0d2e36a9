//! How sizes, times and events read for people. Pure functions.

use rednix_events::{Event, Outcome};

/// `1.5 MB`, in steps of 1000.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 || value >= 99.5 {
        format!("{value:.0} {}", UNITS[unit])
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

/// `0.4 s`, `12 s`, `3 min 05 s`.
pub fn duration(milliseconds: u64) -> String {
    let seconds = milliseconds as f64 / 1000.0;
    if seconds < 10.0 {
        format!("{seconds:.1} s")
    } else if seconds < 60.0 {
        format!("{seconds:.0} s")
    } else {
        let whole = milliseconds / 1000;
        format!("{} min {:02} s", whole / 60, whole % 60)
    }
}

/// What a URL is about: its last part.
pub fn short_url(url: &str) -> &str {
    if let Some(name) = url.strip_prefix("crate:") {
        return name;
    }
    url.trim_end_matches('/').rsplit('/').next().unwrap_or(url)
}

/// `1 build`, `2 builds`.
pub fn count(number: u64, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// The line for events that leave a lasting line whatever the view; None for those that do not.
pub fn lasting(event: &Event) -> Option<String> {
    Some(match event {
        Event::Plan { builds: 0, fetches: 0, .. } => return None,
        Event::Plan { builds, fetches, fetch_bytes } => {
            let mut parts = Vec::new();
            if *builds > 0 {
                parts.push(count(*builds, "build"));
            }
            if *fetches > 0 {
                let bytes =
                    if *fetch_bytes > 0 { format!(" ({})", size(*fetch_bytes)) } else { String::new() };
                parts.push(format!("{}{bytes}", count(*fetches, "fetch").replace("fetchs", "fetches")));
            }
            format!("to do: {}", parts.join(", "))
        }
        Event::Step { what } => what.clone(),
        Event::Warning { message } => format!("warning: {message}"),
        Event::Notice { message } => message.clone(),
        Event::TestDone { name, outcome, duration_ms, message } => match outcome {
            Outcome::Passed => format!("test {name}: passed ({})", duration(*duration_ms)),
            Outcome::Failed => format!("test {name}: FAILED ({}): {message}", duration(*duration_ms)),
            Outcome::Skipped => format!("test {name}: skipped: {message}"),
        },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_read_well() {
        let cases =
            [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (1_500_000, "1.5 MB"), (123_456_789, "123 MB")];
        for (bytes, expected) in cases {
            assert_eq!(size(bytes), expected);
        }
        let cases = [(40, "0.0 s"), (9_940, "9.9 s"), (12_000, "12 s"), (185_000, "3 min 05 s")];
        for (milliseconds, expected) in cases {
            assert_eq!(duration(milliseconds), expected);
        }
    }

    #[test]
    fn urls_are_shortened_to_what_they_name() {
        for (url, expected) in [
            ("debian:trixie/pool/main/b/bash/bash_5_amd64.deb", "bash_5_amd64.deb"),
            ("crate:serde/1.0.0", "serde/1.0.0"),
            ("https://example.org/x/y.tar.gz", "y.tar.gz"),
        ] {
            assert_eq!(short_url(url), expected);
        }
    }
}
