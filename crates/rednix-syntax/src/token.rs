//! Token kinds and how error messages call them. No text is held here: a token is a kind and a span.

/// Bytes `start..end` of one source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Span {
    pub start: u32,
    pub end: u32,
}

impl Span {
    pub fn new(start: u32, end: u32) -> Self {
        Span { start, end }
    }

    pub fn to(self, other: Span) -> Span {
        Span { start: self.start, end: other.end }
    }

    pub fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    pub kind: Kind,
    pub span: Span,
}

macro_rules! kinds {
    ($($name:ident $text:literal,)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Kind { $($name,)* }

        impl Kind {
            /// The name C++ Nix's messages use.
            pub fn describe(self) -> &'static str {
                match self { $(Kind::$name => $text,)* }
            }
        }
    };
}

kinds! {
    Identifier "identifier",
    StringPart "string",
    // Text of an indented string whose leading spaces count.
    IndentedPart "indented string",
    // An escape of an indented string (`''$`, `'''`, `''\x`, a lone `$` or `'`): never indentation.
    IndentedEscape "indented string",
    Integer "integer",
    Float "floating-point literal",
    Path "path",
    HomePath "'~/…' path",
    SearchPath "'<…>' path",
    PathEnd "end of path",
    Uri "URI",
    If "'if'",
    Then "'then'",
    Else "'else'",
    Assert "'assert'",
    With "'with'",
    Let "'let'",
    In "'in'",
    Rec "'rec'",
    Inherit "'inherit'",
    Equal "'=='",
    NotEqual "'!='",
    LessEqual "'<='",
    GreaterEqual "'>='",
    Update "'//'",
    Concat "'++'",
    And "'&&'",
    Or "'||'",
    Implies "'->'",
    OrKeyword "'or'",
    PipeFrom "'<|'",
    PipeInto "'|>'",
    Interpolation "'${'",
    IndentedOpen "start of an indented string",
    IndentedClose "end of an indented string",
    Ellipsis "'...'",
    Less "'<'",
    Greater "'>'",
    Not "'!'",
    Plus "'+'",
    Minus "'-'",
    Star "'*'",
    Slash "'/'",
    Question "'?'",
    Colon "':'",
    At "'@'",
    Semicolon "';'",
    Assign "'='",
    Dot "'.'",
    Comma "','",
    Quote "'\"'",
    ParenOpen "'('",
    ParenClose "')'",
    BraceOpen "'{'",
    BraceClose "'}'",
    BracketOpen "'['",
    BracketClose "']'",
    Invalid "invalid token",
    EndOfFile "end of file",
}
