pub fn words() -> &'static str {
    if cfg!(all(feature = "loud", feature = "cargo")) { "HELLO" } else { "hello" }
}

#[cfg(test)]
mod tests {
    #[test]
    fn says_something() {
        assert!(!super::words().is_empty());
    }
}
