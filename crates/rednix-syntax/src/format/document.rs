//! A layout to be chosen: text, and the places where lines may end.

use std::rc::Rc;

#[derive(Clone, Debug)]
pub enum Document {
    /// Without line ends.
    Text(String),
    /// Text with line ends of its own, taken as it is.
    Verbatim(String),
    /// A space, or the end of a line.
    Line,
    /// Nothing, or the end of a line.
    Soft,
    /// The end of a line.
    Hard,
    /// An empty line.
    Blank,
    /// The end of a line that nothing stands on, without indentation (in strings).
    Bare,
    Comment {
        text: String,
        own_line: bool,
    },
    Concat(Vec<Document>),
    /// One line if it fits, else every `Line` directly in it ends one.
    Group(Vec<Document>),
    /// The same whatever its width.
    Wide(Vec<Document>),
    Nest(Vec<Document>),
    /// Something that stands in several places; whether it breaks is known.
    Shared(Rc<(bool, Document)>),
    /// The second where the first fits on the line, else the third.
    Choice(Box<Document>, Box<Document>, Box<Document>),
}

impl Document {
    pub fn text(text: impl Into<String>) -> Document {
        Document::Text(text.into())
    }

    /// Cheap to clone from now on: alternatives hold the same parts, and copies of copies would grow without bound.
    pub fn shared(self) -> Document {
        Document::Shared(Rc::new((self.breaks(), self)))
    }

    pub fn nothing() -> Document {
        Document::Concat(Vec::new())
    }

    /// Whether it needs more than one line whatever its width.
    pub fn breaks(&self) -> bool {
        crate::limits::with_stack(|| match self {
            Document::Text(_) | Document::Line | Document::Soft => false,
            Document::Verbatim(text) => text.contains('\n'),
            Document::Hard | Document::Blank | Document::Bare | Document::Comment { .. } => true,
            Document::Concat(parts)
            | Document::Group(parts)
            | Document::Wide(parts)
            | Document::Nest(parts) => parts.iter().any(Document::breaks),
            Document::Shared(shared) => shared.0,
            Document::Choice(_, compact, _) => compact.breaks(),
        })
    }
}
