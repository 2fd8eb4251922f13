//! The structure of the crate, held to what `docs/ARCHITECTURE.md` says: imports point down, files
//! are short, the fast path is read in one sitting, what is public is listed.
#![allow(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The rooms, from the top floor down. One may use what is below it, and its own.
const FLOORS: [&[&str]; 16] = [
    &["main"],
    &["cli"],
    &["doctor", "export", "path", "report"],
    &["control", "chores", "metrics", "read"],
    &["serve"],
    &["session", "lab"],
    &["capture"],
    &["account"],
    &["nft"],
    &["source", "ring"],
    &["index"],
    &["format"],
    &["netlink"],
    &["packet", "decode"],
    &["sys"],
    &["numbers", "checksum"],
];
const LINES_MAX: usize = 400;
/// Source, capture, format, ring: in this order.
const FAST_PATH: [&str; 4] = [
    "src/capture/fast.rs",
    "src/source/nflog/template/mod.rs",
    "src/format/pcapng/template.rs",
    "src/ring/rest.rs",
];
const FAST_PATH_LINES_MAX: usize = 800;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// A file without its tests.
fn without_tests(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let tests = text.find("\n#[cfg(test)]\nmod tests {");
    text[..tests.unwrap_or(text.len())].to_owned()
}

/// Its lines that are neither empty nor comments.
fn code_lines(path: &Path) -> Vec<String> {
    let lines = without_tests(path);
    let code = lines.lines().map(str::trim);
    code.filter(|line| !line.is_empty() && !line.starts_with("//"))
        .map(ToOwned::to_owned)
        .collect()
}

/// The room a file of the library is in.
fn room(path: &Path) -> String {
    let inside = path.strip_prefix(root().join("src")).unwrap();
    let first = inside.components().next().unwrap();
    first
        .as_os_str()
        .to_str()
        .unwrap()
        .trim_end_matches(".rs")
        .to_owned()
}

/// The rooms that lines name, as `crate::room` or inside `use crate::{…}`.
fn rooms_named(lines: &[String]) -> BTreeSet<String> {
    let text = lines.join("\n");
    let word = |text: &str| -> String {
        text.chars()
            .take_while(|letter| letter.is_ascii_alphanumeric() || *letter == '_')
            .collect()
    };
    let mut rooms = BTreeSet::new();
    for (at, found) in text.match_indices("crate::") {
        let behind = &text[at + found.len()..];
        if let Some(list) = behind.strip_prefix('{') {
            let list = list.split_once('}').unwrap().0;
            rooms.extend(list.split(',').map(|item| word(item.trim())));
        } else {
            rooms.insert(word(behind));
        }
    }
    rooms.retain(|room| !room.is_empty());
    rooms
}

fn floor(room: &str) -> usize {
    let found = FLOORS.iter().position(|rooms| rooms.contains(&room));
    found.unwrap_or_else(|| panic!("`{room}` is in no floor: give it one"))
}

