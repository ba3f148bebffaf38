//! House rules as tests: the layers, cycles among files, captions, file sizes, unsafe code, unfinished work, and paths
//! in the documents.

mod cycles;
mod evidence;

use cycles::{Modules, cycles};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Each layer, and the layers that its code may name; tests may name any.
const LAYERS: &[(&str, &[&str])] = &[
    ("limits", &[]),
    ("model", &["limits"]),
    ("config", &["limits", "model"]),
    ("wire", &["limits", "model"]),
    ("shard", &["limits", "model"]),
    ("transport", &["limits", "model", "wire"]),
    ("session", &["limits", "model", "wire", "transport"]),
    ("api", &["limits", "model", "wire", "shard"]),
    ("store", &["limits", "model"]),
    ("tls", &["limits", "model", "config"]),
    ("engine", &["limits", "model", "wire", "shard", "session", "api"]),
    ("driver", &["limits", "model", "shard", "store", "engine"]),
    (
        "server",
        &["limits", "model", "config", "shard", "transport", "session", "api", "store", "tls", "engine", "driver"],
    ),
    ("cli", &["limits", "model", "config", "wire", "api", "store", "tls", "server"]),
];

/// Names that the crate's root re-exports, and the layers that they come from.
const ROOT_NAMES: &[(&str, &str)] = &[("Config", "config"), ("Hub", "server")];

/// Parts of the crate that only tests use, or that tie the layers together.
const EXEMPT: &[&str] = &["lib", "main", "sim", "tidy"];

/// Most lines in one file.
const LINES_MAX: usize = 400;

/// Files that may exceed [`LINES_MAX`], and why.
const LONG_FILES: &[(&str, &str)] = &[];

/// The only file that may have unsafe code.
const UNSAFE_FILE: &str = "src/driver/raw.rs";

/// Marks of unfinished work. Each is concatenated, so that this file does not contain it.
const UNFINISHED: [&str; 4] =
    [concat!("to", "do!("), concat!("unimplemented", "!("), concat!("#[ig", "nore"), concat!("FIX", "ME")];

/// One file, by its path from the crate's root.
struct File {
    path: String,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn collect(dir: &Path, extension: &str, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, extension, files);
        } else if path.extension().is_some_and(|found| found == extension) {
            files.push(path);
        }
    }
}

fn files(places: &[&str], extension: &str) -> Vec<File> {
    let mut paths = Vec::new();
    for place in places {
        let path = root().join(place);
        if path.is_file() { paths.push(path) } else { collect(&path, extension, &mut paths) }
    }
    paths.sort();
    let read = |path: PathBuf| File {
        text: fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())),
        path: path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned(),
    };
    paths.into_iter().map(read).collect()
}

fn rust_files() -> Vec<File> {
    files(&["src", "tests", "benches", "loadtest", "examples"], "rs")
}

fn fail_with(broken: &[String], rule: &str) {
    assert!(broken.is_empty(), "{rule}:\n  {}", broken.join("\n  "));
}

impl File {
    /// The layer that it belongs to: the first part of its path under `src/`.
    fn layer(&self) -> &str {
        let inner = self.path.strip_prefix("src/").unwrap_or(&self.path);
        inner.split(['/', '.']).next().unwrap_or(inner)
    }

    fn is_test(&self) -> bool {
        self.path.ends_with("/tests.rs") || self.path.contains("/tests/") || self.path.ends_with("/testing.rs")
    }

    /// The lines of [`File::code`] as one text.
    fn code_text(&self) -> String {
        self.code().flat_map(|(_, line)| [line, "\n"]).collect()
    }

    /// The lines before the test module that are not comments, with their numbers.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        // The test module is always the last item of its file.
        let end = self.text.find("\n#[cfg(test)]\nmod tests {").unwrap_or(self.text.len());
        let lines = self.text[..end].lines().enumerate().map(|(index, line)| (index + 1, line));
        lines.filter(|(_, line)| !line.trim_start().starts_with("//"))
    }
}

