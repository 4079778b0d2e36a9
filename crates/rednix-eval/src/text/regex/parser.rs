//! The syntax of POSIX extended expressions as libstdc++ reads them, straight into a graph.
//! No recursion: open groups stand on an explicit stack, bounded by the size of the graph.

use super::RegexError;
use super::bracket;
use super::graph::{Fragment, Graph, Node, NodeId, OPEN};

/// What the parser found: the graph, and the pattern's text if it has no operator at all.
pub(super) struct Parsed {
    pub graph: Graph,
    pub literal: Option<Vec<u8>>,
}

pub(super) fn parse(pattern: &[u8]) -> Result<Parsed, RegexError> {
    let mut parser = Parser {
        pattern,
        offset: 0,
        graph: Graph::default(),
        open: Vec::new(),
        level: Level::default(),
        literal: Some(Vec::new()),
    };
    while parser.offset < pattern.len() {
        parser.step()?;
    }
    if !parser.open.is_empty() {
        return parser.fail("a group is not closed");
    }
    let whole = parser.close_level()?;
    parser.graph.finish(whole)?;
    Ok(Parsed { graph: parser.graph, literal: parser.literal })
}

/// The state between two parentheses.
#[derive(Default)]
struct Level {
    /// The alternatives before the last `|`.
    alternatives: Option<Fragment>,
    /// What stands before the term in this alternative.
    sequence: Option<Fragment>,
    /// What a quantifier would apply to.
    term: Option<Fragment>,
}

struct Group {
    number: u32,
    begin: NodeId,
    outer: Level,
}

struct Parser<'a> {
    pattern: &'a [u8],
    offset: usize,
    graph: Graph,
    open: Vec<Group>,
    level: Level,
    literal: Option<Vec<u8>>,
}

