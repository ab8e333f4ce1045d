//! Comma-separated values of a test: a header, then a line a row, as `highwater sql --output csv` prints them.
//!
//! An empty cell is null, `""` an empty string (RFC 4180 with that one addition). A cell knows its line.

/// A cell: its text, or null.
pub(super) type Cell = Option<String>;

/// The records of a text, the header first, each with the line it begins in (from 1); what is wrong otherwise.
pub(super) fn records(text: &str) -> Result<Vec<(usize, Vec<Cell>)>, String> {
    let mut records = Vec::new();
    let mut letters = text.chars().peekable();
    let mut line = 1;
    while letters.peek().is_some() {
        let begins = line;
        let mut cells = Vec::new();
        loop {
            let (cell, end) = cell(&mut letters, &mut line)?;
            cells.push(cell);
            if end == End::Line {
                break;
            }
        }
        // A line without anything is no record; a record of one null cell is written as a pair of commas elsewhere.
        if cells != [None] {
            records.push((begins, cells));
        }
    }
    Ok(records)
}

#[derive(PartialEq)]
enum End {
    Cell,
    Line,
}

fn cell(letters: &mut std::iter::Peekable<std::str::Chars<'_>>, line: &mut usize) -> Result<(Cell, End), String> {
    let mut text = String::new();
    let is_quoted = letters.next_if_eq(&'"').is_some();
    let mut is_open = is_quoted;
    loop {
        let letter = letters.next();
        match letter {
            Some('"') if is_open && letters.next_if_eq(&'"').is_some() => text.push('"'),
            Some('"') if is_open => is_open = false,
            None if is_open => return Err(format!("line {line}: a quote is not closed")),
            Some(letter) if is_open => {
                *line += usize::from(letter == '\n');
                text.push(letter);
            }
            None | Some('\n' | ',') => {
                let end = if letter == Some(',') { End::Cell } else { End::Line };
                *line += usize::from(letter == Some('\n'));
                let text = if is_quoted { text } else { text.trim().to_owned() };
                return Ok(((is_quoted || !text.is_empty()).then_some(text), end));
            }
            Some('\r') if letters.peek() == Some(&'\n') => {}
            Some(letter) if is_quoted => {
                return Err(format!("line {line}: '{letter}' stands behind a closing quote, expected a comma"));
            }
            Some(letter) => text.push(letter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&[(usize, &[Option<&str>])], &str>) {
        let found = records(text);
        let owned = |cells: &[Option<&str>]| cells.iter().map(|cell| cell.map(str::to_owned)).collect::<Vec<_>>();
        match expected {
            Ok(rows) => {
                let rows: Vec<_> = rows.iter().map(|(line, cells)| (*line, owned(cells))).collect();
                assert_eq!(found, Ok(rows), "{text:?}");
            }
            Err(message) => assert_eq!(found, Err(message.to_owned()), "{text:?}"),
        }
    }

    #[test]
    fn cells_are_texts_or_null() {
        check("", Ok(&[]));
        check(
            "a,b\n1,\n\n\"\",\" x \"\n",
            Ok(&[(1, &[Some("a"), Some("b")]), (2, &[Some("1"), None]), (4, &[Some(""), Some(" x ")])]),
        );
        check(
            "a\r\n\"1\n2\",\"say \"\"no\"\"\"\r\n3",
            Ok(&[(1, &[Some("a")]), (2, &[Some("1\n2"), Some("say \"no\"")]), (4, &[Some("3")])]),
        );
        check("a\n\"b", Err("line 2: a quote is not closed"));
        check("\"a\"b", Err("line 1: 'b' stands behind a closing quote, expected a comma"));
    }
}
