//! Spark's patterns of numbers, for `to_number` and `to_char`: `$99,999.99`, `S000D0`, `999PR`.
//!
//! ```text
//!   [MI|S] [$] digits and separators [point digits] [$] [PR|MI|S]
//!
//!   0 begins a run of digits that must all be there     9 begins one that may be shorter
//!   , G  between thousands        . D  the point        MI  a minus or nothing
//!   S    plus, minus or nothing   PR   <1> is -1        $   the currency
//! ```
//!
//! A pattern is compiled once; reading and writing are pure. It refuses patterns in another order, with Spark's
//! condition for what is wrong about them.

use super::failure;
use datafusion::common::DataFusionError;

/// A run of digits between separators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    digits: usize,
    /// Whether all of them must be there.
    exact: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    /// Runs as they follow each other; a separator stands where there is none.
    Digits(Vec<Option<Run>>),
    Point,
    Dollar,
    PlusOrMinus,
    Minus,
    Open,
    Close,
    Other(char),
}

/// A compiled pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NumberPattern {
    parts: Vec<Part>,
    whole: usize,
    fraction: usize,
}

impl NumberPattern {
    /// Compiles a pattern, or says what is wrong with it.
    pub(super) fn compile(text: &str) -> Result<Self, DataFusionError> {
        let parts = parts(text);
        check(text, &parts)?;
        let count = |parts: &[Part]| -> usize { parts.iter().flat_map(runs).map(|run| run.digits).sum() };
        let point = parts.iter().position(|part| *part == Part::Point).unwrap_or(parts.len());
        let (whole, fraction) = (count(&parts[..point]), count(&parts[point..]));
        if whole + fraction > 38 {
            return Err(failure::plan(
                "DECIMAL_PRECISION_EXCEEDS_MAX_PRECISION",
                format!("the number pattern '{text}' has {} digits, a decimal at most 38", whole + fraction),
            ));
        }
        Ok(Self { parts, whole, fraction })
    }

    /// Precision and scale of the decimals it reads.
    pub(super) fn decimal(&self) -> (u8, i8) {
        ((self.whole + self.fraction) as u8, self.fraction as i8)
    }

    /// The unscaled decimal in a text; nothing if the text does not match.
    pub(super) fn parse(&self, text: &str) -> Option<i128> {
        let text: Vec<char> = text.chars().collect();
        let mut reader =
            Reader { text: &text, at: 0, whole: String::new(), fraction: String::new(), in_fraction: false };
        let (mut negative, mut opened, mut closed) = (false, false, false);
        for part in &self.parts {
            match part {
                Part::Digits(runs) => reader.digits(runs)?,
                Part::Point => reader.in_fraction |= reader.eat('.'),
                Part::Dollar if reader.at < text.len() && !reader.eat('$') => return None,
                Part::PlusOrMinus if reader.eat('+') => {}
                Part::PlusOrMinus | Part::Minus => negative ^= reader.eat('-'),
                Part::Open => opened |= reader.eat('<'),
                Part::Close if reader.eat('>') => {
                    closed = true;
                    negative = !negative;
                }
                Part::Dollar | Part::Close | Part::Other(_) => {}
            }
        }
        let Reader { at, whole, fraction, .. } = reader;
        if at < text.len() || opened != closed || (whole.is_empty() && fraction.is_empty()) {
            return None;
        }
        let unscaled: i128 = format!("{whole}{fraction:0<width$}", width = self.fraction).parse().ok()?;
        Some(if negative { -unscaled } else { unscaled })
    }

    /// A decimal as text, `#` for every digit if it has more of them than the pattern.
    pub(super) fn format(&self, unscaled: i128, scale: i8) -> String {
        let negative = unscaled < 0;
        let (whole, fraction) = self.digits_of(unscaled, scale);
        let mut out = Writer::default();
        let (mut whole, mut fraction) = (whole.chars(), fraction.chars());
        let mut in_fraction = false;
        for part in &self.parts {
            match part {
                Part::Digits(runs) => {
                    let digits = if in_fraction { &mut fraction } else { &mut whole };
                    runs.iter().for_each(|run| out.run(*run, digits));
                }
                Part::Point => {
                    out.point();
                    in_fraction = true;
                }
                Part::Dollar => out.text.push('$'),
                Part::PlusOrMinus => out.sign(if negative { '-' } else { '+' }),
                Part::Minus if negative => out.sign('-'),
                Part::Minus => out.text.push(' '),
                Part::Open if negative => out.text.push('<'),
                Part::Close if negative => out.sign('>'),
                Part::Close => {
                    out.strip_lone_point();
                    out.text.extend([' ', ' ']);
                }
                Part::Open | Part::Other(_) => {}
            }
        }
        out.strip_lone_point();
        let text: String = out.text.into_iter().collect();
        if matches!(text.as_str(), "" | "+" | "-") { "0".to_owned() } else { text }
    }

