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

/// User and password out of an address, ready to be sent. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Login(String);

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Login")
    }
}

impl Login {
    /// Takes `user:password@` out of an address (RFC 3986, section 3.2.1).
    pub fn take_from(address: &mut String) -> Option<Login> {
        let (start, end) = place_of_login(address, 0)?;
        let (user, password) = address[start..end].split_once(':').unwrap_or((&address[start..end], ""));
        let plain = [&unescaped(user), &b":"[..], &unescaped(password)].concat();
        address.replace_range(start..=end, "");
        Some(Login(format!("Basic {}", base64(&plain))))
    }

    /// The value of `Authorization`.
    pub fn authorization(&self) -> &str {
        &self.0
    }
}

/// From where to where there is a user in an address behind `from`; an `@` follows.
fn place_of_login(address: &str, from: usize) -> Option<(usize, usize)> {
    let start = from + address[from..].find("://")? + 3;
    let length = address[start..].find(['/', '?', '#', '&']).unwrap_or(address.len() - start);
    let end = address[start..start + length].rfind('@')?;
    Some((start, start + end))
}

/// An address as it can be shown: without users and passwords, also of addresses within it.
pub fn without_logins(address: &str) -> String {
    let (mut shown, mut from) = (address.to_owned(), 0);
    while let Some(next) = shown[from..].find("://") {
        if let Some((start, end)) = place_of_login(&shown, from) {
            shown.replace_range(start..=end, "");
        }
        from += next + 3;
    }
    shown
}

/// Bytes behind `%XX`.
fn unescaped(text: &str) -> Vec<u8> {
    let (mut bytes, mut left) = (Vec::new(), text.as_bytes());
    while let Some((&first, rest)) = left.split_first() {
        let digits =
            rest.get(..2).filter(|_| first == b'%').and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                left = &rest[2..];
            }
            None => {
                bytes.push(first);
                left = rest;
            }
        }
    }
    bytes
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

    #[test]
    fn logins_are_taken_out_of_addresses() {
        for (address, rest, plain) in [
            ("https://u:p@h/x", "https://h/x", Some("u:p")),
            ("http://us%40er:p%3a%zz@h:1", "http://h:1", Some("us@er:p:%zz")),
            ("http://a@b@h", "http://h", Some("a@b:")),
            ("http://h/a@b", "http://h/a@b", None),
            ("file:///a@b", "file:///a@b", None),
            ("local?root=/a@b", "local?root=/a@b", None),
        ] {
            let mut left = address.to_owned();
            let login = Login::take_from(&mut left).map(|login| login.0);
            let wanted = plain.map(|plain| format!("Basic {}", base64(plain.as_bytes())));
            assert_eq!((left.as_str(), login), (rest, wanted), "{address}");
            assert_eq!(without_logins(address), rest);
        }
        let bucket = "s3://b?endpoint=http://u:p@h:1&scheme=http";
        assert_eq!(without_logins(bucket), "s3://b?endpoint=http://h:1&scheme=http");
    }

    proptest::proptest! {
        #[test]
        fn any_address_has_a_login_or_not(text in "[a-z:/@%?&0-9é]{0,40}") {
            let (mut left, shown) = (text.clone(), without_logins(&text));
            match Login::take_from(&mut left) {
                Some(_) => proptest::prop_assert!(left.len() < text.len() && shown.len() < text.len()),
                None => proptest::prop_assert_eq!(left, text),
            }
        }
    }
}