/// The names after `crate::`: one, or each first name in a group.
fn named(after: &str) -> Vec<&str> {
    let first = |text: &str| text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let Some(group) = after.strip_prefix('{') else { return vec![&after[..first(after)]] };
    let mut names = Vec::new();
    let (mut depth, mut fresh) = (1, true);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => fresh = true,
            c if fresh && !c.is_whitespace() => {
                names.push(&group[at..at + first(&group[at..])]);
                fresh = false;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    names
}

/// Every layer that a file's code names, with the line number.
fn edges(file: &File) -> Vec<(usize, String)> {
    let mut code = String::new();
    let mut lines = Vec::new();
    for (number, line) in file.code() {
        lines.push((code.len(), number));
        code.push_str(line);
        code.push('\n');
    }
    let line_at = |at: usize| lines.iter().rev().find(|(start, _)| *start <= at).map_or(0, |(_, number)| *number);
    let mut edges = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        for name in named(&code[at + "crate::".len()..]) {
            let layer = ROOT_NAMES.iter().find(|(root, _)| *root == name).map_or(name, |(_, layer)| layer);
            edges.push((line_at(at), layer.to_owned()));
        }
    }
    edges
}

#[test]
fn layers_name_only_those_below_them() {
    let mut broken = Vec::new();
    for file in files(&["src"], "rs").iter().filter(|file| !file.is_test() && !EXEMPT.contains(&file.layer())) {
        let layer = file.layer();
        let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == layer) else {
            broken.push(format!("{}: {layer} is missing in LAYERS", file.path));
            continue;
        };
        let edges = edges(file).into_iter().filter(|(_, to)| to != layer && !allowed.contains(&to.as_str()));
        broken.extend(edges.map(|(line, to)| format!("{}:{line}: {layer} -> {to}", file.path)));
    }
    fail_with(&broken, "these files name a layer that LAYERS does not allow them");
}

#[test]
fn the_table_of_layers_has_no_cycle() {
    for (at, (layer, allowed)) in LAYERS.iter().enumerate() {
        for below in *allowed {
            assert!(
                LAYERS[..at].iter().any(|(name, _)| name == below),
                "{layer} may name {below}, which must stand above it in LAYERS"
            );
        }
    }
}

#[test]
fn no_files_name_each_other_in_a_cycle() {
    let files = files(&["src"], "rs");
    let product = files.iter().filter(|file| !file.is_test() && !EXEMPT.contains(&file.layer()));
    let code: Vec<_> = product.map(|file| (file.path.as_str(), file.code_text())).collect();
    let modules = Modules::new(code.iter().map(|(path, code)| (*path, code.as_str())));
    let edges = modules.edges();
    let broken: Vec<_> = cycles(&edges)
        .iter()
        .map(|cycle| {
            let inside = |file: &String| edges[file.as_str()].iter().filter(|to| cycle.contains(&(**to).to_owned()));
            let arrows = cycle.iter().map(|file| format!("{file} -> {:?}", inside(file).collect::<Vec<_>>()));
            arrows.collect::<Vec<_>>().join("\n    ")
        })
        .collect();
    fail_with(&broken, "these files name each other in a cycle");
}

#[test]
fn names_after_crate_are_found_in_groups_and_alone() {
    assert_eq!(named("model::{A, B};"), ["model"]);
    assert_eq!(named("{\n    api::{A, b::C},\n    limits, model::D,\n};\nuse x::y;"), ["api", "limits", "model"]);
    let file = File {
        path: "src/wire/x.rs".to_owned(),
        text: "// crate::a\nuse crate::{model::X, Hub};\n\n#[cfg(test)]\nmod tests {\n    use crate::b;\n}\n"
            .to_owned(),
    };
    assert_eq!(edges(&file), [(2, "model".to_owned()), (2, "server".to_owned())]);
}