#[test]
fn imports_point_down() {
    let mut wrong = Vec::new();
    let bin = root().join("src/bin");
    let lib = root().join("src/lib.rs");
    for path in rust_files(&root().join("src")) {
        if path.starts_with(&bin) || path == lib {
            continue;
        }
        let here = room(&path);
        for other in rooms_named(&code_lines(&path)) {
            if other != here && floor(&other) <= floor(&here) {
                wrong.push(format!("{} uses {other}", path.display()));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "imports that point up or sideways: {wrong:#?}"
    );
}

#[test]
fn no_file_is_long() {
    for path in rust_files(&root().join("src")) {
        let lines = code_lines(&path).len();
        assert!(
            lines <= LINES_MAX,
            "{}: {lines} lines of code",
            path.display()
        );
    }
}

#[test]
fn the_fast_path_is_read_in_one_sitting() {
    let lines = FAST_PATH.map(|path| without_tests(&root().join(path)).lines().count());
    let sum: usize = lines.iter().sum();
    assert!(sum <= FAST_PATH_LINES_MAX, "{lines:?}: {sum} lines");
    // And the document names it in this order.
    let document = fs::read_to_string(root().join("docs/ARCHITECTURE.md")).unwrap();
    let sentence = document
        .split_once("The fast path is four files")
        .unwrap()
        .1;
    let places = FAST_PATH.map(|path| sentence.find(path.trim_start_matches("src/")).unwrap());
    assert!(places.is_sorted(), "{places:?}");
}

/// Files and folders that the documents name are there.
#[test]
fn documents_name_what_is_there() {
    fn below(dir: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root()).unwrap().display().to_string();
            if path.is_dir() {
                below(&path, found);
            }
            found.push(name);
        }
    }
    let mut there = vec!["README.md".to_owned(), "SECURITY.md".to_owned()];
    for dir in ["src", "tests", "docs", "packaging", "nft-rules", ".ci"] {
        below(&root().join(dir), &mut there);
        there.push(dir.to_owned());
    }
    let mut missing = Vec::new();
    for name in ["ARCHITECTURE.md", "CONTRIBUTING.md", "THESIS.md"] {
        let text = fs::read_to_string(root().join("docs").join(name)).unwrap();
        for word in text.split('`').skip(1).step_by(2) {
            let of_paths = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
            let path = word.trim_end_matches('/');
            let is_path = (word.contains('/') || word.ends_with(".rs"))
                && word.chars().all(of_paths)
                && !word.starts_with(['/', '.', '-']);
            let is_there = |there: &String| {
                there == path
                    || there
                        .strip_suffix(path)
                        .is_some_and(|rest| rest.ends_with('/'))
            };
            if is_path && !there.iter().any(is_there) {
                missing.push(format!("docs/{name}: {word}"));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn unsafe_code_is_in_sys_alone() {
    for path in rust_files(&root().join("src")) {
        let inside = path.strip_prefix(root()).unwrap();
        let allowed =
            inside.starts_with("src/sys") || inside.starts_with("src/bin/lwnflog-bench/sys");
        let found = code_lines(&path)
            .iter()
            .any(|line| line.contains("unsafe {") || line.contains("unsafe impl"));
        assert!(!found || allowed, "{}", inside.display());
    }
}

/// What of a page of the documentation is an item of ours: methods, variants, fields; not what is
/// derived.
fn members(page: &str) -> BTreeSet<String> {
    let own = page.split("id=\"trait-implementations\"").next().unwrap();
    let kinds = [
        "method.",
        "tymethod.",
        "variant.",
        "structfield.",
        "associatedconstant.",
        "associatedtype.",
    ];
    let ids = own
        .split("id=\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next());
    ids.filter(|id| kinds.iter().any(|kind| id.starts_with(kind)) && !id.contains('-'))
        .map(|id| {
            id.replace(".field.", " ")
                .split_once('.')
                .unwrap()
                .1
                .to_owned()
        })
        .collect()
}

/// The public items, as the documentation has them: one a line, its members behind it.
fn public_items() -> String {
    let target = root().join("target/api");
    let done = Command::new(env!("CARGO"))
        .args([
            "doc",
            "--no-deps",
            "--lib",
            "--quiet",
            "--locked",
            "--target-dir",
        ])
        .arg(&target)
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    let docs = target.join("doc/lwnflog");
    let all = fs::read_to_string(docs.join("all.html")).unwrap();
    let links = all
        .split("href=\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next());
    let items: BTreeSet<&str> = links
        .filter(|link| {
            link.contains('.')
                && link.ends_with(".html")
                && !link.starts_with("..")
                && !link.starts_with("http")
        })
        .filter(|link| {
            !matches!(
                *link,
                "index.html" | "all.html" | "help.html" | "settings.html"
            )
        })
        .collect();
    let mut text = String::new();
    for item in items {
        let (path, file) = item.rsplit_once('/').unwrap_or(("", item));
        let (kind, name) = file.trim_end_matches(".html").split_once('.').unwrap();
        let path = path.replace('/', "::");
        text += &format!("{kind} {path}::{name}");
        let members = members(&fs::read_to_string(docs.join(item)).unwrap());
        if !members.is_empty() {
            let members: Vec<_> = members.into_iter().collect();
            text += &format!(": {}", members.join(", "));
        }
        text.push('\n');
    }
    text
}

/// `LWNFLOG_BLESS=1 cargo test --test structure` writes the list anew.
#[test]
fn what_is_public_is_listed() {
    let path = root().join("docs/API.txt");
    let now = public_items();
    assert!(now.contains("struct capture::Capture: "), "no list: {now}");
    if env::var_os("LWNFLOG_BLESS").is_some() {
        fs::write(&path, &now).unwrap();
    }
    let listed = fs::read_to_string(&path).unwrap_or_default();
    let (listed, now): (BTreeSet<_>, BTreeSet<_>) =
        (listed.lines().collect(), now.lines().collect());
    let added: Vec<_> = now.difference(&listed).collect();
    let gone: Vec<_> = listed.difference(&now).collect();
    assert!(
        added.is_empty() && gone.is_empty(),
        "docs/API.txt: new {added:#?}, gone {gone:#?}"
    );
}
