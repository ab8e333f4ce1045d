//! JSON with line breaks, laid out as Spark's `pretty` does: members on lines of their own, arrays on one.

const INDENT: &[u8] = b"  ";

/// Lays out texts without white space that stand one behind another, each ending at its place in `ends`.
pub(super) fn all(texts: &[u8], ends: &[usize]) -> (Vec<u8>, Vec<usize>) {
    let (mut out, mut out_ends) = (Vec::with_capacity(texts.len() * 2), Vec::with_capacity(ends.len()));
    let mut start = 0;
    for end in ends {
        one(&texts[start..*end], &mut out);
        out_ends.push(out.len());
        start = *end;
    }
    (out, out_ends)
}

fn one(text: &[u8], out: &mut Vec<u8>) {
    // The open brackets around the place, innermost last.
    let mut open: Vec<u8> = Vec::new();
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => {
                let end = string_end(text, at);
                out.extend_from_slice(&text[at..end]);
                at = end;
                continue;
            }
            b'{' | b'[' if matches!(text.get(at + 1), Some(b'}' | b']')) => {
                out.extend_from_slice(&[*byte, b' ', text[at + 1]]);
                at += 1;
            }
            b'{' | b'[' => {
                open.push(*byte);
                out.push(*byte);
                separate(&open, out);
            }
            b'}' | b']' => {
                let closes = open.pop();
                if closes == Some(b'{') {
                    line(&open, out);
                } else {
                    out.push(b' ');
                }
                out.push(*byte);
            }
            b',' => {
                out.push(b',');
                separate(&open, out);
            }
            b':' => out.extend_from_slice(b" : "),
            other => out.push(*other),
        }
        at += 1;
    }
}

/// What stands before an element: a new line in an object, a space in an array.
fn separate(open: &[u8], out: &mut Vec<u8>) {
    if open.last() == Some(&b'{') { line(open, out) } else { out.push(b' ') }
}

fn line(open: &[u8], out: &mut Vec<u8>) {
    out.push(b'\n');
    open.iter().filter(|bracket| **bracket == b'{').for_each(|_| out.extend_from_slice(INDENT));
}

/// The place behind the string that begins at `start`.
fn string_end(text: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(byte) = text.get(at) {
        match byte {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_have_lines_and_elements_do_not() {
        for (text, expected) in [
            ("{}", "{ }"),
            ("[[],{}]", "[ [ ], { } ]"),
            (
                r#"{"a":[1,{"b":"x,:\"{"}],"c":null}"#,
                "{\n  \"a\" : [ 1, {\n    \"b\" : \"x,:\\\"{\"\n  } ],\n  \"c\" : null\n}",
            ),
        ] {
            let (out, ends) = all(text.as_bytes(), &[text.len()]);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
            assert_eq!(ends, [expected.len()]);
        }
    }
}