#[test]
fn every_file_begins_with_a_doc_comment() {
    let without = rust_files().into_iter().filter(|file| !file.text.starts_with("//! "));
    fail_with(
        &without.map(|file| file.path).collect::<Vec<_>>(),
        "these files must begin with a `//! ` line that says what they own",
    );
}

#[test]
fn no_file_has_more_than_400_lines() {
    let mut broken = Vec::new();
    for file in rust_files() {
        let lines = file.text.lines().count();
        let excepted = LONG_FILES.iter().any(|(path, _)| *path == file.path);
        match (lines > LINES_MAX, excepted) {
            (true, false) => broken.push(format!("{}: {lines} lines", file.path)),
            (false, true) => broken.push(format!("{}: {lines} lines; remove it from LONG_FILES", file.path)),
            _ => {}
        }
    }
    fail_with(&broken, &format!("a file has at most {LINES_MAX} lines"));
}

#[test]
fn unsafe_code_is_in_one_file() {
    let word = concat!("un", "safe");
    let is_word = |line: &str| {
        line.match_indices(word).any(|(at, _)| {
            let part = |c: char| c.is_alphanumeric() || c == '_';
            !line[..at].ends_with(part) && !line[at + word.len()..].starts_with(part)
        })
    };
    let mut broken = Vec::new();
    for file in rust_files().iter().filter(|file| file.path != UNSAFE_FILE && file.layer() != "tidy") {
        let lines = file.text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"));
        broken.extend(lines.filter(|(_, line)| is_word(line)).map(|(index, _)| format!("{}:{}", file.path, index + 1)));
    }
    fail_with(&broken, &format!("unsafe code is allowed only in {UNSAFE_FILE}"));
}

#[test]
fn no_line_is_marked_as_unfinished() {
    let mut broken = Vec::new();
    for file in rust_files() {
        let lines = file.text.lines().enumerate();
        let found = lines.filter(|(_, line)| UNFINISHED.iter().any(|mark| line.contains(mark)));
        broken.extend(found.map(|(index, line)| format!("{}:{}: {}", file.path, index + 1, line.trim())));
    }
    fail_with(&broken, "these lines are unfinished");
}

/// The paths that a document names: targets of links, and paths in backquotes.
fn paths(text: &str) -> Vec<&str> {
    let is_path = |text: &&str| {
        let known = ["src/", "docs/", "tests/", "benches/", "loadtest/", "examples/", ".ci/"];
        let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c));
        let file = [".rs", ".md", ".toml", ".py", ".js"].iter().any(|end| text.ends_with(end)) && text.contains('/');
        plain && (file || known.iter().any(|start| text.starts_with(start)))
    };
    let quoted = text.lines().flat_map(|line| line.split('`').skip(1).step_by(2)).filter(is_path);
    let linked = text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
    let linked = linked.filter(|link| !link.is_empty() && !link.contains("://"));
    quoted.chain(linked).collect()
}

#[test]
fn paths_in_documents_exist() {
    let mut broken = Vec::new();
    for document in files(&["README.md", "docs"], "md") {
        let beside = root().join(&document.path).parent().unwrap().to_owned();
        for path in paths(&document.text) {
            // A path may be relative to the root, to `src/`, or to the document.
            let places = [root().to_owned(), root().join("src"), beside.clone()];
            if !places.iter().any(|place| place.join(path).exists()) {
                broken.push(format!("{}: {path}", document.path));
            }
        }
    }
    fail_with(&broken, "these documents name paths that do not exist");
}

#[test]
fn paths_are_found_in_links_and_backquotes() {
    let text =
        "See `src/lib.rs`, `driver/worker.rs` and [the map](docs/ARCHITECTURE.md#layers), not `GET /x` or `a.b`.";
    assert_eq!(paths(text), ["src/lib.rs", "driver/worker.rs", "docs/ARCHITECTURE.md"]);
}
