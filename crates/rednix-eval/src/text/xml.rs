//! Escaping for `builtins.toXML`, which writes all text in attributes between double quotes.

/// Appends text as an attribute's value. A line feed is escaped, because readers turn a raw one into a space.
pub fn escape_attribute(output: &mut Vec<u8>, text: &[u8]) {
    let mut rest = text;
    while let Some(index) = rest.iter().position(|byte| matches!(byte, b'"' | b'<' | b'>' | b'&' | b'\n')) {
        output.extend_from_slice(&rest[..index]);
        output.extend_from_slice(match rest[index] {
            b'"' => b"&quot;",
            b'<' => b"&lt;",
            b'>' => b"&gt;",
            b'&' => b"&amp;",
            _ => b"&#xA;",
        });
        rest = &rest[index + 1..];
    }
    output.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn escaped(text: &str) -> String {
        let mut output = Vec::new();
        escape_attribute(&mut output, text.as_bytes());
        String::from_utf8(output).unwrap()
    }

    #[test]
    fn special_characters_are_escaped() {
        for (text, expected) in [
            ("", ""),
            ("plain é", "plain é"),
            ("<a href=\"x\">&</a>", "&lt;a href=&quot;x&quot;&gt;&amp;&lt;/a&gt;"),
            ("one\ntwo\ttab'", "one&#xA;two\ttab'"),
        ] {
            assert_eq!(escaped(text), expected);
        }
    }

    proptest! {
        #[test]
        fn nothing_special_is_left(text in "[ -~\n]{0,30}") {
            let output = escaped(&text);
            prop_assert!(!output.contains(['"', '<', '>', '\n']));
            let back = output
                .replace("&quot;", "\"")
                .replace("&lt;", "<")
                .replace("&gt;", ">")
                .replace("&#xA;", "\n")
                .replace("&amp;", "&");
            prop_assert_eq!(back, text);
        }
    }
}
