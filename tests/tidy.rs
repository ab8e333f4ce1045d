//! The rules of the source tree, checked.
//!
//! What is measured (length of files and functions) has a list of known exceptions that may only shrink: an entry
//! that is no longer needed fails the test as much as a new one that is missing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use regex::Regex;

use crate::program::{read, root};

/// Longest production file, in lines.
const FILE_LINES: usize = 600;

/// Longest production function, in lines from `fn` to its closing brace.
const FUNCTION_LINES: usize = 70;

/// Files and functions (`file::function`) that are longer, until somebody shortens them.
const KNOWN_LONG: [&str; 1] = [
    // A line a setting.
    "crates/broker/src/settings.rs::default",
];

/// A Rust file of the workspace.
struct Source {
    /// Path from the root.
    name: String,
    text: String,
    /// The text with comments, strings and characters blanked out, of the same shape.
    code: String,
}

impl Source {
    /// The code before the first test module.
    fn production(&self) -> &str {
        self.code.find("#[cfg(test)]\nmod ").map_or(&self.code, |tests| &self.code[..tests])
    }

    fn is_production(&self) -> bool {
        self.name.starts_with("crates/") && !self.name.ends_with("tests.rs") && !self.name.contains("/tests/")
    }
}

fn files(extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().to_string_lossy().into_owned();
            let kind = entry.file_type().unwrap();
            if kind.is_dir()
                && !matches!(name.as_str(), "target" | ".git" | "node_modules" | "data")
                && !name.starts_with("highwater-")
            {
                folders.push(entry.path());
            } else if kind.is_file() && name.ends_with(&format!(".{extension}")) {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    found
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().display().to_string()
}

fn sources() -> Vec<Source> {
    files("rs")
        .into_iter()
        .map(|path| {
            let text = read(&path);
            Source { name: relative(&path), code: blanked(&text), text }
        })
        .collect()
}

/// Comments, strings and characters as spaces; newlines stay.
fn blanked(text: &str) -> String {
    let pattern = concat!(
        r##"(?s)//[^\n]*|/\*.*?\*/|\bb?r#{2}".*?"#{2}|\bb?r#".*?"#|\bb?r"[^"]*"|b?"(?:\\.|[^"\\])*""##,
        r"|b?'(?:\\(?:x[0-9a-fA-F]{2}|u\{[0-9a-fA-F]+\}|.)|[^'\\\n])'",
    );
    let blank = |found: &regex::Captures<'_>| -> String {
        found[0].chars().map(|letter| if letter == '\n' { '\n' } else { ' ' }).collect()
    };
    Regex::new(pattern).unwrap().replace_all(text, blank).into_owned()
}

/// Fails with all complaints at once.
fn report(rule: &str, complaints: Vec<String>) {
    assert!(complaints.is_empty(), "{rule}:\n  {}", complaints.join("\n  "));
}

#[test]
fn every_module_says_what_it_is() {
    let silent = |source: &&Source| !source.text.starts_with("//!") && !source.text.starts_with("#![");
    let complaints = sources().iter().filter(silent).map(|source| source.name.clone()).collect();
    report("these files do not begin with //!", complaints);
}

#[test]
fn files_and_functions_are_short() {
    let mut long = BTreeSet::new();
    for source in sources().iter().filter(|source| source.is_production()) {
        let production = source.production();
        if production.lines().count() > FILE_LINES {
            long.insert(source.name.clone());
        }
        for (function, lines) in functions(production) {
            if lines > FUNCTION_LINES {
                long.insert(format!("{}::{function}", source.name));
            }
        }
    }
    let known: BTreeSet<String> = KNOWN_LONG.iter().map(|&name| name.to_owned()).collect();
    report("longer than allowed: shorten it", long.difference(&known).cloned().collect());
    report("no longer too long: take it off KNOWN_LONG", known.difference(&long).cloned().collect());
}

/// Functions with a body, and how many lines each takes.
fn functions(code: &str) -> Vec<(String, usize)> {
    let head = Regex::new(r"\bfn\s+(\w+)").unwrap();
    head.captures_iter(code)
        .filter_map(|found| {
            let start = found.get(0)?.start();
            let body = start + code[start..].find(['{', ';'])?;
            let length = code[body..].starts_with('{').then(|| braces(&code[body..]))?;
            Some((found[1].to_owned(), code[start..body + length].lines().count()))
        })
        .collect()
}

