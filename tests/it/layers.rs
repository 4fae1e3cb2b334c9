//! The shape of the code, kept by a test: layers, file lengths, and texts that must not be in the repository.
//!
//! ```text
//!  table in src/lib.rs ──▶ row of every module ─┐
//!  src/**/*.rs ──▶ every `crate::module` ───────┴─▶ its row must be below the row of the file's own module
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Lines of a file, tests left out, unless it stands in `LONG_FILES`.
const FILE_LINES_MAX: usize = 600;

/// Files that may be longer, and why.
const LONG_FILES: &[(&str, &str)] = &[];

/// Folders and files of the repository that the tests look at.
const TEXTS: &[&str] = &[
    "src",
    "udfs",
    "sql",
    "tests",
    "benches",
    "docker",
    ".ci",
    "Cargo.toml",
    "clippy.toml",
    "README.md",
    "ARCHITECTURE.md",
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All files below `path` (or the file itself), in order, hidden folders left out.
fn files(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_path_buf()];
    }
    let Ok(entries) = fs::read_dir(path) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let skipped = ["target", "node_modules", ".venv", "__pycache__"];
    paths.retain(|path| !skipped.iter().any(|name| path.ends_with(name)));
    paths.iter().flat_map(|path| files(path)).collect()
}

fn sources() -> Vec<PathBuf> {
    files(&root().join("src")).into_iter().filter(|path| path.extension().is_some_and(|e| e == "rs")).collect()
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().display().to_string()
}

/// Module -> row, from the drawing in `src/lib.rs`: ` 5  scheduler   server (flight, http)`.
fn rows() -> BTreeMap<String, u32> {
    let text = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let mut rows = BTreeMap::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("//!")) {
        let Some((row, names)) = line.trim().split_once(' ') else { continue };
        let Ok(row) = row.parse() else { continue };
        let mut depth = 0_i32;
        let bare: String = names
            .chars()
            .filter(|c| {
                depth += i32::from(*c == '(');
                let keep = depth == 0;
                depth -= i32::from(*c == ')');
                keep
            })
            .collect();
        rows.extend(bare.split_whitespace().map(|name| (name.to_string(), row)));
    }
    rows
}

/// The top-level modules that a line of code names: `crate::a::b`, `crate::{a, b::{c, d}}`.
fn named(code: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            None => names.push(word(rest)),
            Some(group) => names.extend(heads(group)),
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

fn word(text: &str) -> String {
    text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// The first word of every element of a group, up to its closing brace.
fn heads(group: &str) -> Vec<String> {
    let (mut depth, mut start, mut out) = (0_i32, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                out.push(word(&group[start..]));
                return out;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                out.push(word(&group[start..]));
                start = at + 1;
            }
            _ => {}
        }
    }
    out
}

/// The code of a file in one string per statement-ish line: comments away, groups over several lines joined.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

#[test]
fn every_module_is_in_the_table() {
    let rows = rows();
    for path in sources() {
        let module = module(&path);
        assert!(rows.contains_key(&module), "{} is not in the table of src/lib.rs", shown(&path));
    }
}

fn module(path: &Path) -> String {
    let path = shown(path);
    match path.as_str() {
        // The binary and the list of modules stand above everything.
        "src/main.rs" | "src/lib.rs" => "cli".into(),
        _ => path.trim_start_matches("src/").split(['/', '.']).next().unwrap().to_string(),
    }
}

#[test]
fn no_module_uses_a_row_that_is_not_below_its_own() {
    let rows = rows();
    let mut wrong = Vec::new();
    for path in sources().iter().filter(|path| !path.ends_with("main.rs") && !path.ends_with("lib.rs")) {
        let own = module(path);
        for used in named(&code(path)) {
            let Some(row) = rows.get(&used) else { continue };
            // The values of row 0 may know each other.
            let allowed = used == own || *row < rows[&own] || (*row == 0 && rows[&own] == 0);
            if !allowed {
                wrong.push(format!("{} ({own}, row {}) uses {used} (row {row})", shown(path), rows[&own]));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn imports_are_seen_in_every_form() {
    assert_eq!(named("use crate::a::b;"), ["a"]);
    assert_eq!(named("let x = crate::b::c(crate::d);"), ["b", "d"]);
    assert_eq!(named("use crate::{a, b::{c, d},\n e as f};"), ["a", "b", "e"]);
    assert_eq!(named("use my_crate::x;"), Vec::<String>::new());
    assert!(rows().len() >= 12, "the table of src/lib.rs was not understood: {:?}", rows());
}

#[test]
fn files_are_short() {
    let mut wrong = Vec::new();
    for path in sources() {
        let text = fs::read_to_string(&path).unwrap();
        let lines = text.lines().take_while(|line| *line != "#[cfg(test)]").count();
        let listed = LONG_FILES.iter().any(|(name, _)| *name == shown(&path));
        if lines > FILE_LINES_MAX && !listed {
            wrong.push(format!("{} has {lines} lines", shown(&path)));
        }
        assert!(!listed || lines > FILE_LINES_MAX, "{} is not long any more: take it off the list", shown(&path));
    }
    assert!(wrong.is_empty(), "split them, or list them with a reason:\n{}", wrong.join("\n"));
}

#[test]
fn every_module_says_what_it_is() {
    for path in sources() {
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("//! "), "{} has no module comment", shown(&path));
    }
}

#[test]
fn nothing_in_the_repository_belongs_to_one_machine() {
    // In two pieces, so that this file does not hold them itself.
    let banned: Vec<String> = [
        ("/wo", "rk/"),
        ("/ro", "ot/"),
        ("/ho", "me/"),
        ("index.crates", ".io"),
        ("static.crates", ".io"),
        ("pypi", ".org"),
        ("registry.npmjs", ".org"),
        ("files.python", "hosted"),
        ("FIX", "ME"),
        ("XX", "X "),
    ]
    .iter()
    .map(|(a, b)| format!("{a}{b}"))
    .collect();
    let mut wrong = Vec::new();
    for path in TEXTS.iter().flat_map(|name| files(&root().join(name))) {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        for (number, line) in text.lines().enumerate() {
            if let Some(word) = banned.iter().find(|word| line.contains(word.as_str())) {
                wrong.push(format!("{}:{}: {word}", shown(&path), number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
