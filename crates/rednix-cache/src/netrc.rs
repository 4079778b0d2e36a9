//! netrc: users and passwords by host. Reads text; touches no file.

use rednix_store::hash::base64_encode as base64;

/// Entries in the file's order; the first that fits counts.
#[derive(Clone, Default)]
pub struct Netrc {
    entries: Vec<Entry>,
}

// Passwords are not shown.
#[derive(Clone)]
struct Entry {
    /// `None` is `default`.
    host: Option<String>,
    login: String,
    password: String,
}

impl std::fmt::Debug for Netrc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Netrc({} entries)", self.entries.len())
    }
}

impl Netrc {
    pub fn parse(text: &str) -> Netrc {
        let mut netrc = Netrc::default();
        let mut words = words(text).into_iter();
        while let Some(word) = words.next() {
            match word.as_str() {
                "machine" => netrc.begin(words.next()),
                "default" => netrc.begin(None),
                "login" => netrc.set(words.next(), |entry| &mut entry.login),
                "password" => netrc.set(words.next(), |entry| &mut entry.password),
                // `account` and `macdef` mean nothing over HTTP.
                _ => drop(words.next()),
            }
        }
        netrc
    }

    /// The same token for every host: for a run that talks to one cache only.
    pub fn token(token: &str) -> Netrc {
        Netrc { entries: vec![Entry { host: None, login: String::new(), password: token.to_owned() }] }
    }

    fn begin(&mut self, host: Option<String>) {
        self.entries.push(Entry { host, login: String::new(), password: String::new() });
    }

    fn set(&mut self, value: Option<String>, field: impl Fn(&mut Entry) -> &mut String) {
        if let (Some(entry), Some(value)) = (self.entries.last_mut(), value) {
            *field(entry) = value;
        }
    }

    /// The value of `Authorization` for a host.
    pub fn authorization(&self, host: &str) -> Option<String> {
        let fits = |entry: &&Entry| entry.host.as_deref().is_none_or(|name| name.eq_ignore_ascii_case(host));
        let entry = self.entries.iter().find(fits)?;
        Some(format!("Basic {}", base64(format!("{}:{}", entry.login, entry.password).as_bytes())))
    }
}

/// Words between blanks; in quotes with backslashes, as curl reads them. A `#` at a line's start is a comment.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
        let mut characters = line.chars().peekable();
        while let Some(&first) = characters.peek() {
            if first.is_whitespace() {
                characters.next();
                continue;
            }
            let is_quoted = first == '"';
            if is_quoted {
                characters.next();
            }
            let mut word = String::new();
            while let Some(&next) = characters.peek() {
                if is_quoted && next == '"' || !is_quoted && next.is_whitespace() {
                    break;
                }
                characters.next();
                match next {
                    '\\' if is_quoted => word.extend(characters.next()),
                    _ => word.push(next),
                }
            }
            if is_quoted {
                characters.next();
            }
            words.push(word);
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_fitting_entry_counts() {
        let netrc = Netrc::parse(
            "# comment\nmachine a.example login u password p\nmachine b.example\n login v\n password \"q \\\"r\"\ndefault login d password e",
        );
        for (host, plain) in [("a.example", "u:p"), ("B.example", "v:q \"r"), ("c", "d:e")] {
            assert_eq!(netrc.authorization(host).unwrap(), format!("Basic {}", base64(plain.as_bytes())));
        }
        assert!(Netrc::parse("machine x").authorization("y").is_none());
    }
}