impl Parser<'_> {
    fn fail<T>(&self, reason: &'static str) -> Result<T, RegexError> {
        Err(RegexError::Invalid { offset: self.offset, reason })
    }

    fn step(&mut self) -> Result<(), RegexError> {
        let byte = self.pattern[self.offset];
        self.offset += 1;
        if !matches!(byte, b'\\') && is_special(byte) {
            self.literal = None;
        }
        match byte {
            b'\\' => {
                let byte = self.escape()?;
                self.byte(byte)
            }
            b'.' => {
                // Everything but NUL, a line feed too.
                let mut set = [u64::MAX; 4];
                set[0] &= !1;
                let fragment = self.graph.consume(set)?;
                self.add_term(fragment);
                Ok(())
            }
            b'[' => {
                let (set, end) = bracket::parse(self.pattern, self.offset)
                    .map_err(|(offset, reason)| RegexError::Invalid { offset, reason })?;
                self.offset = end;
                let fragment = self.graph.consume(set)?;
                self.add_term(fragment);
                Ok(())
            }
            b'(' => self.open_group(),
            b')' => self.close_group(),
            b'|' => self.bar(),
            b'^' => self.assertion(Node::Begin { next: OPEN }),
            b'$' => self.assertion(Node::End { next: OPEN }),
            b'*' => self.quantify(Graph::star),
            b'+' => self.quantify(Graph::plus),
            b'?' => self.quantify(Graph::optional),
            b'{' => {
                let (minimum, maximum) = self.interval()?;
                self.quantify(|graph, term| graph.times(term, minimum, maximum))
            }
            0 => self.fail("a NUL byte"),
            byte => self.byte(byte),
        }
    }

    /// One ordinary byte.
    fn byte(&mut self, byte: u8) -> Result<(), RegexError> {
        if let Some(literal) = &mut self.literal {
            literal.push(byte);
        }
        let mut set = [0; 4];
        bracket::insert(&mut set, byte);
        let fragment = self.graph.consume(set)?;
        self.add_term(fragment);
        Ok(())
    }

    fn escape(&mut self) -> Result<u8, RegexError> {
        match self.pattern.get(self.offset) {
            Some(&byte) if is_special(byte) => {
                self.offset += 1;
                Ok(byte)
            }
            Some(_) => self.fail("`\\` before a character that needs no escape"),
            None => self.fail("`\\` at the end"),
        }
    }

    /// Makes the pending term part of the sequence.
    fn settle_term(&mut self) {
        if let Some(term) = self.level.term.take() {
            self.append(term);
        }
    }

    fn append(&mut self, fragment: Fragment) {
        self.level.sequence = Some(match self.level.sequence {
            Some(sequence) => self.graph.concatenate(sequence, fragment),
            None => fragment,
        });
    }

    fn add_term(&mut self, fragment: Fragment) {
        self.settle_term();
        self.level.term = Some(fragment);
    }

    /// `^` and `$`, which take no quantifier.
    fn assertion(&mut self, node: Node) -> Result<(), RegexError> {
        let fragment = self.graph.leaf(node)?;
        self.settle_term();
        self.append(fragment);
        Ok(())
    }

    fn quantify(
        &mut self,
        apply: impl FnOnce(&mut Graph, Fragment) -> Result<Fragment, RegexError>,
    ) -> Result<(), RegexError> {
        let Some(term) = self.level.term else {
            return self.fail("a quantifier with nothing before it");
        };
        self.level.term = Some(apply(&mut self.graph, term)?);
        Ok(())
    }

    /// The rest of `{n}`, `{n,}` or `{n,m}`.
    fn interval(&mut self) -> Result<(u32, Option<u32>), RegexError> {
        let Some(minimum) = self.count()? else {
            return self.fail("`{` without a count");
        };
        let mut maximum = Some(minimum);
        if self.pattern.get(self.offset) == Some(&b',') {
            self.offset += 1;
            maximum = self.count()?;
        }
        if self.pattern.get(self.offset) != Some(&b'}') {
            return self.fail("`{` without its `}`");
        }
        self.offset += 1;
        if maximum.is_some_and(|maximum| maximum < minimum) {
            return self.fail("an interval ends before it begins");
        }
        Ok((minimum, maximum))
    }

    /// Digits, if there are any. What does not fit is far over the limit of nodes anyway.
    fn count(&mut self) -> Result<Option<u32>, RegexError> {
        let begin = self.offset;
        let mut count = 0u32;
        while let Some(&byte @ b'0'..=b'9') = self.pattern.get(self.offset) {
            count = count.saturating_mul(10).saturating_add(u32::from(byte - b'0'));
            self.offset += 1;
        }
        Ok((self.offset > begin).then_some(count))
    }

    fn open_group(&mut self) -> Result<(), RegexError> {
        self.graph.groups += 1;
        let number = self.graph.groups;
        let begin = self.graph.push(Node::Save { slot: 2 * number, next: OPEN })?;
        self.settle_term();
        let outer = std::mem::take(&mut self.level);
        self.open.push(Group { number, begin, outer });
        Ok(())
    }

    fn close_group(&mut self) -> Result<(), RegexError> {
        let inner = self.close_level()?;
        let Some(group) = self.open.pop() else {
            return self.fail("`)` without its `(`");
        };
        let begin = Fragment { low: group.begin, start: group.begin, end: group.begin };
        let end = self.graph.leaf(Node::Save { slot: 2 * group.number + 1, next: OPEN })?;
        let fragment = self.graph.concatenate(begin, inner);
        let fragment = self.graph.concatenate(fragment, end);
        self.level = group.outer;
        self.add_term(fragment);
        Ok(())
    }

    fn bar(&mut self) -> Result<(), RegexError> {
        let alternatives = self.close_level()?;
        self.level.alternatives = Some(alternatives);
        Ok(())
    }

    /// Everything since the group's begin as one fragment.
    fn close_level(&mut self) -> Result<Fragment, RegexError> {
        self.settle_term();
        let level = std::mem::take(&mut self.level);
        let sequence = match level.sequence {
            Some(sequence) => sequence,
            None => self.graph.empty()?,
        };
        match level.alternatives {
            Some(alternatives) => self.graph.alternate(alternatives, sequence),
            None => Ok(sequence),
        }
    }
}

/// The characters that mean something outside of brackets, and the only ones that may follow a `\`.
fn is_special(byte: u8) -> bool {
    matches!(byte, b'.' | b'[' | b'\\' | b'(' | b')' | b'*' | b'+' | b'?' | b'{' | b'|' | b'^' | b'$')
}