/// How far it is to the brace that closes the first one.
fn braces(code: &str) -> usize {
    let mut depth = 0_usize;
    for (at, letter) in code.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 1 => return at + 1,
            '}' => depth -= 1,
            _ => {}
        }
    }
    code.len()
}

#[test]
fn nothing_is_left_lying_about() {
    let marks = Regex::new(r"//.*\b(TODO|FIXME)\b").unwrap();
    let commented_code =
        Regex::new(r"^\s*//\s*(let |pub |fn |use |if .*\{|for .*\{|\}|return |[\w.]+\(.*\);)").unwrap();
    let mut complaints = Vec::new();
    for source in sources().iter().filter(|source| source.name != "tests/tidy.rs") {
        for (index, line) in source.text.lines().enumerate() {
            if marks.is_match(line) || commented_code.is_match(line) {
                complaints.push(format!("{}:{}: {}", source.name, index + 1, line.trim()));
            }
        }
        if source.code.contains("dbg!(") {
            complaints.push(format!("{}: dbg!", source.name));
        }
    }
    report("finish it or take it out", complaints);
}

#[test]
fn links_lead_somewhere() {
    let link = Regex::new(r"\]\(([^)\s]+)\)").unwrap();
    let mut complaints = Vec::new();
    for path in files("md") {
        let text = read(&path);
        for found in link.captures_iter(&text) {
            let target = found[1].split('#').next().unwrap_or_default();
            let outside = target.contains("://") || target.starts_with("mailto:") || target.is_empty();
            if !outside && !path.parent().unwrap().join(target).exists() {
                complaints.push(format!("{}: {}", relative(&path), &found[1]));
            }
        }
    }
    report("links to files that are not there", complaints);
}

#[test]
fn documents_name_the_versions_of_the_build() {
    let manifest = read(&root().join("Cargo.toml"));
    let field = |name: &str| {
        let line = Regex::new(&format!("(?m)^{name} = \"(.*)\"")).unwrap();
        line.captures(&manifest).map(|found| found[1].to_owned()).unwrap_or_default()
    };
    let mut complaints = Vec::new();
    if !read(&root().join("README.md")).contains(&format!("Rust {}", field("rust-version"))) {
        complaints.push(format!("README.md does not name Rust {}", field("rust-version")));
    }
    if !read(&root().join("CHANGELOG.md")).contains(&format!("## {}", field("version"))) {
        complaints.push(format!("CHANGELOG.md has no section {}", field("version")));
    }
    report("versions", complaints);
}

#[test]
fn there_is_one_arrow() {
    let lock = read(&root().join("Cargo.lock"));
    let count = |name: &str| lock.lines().filter(|line| *line == format!("name = \"{name}\"")).count();
    let twice =
        ["arrow", "arrow-array", "parquet", "datafusion", "object_store"].into_iter().filter(|name| count(name) != 1);
    report("more or less than one version in Cargo.lock", twice.map(str::to_owned).collect());
}

#[test]
fn the_engine_opens_no_socket_and_reads_one_clock() {
    let mut complaints = Vec::new();
    for source in sources().iter().filter(|source| source.name.starts_with("crates/engine/src/")) {
        let production = source.production();
        for forbidden in ["std::net", "tokio::net", "highwater_broker", "highwater_connectors"] {
            if production.contains(forbidden) {
                complaints.push(format!("{}: {forbidden}", source.name));
            }
        }
        let reads_time = ["SystemTime::now", "Instant::now", "Utc::now"].iter().any(|call| production.contains(call));
        if reads_time && source.name != "crates/engine/src/clock.rs" {
            complaints.push(format!("{}: reads time outside clock.rs", source.name));
        }
    }
    report("the engine's limits", complaints);
}

#[test]
fn the_checks_see_through_strings_and_comments() {
    let code = blanked("fn a() { let x = \"}\"; // }\n let c = '}'; let l: &'static str = r#\"}\"#; }\nfn b();");
    assert_eq!(functions(&code), [("a".to_owned(), 2)]);
}