    /// The digits before and after the point, as many as the pattern has: spaces before, zeros behind.
    fn digits_of(&self, unscaled: i128, scale: i8) -> (String, String) {
        let text = super::cast::text::decimal(unscaled, scale);
        let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
        let (whole, fraction) = (whole.trim_start_matches(['-', '0']), fraction.trim_end_matches('0'));
        if whole.len() > self.whole || fraction.len() > self.fraction {
            return ("#".repeat(self.whole), "#".repeat(self.fraction));
        }
        (format!("{whole:>width$}", width = self.whole), format!("{fraction:0<width$}", width = self.fraction))
    }
}

fn runs(part: &Part) -> impl Iterator<Item = &Run> {
    let runs = if let Part::Digits(runs) = part { runs.as_slice() } else { &[] };
    runs.iter().flatten()
}

/// Takes a pattern apart; nothing is checked yet.
fn parts(text: &str) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    let mut in_fraction = false;
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let mut length = c.len_utf8();
        let part = match c {
            '0' | '9' => {
                length = rest.find(|c| !matches!(c, '0' | '9')).unwrap_or(rest.len());
                Part::Digits(vec![Some(Run { digits: length, exact: c == '0' && !in_fraction })])
            }
            ',' | 'G' => Part::Digits(vec![None]),
            '.' | 'D' => {
                in_fraction = true;
                Part::Point
            }
            '$' => Part::Dollar,
            'S' => Part::PlusOrMinus,
            'M' | 'P' if rest.starts_with("MI") || rest.starts_with("PR") => {
                length = 2;
                if c == 'M' { Part::Minus } else { Part::Close }
            }
            other => Part::Other(other),
        };
        match (part, parts.last_mut()) {
            (Part::Digits(more), Some(Part::Digits(runs))) => runs.extend(more),
            (Part::Close, _) => {
                parts.insert(0, Part::Open);
                parts.push(Part::Close);
            }
            (part, _) => parts.push(part),
        }
        rest = &rest[length..];
    }
    parts
}

fn check(text: &str, parts: &[Part]) -> Result<(), DataFusionError> {
    let wrong = |condition: &str, why: &str| -> Result<(), DataFusionError> {
        Err(failure::plan(&format!("INVALID_FORMAT.{condition}"), format!("the number pattern '{text}' {why}")))
    };
    let place = |wanted: &Part| parts.iter().position(|part| part == wanted);
    let is_digits = |part: &Part| matches!(part, Part::Digits(_));
    if text.is_empty() {
        return wrong("EMPTY", "is empty");
    }
    let Some(first_digits) = parts.iter().position(is_digits) else {
        return wrong("WRONG_NUM_DIGIT", "has no digits");
    };
    let (point, dollar) = (place(&Part::Point), place(&Part::Dollar));
    if dollar.is_some_and(|dollar| first_digits < dollar) {
        return wrong("CUR_MUST_BEFORE_DIGIT", "has digits before its $");
    }
    if dollar.zip(point).is_some_and(|(dollar, point)| point < dollar) {
        return wrong("CUR_MUST_BEFORE_DEC", "has its point before its $");
    }
    let (before, after) = parts.split_at(point.unwrap_or(parts.len()));
    let lone = |part: &Part| match part {
        Part::Digits(runs) => {
            let ends = [runs.first(), runs.last()];
            ends.contains(&Some(&None)) || runs.windows(2).any(|pair| pair == [None, None])
        }
        _ => false,
    };
    if before.iter().any(lone) {
        return wrong("CONT_THOUSANDS_SEPS", "has a separator without digits on both sides");
    }
    if after.iter().any(|part| matches!(part, Part::Digits(runs) if runs.contains(&None))) {
        return wrong("THOUSANDS_SEPS_MUST_BEFORE_DEC", "has a separator behind its point");
    }
    let once = [Part::Point, Part::PlusOrMinus, Part::Minus, Part::Dollar, Part::Close];
    if once.iter().any(|part| parts.iter().filter(|other| *other == part).count() > 1) {
        return wrong("WRONG_NUM_TOKEN", "has a point, a sign or a $ twice");
    }
    let order: [&dyn Fn(&Part) -> bool; 8] = [
        &|part| *part == Part::Open,
        &|part| matches!(part, Part::Minus | Part::PlusOrMinus),
        &|part| *part == Part::Dollar,
        &is_digits,
        &|part| *part == Part::Point,
        &is_digits,
        &|part| *part == Part::Dollar,
        &|part| matches!(part, Part::Minus | Part::PlusOrMinus | Part::Close),
    ];
    let placed = order.iter().fold(0, |at, allows| at + usize::from(parts.get(at).is_some_and(allows)));
    if placed < parts.len() {
        return wrong("UNEXPECTED_TOKEN", "is not [MI|S] [$] digits [. digits] [PR|MI|S]");
    }
    Ok(())
}

