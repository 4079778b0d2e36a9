//! A line by line comparison of two texts, as people know it from patches. Pure.

/// Lines of the differing middle that are compared properly, as a product; beyond it all of the middle is replaced.
const CELLS_MAX: usize = 4_000_000;
/// Equal lines shown around a change.
const CONTEXT_LINES: usize = 2;

/// One line of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line<'a> {
    Same(&'a str),
    Old(&'a str),
    New(&'a str),
}

/// All lines of both texts, in order, the shared ones once.
pub fn compare<'a>(old: &'a str, new: &'a str) -> Vec<Line<'a>> {
    let (old, new): (Vec<&str>, Vec<&str>) = (split(old), split(new));
    let head = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let rest = old.len().min(new.len()) - head;
    let tail = old.iter().rev().zip(new.iter().rev()).take(rest).take_while(|(a, b)| a == b).count();
    let (before, after) = (&old[head..old.len() - tail], &new[head..new.len() - tail]);
    let mut lines: Vec<Line> = old[..head].iter().map(|line| Line::Same(line)).collect();
    middle(before, after, &mut lines);
    lines.extend(old[old.len() - tail..].iter().map(|line| Line::Same(line)));
    lines
}

/// Lines with their ends, so that a missing last newline is a difference.
fn split(text: &str) -> Vec<&str> {
    text.split_inclusive('\n').collect()
}

/// The longest common subsequence, by the textbook table.
fn middle<'a>(old: &[&'a str], new: &[&'a str], lines: &mut Vec<Line<'a>>) {
    if old.len().saturating_mul(new.len()) > CELLS_MAX {
        lines.extend(old.iter().map(|line| Line::Old(line)));
        lines.extend(new.iter().map(|line| Line::New(line)));
        return;
    }
    let width = new.len() + 1;
    let mut common = vec![0_u32; (old.len() + 1) * width];
    for (i, a) in old.iter().enumerate().rev() {
        for (j, b) in new.iter().enumerate().rev() {
            common[i * width + j] = if a == b {
                common[(i + 1) * width + j + 1] + 1
            } else {
                common[(i + 1) * width + j].max(common[i * width + j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            lines.push(Line::Same(old[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == new.len()
            || (i < old.len() && common[(i + 1) * width + j] >= common[i * width + j + 1])
        {
            lines.push(Line::Old(old[i]));
            i += 1;
        } else {
            lines.push(Line::New(new[j]));
            j += 1;
        }
    }
}

/// The changed lines with a little around them, in the form of a patch's hunks; at most `lines_max` lines.
pub fn unified(old: &str, new: &str, lines_max: usize) -> Vec<String> {
    let lines = compare(old, new);
    let near = |at: usize| {
        let (from, to) = (at.saturating_sub(CONTEXT_LINES), (at + CONTEXT_LINES + 1).min(lines.len()));
        lines[from..to].iter().any(|line| !matches!(line, Line::Same(_)))
    };
    let (mut shown, mut numbers, mut gap) = (Vec::new(), (1, 1), true);
    for (at, line) in lines.iter().enumerate() {
        let (mark, text) = match line {
            Line::Same(text) => (' ', text),
            Line::Old(text) => ('-', text),
            Line::New(text) => ('+', text),
        };
        if near(at) {
            if std::mem::take(&mut gap) {
                shown.push(format!("@@ -{} +{} @@", numbers.0, numbers.1));
            }
            shown.push(format!("{mark}{}", text.trim_end_matches('\n')));
        } else {
            gap = true;
        }
        numbers.0 += usize::from(!matches!(line, Line::New(_)));
        numbers.1 += usize::from(!matches!(line, Line::Old(_)));
    }
    if shown.len() > lines_max {
        let more = shown.len() - lines_max;
        shown.truncate(lines_max);
        shown.push(format!("… {more} more lines"));
    }
    shown
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hunks_table() {
        let cases: &[(&str, &str, &[&str])] = &[
            ("a\n", "a\n", &[]),
            ("a\n", "b\n", &["@@ -1 +1 @@", "-a", "+b"]),
            ("1\n2\n3\n4\n5\n", "1\n2\n3\n4\nfive\n", &["@@ -3 +3 @@", " 3", " 4", "-5", "+five"]),
            ("a\nb\n", "a\nx\nb\n", &["@@ -1 +1 @@", " a", "+x", " b"]),
            ("a", "a\n", &["@@ -1 +1 @@", "-a", "+a"]),
            (
                "1\n2\n3\n4\n5\n6\n7\n8\n9\n",
                "one\n2\n3\n4\n5\n6\n7\n8\nnine\n",
                &["@@ -1 +1 @@", "-1", "+one", " 2", " 3", "@@ -7 +7 @@", " 7", " 8", "-9", "+nine"],
            ),
        ];
        for (old, new, expected) in cases {
            assert_eq!(unified(old, new, 100), *expected);
        }
        assert_eq!(unified("a\nb\n", "c\nd\n", 2), ["@@ -1 +1 @@", "-a", "… 3 more lines"]);
    }

    proptest! {
        /// Both texts can be read back from the comparison, and it is as short as can be for a single insertion.
        #[test]
        fn nothing_is_lost(old in "([ab]\n){0,12}[ab]?", new in "([ab]\n){0,12}[ab]?") {
            let lines = compare(&old, &new);
            let take = |keep: fn(&Line<'_>) -> Option<String>| lines.iter().filter_map(keep).collect::<String>();
            let left = take(|line| match line { Line::Same(t) | Line::Old(t) => Some((*t).to_owned()), Line::New(_) => None });
            let right = take(|line| match line { Line::Same(t) | Line::New(t) => Some((*t).to_owned()), Line::Old(_) => None });
            prop_assert_eq!(left, old);
            prop_assert_eq!(right, new);
        }

        #[test]
        fn one_more_line_is_one_more_line(before in "([a-d]\n){0,8}", after in "([a-d]\n){0,8}") {
            let (old, new) = (format!("{before}{after}"), format!("{before}new\n{after}"));
            let changed = compare(&old, &new).into_iter().filter(|line| !matches!(line, Line::Same(_))).count();
            prop_assert_eq!(changed, 1);
        }
    }
}
