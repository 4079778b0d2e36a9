//! JSON texts; strings that are read can be written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rednix_eval::text::json::{JsonVisitor, parse, parse_tree, write_string};
use rednix_eval::text::tree::Tree;

/// Counts how deep the text is, and that all that is opened is closed.
#[derive(Default)]
struct Depth(usize);

impl JsonVisitor for Depth {
    fn null(&mut self) {}
    fn bool(&mut self, _: bool) {}
    fn int(&mut self, _: i64) {}
    fn float(&mut self, value: f64) {
        assert!(value.is_finite());
    }
    fn string(&mut self, value: Vec<u8>) {
        let mut written = Vec::new();
        write_string(&mut written, &value).expect("strings of JSON are UTF-8");
        assert_eq!(parse_tree(&written), Ok(Tree::String(value)));
    }
    fn begin_list(&mut self) {
        self.0 += 1;
    }
    fn end_list(&mut self) {
        self.0 -= 1;
    }
    fn begin_object(&mut self) {
        self.0 += 1;
    }
    fn key(&mut self, key: Vec<u8>) {
        assert!(std::str::from_utf8(&key).is_ok());
    }
    fn end_object(&mut self) {
        self.0 -= 1;
    }
}

fuzz_target!(|text: &[u8]| {
    let mut depth = Depth::default();
    let read = parse(text, &mut depth);
    assert!(read.is_err() || depth.0 == 0);
    let tree = parse_tree(text);
    assert!(read.is_ok() || tree.is_err());
});