/// A text being read.
struct Reader<'t> {
    text: &'t [char],
    at: usize,
    whole: String,
    fraction: String,
    in_fraction: bool,
}

impl Reader<'_> {
    fn eat(&mut self, wanted: char) -> bool {
        let found = self.text.get(self.at) == Some(&wanted);
        self.at += usize::from(found);
        found
    }

    /// Reads digits in groups; from the right, each group must have as many as the pattern says. Spaces do not count.
    fn digits(&mut self, runs: &[Option<Run>]) -> Option<()> {
        let mut groups = vec![0];
        while let Some(c) = self.text.get(self.at) {
            match c {
                c if c.is_whitespace() => {}
                ',' => groups.push(0),
                c if c.is_ascii_digit() => {
                    *groups.last_mut()? += 1;
                    if self.in_fraction { &mut self.fraction } else { &mut self.whole }.push(*c);
                }
                _ => break,
            }
            self.at += 1;
        }
        let expected: Vec<&Run> = runs.iter().flatten().collect();
        let mut groups = groups.into_iter().rev();
        for run in expected.into_iter().rev() {
            let found = groups.next().unwrap_or(0);
            if found > run.digits || (run.exact && found < run.digits) {
                return None;
            }
        }
        groups.next().is_none().then_some(())
    }
}

/// A text being written; signs move past the spaces of digits that are not there.
#[derive(Default)]
struct Writer {
    text: Vec<char>,
}

impl Writer {
    fn run(&mut self, run: Option<Run>, digits: &mut std::str::Chars<'_>) {
        let Some(run) = run else {
            // Digits behind a separator that has none before it are the first.
            return if self.text.last().is_some_and(char::is_ascii_digit) { self.text.push(',') } else { self.space() };
        };
        for digit in digits.take(run.digits) {
            match digit {
                ' ' if run.exact => self.text.push('0'),
                ' ' => self.space(),
                digit => self.text.push(digit),
            }
        }
    }

    /// Spaces stand before a sign.
    fn space(&mut self) {
        let signs = self.text.iter().rev().take_while(|c| matches!(c, '+' | '-' | '<')).count();
        self.text.insert(self.text.len() - signs, ' ');
    }

    fn point(&mut self) {
        if let Some(last) = self.text.last_mut().filter(|last| **last == ' ') {
            *last = '0';
        }
        self.text.push('.');
    }

    fn sign(&mut self, sign: char) {
        self.strip_lone_point();
        let spaces = self.text.iter().rev().take_while(|c| **c == ' ').count();
        self.text.insert(self.text.len() - spaces, sign);
    }

    /// A point that no digit follows becomes a space.
    fn strip_lone_point(&mut self) {
        if let Some(at) = self.text.iter().position(|c| *c == '.')
            && self.text.get(at + 1).is_none_or(|next| *next == ' ')
        {
            self.text[at] = ' ';
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        for pattern in ["S999999", "S000,000.00", "$9,999.99MI", "99G999D0PR", "MI$999,999,999.99"] {
            let compiled = NumberPattern::compile(pattern).unwrap();
            let (_, scale) = compiled.decimal();
            for unscaled in [0, 1, -1, 12, 99, 1234, -9999, 100_000, -123_456] {
                let text = compiled.format(unscaled, scale);
                if text.contains(|c: char| c.is_ascii_digit()) {
                    assert_eq!(compiled.parse(text.trim()), Some(unscaled), "{pattern}: '{text}'");
                }
            }
        }
    }

    #[test]
    fn patterns_that_are_none_are_refused_by_condition() {
        let condition = |pattern: &str| NumberPattern::compile(pattern).unwrap_err().to_string();
        for (pattern, expected) in [
            ("", "INVALID_FORMAT.EMPTY"),
            ("S", "WRONG_NUM_DIGIT"),
            ("9$9", "CUR_MUST_BEFORE_DIGIT"),
            (",99", "CONT_THOUSANDS_SEPS"),
            ("9.9,9", "THOUSANDS_SEPS_MUST_BEFORE_DEC"),
            ("9.9.9", "WRONG_NUM_TOKEN"),
            ("9S9", "UNEXPECTED_TOKEN"),
            ("9x", "UNEXPECTED_TOKEN"),
        ] {
            assert!(condition(pattern).contains(expected), "{pattern}: {}", condition(pattern));
        }
    }
}
