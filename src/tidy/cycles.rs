//! Finds which file's code names which other file, and cycles among them.

use std::collections::{BTreeMap, BTreeSet};

/// The modules of a crate; each is one file.
pub(super) struct Modules<'a> {
    /// By module path (`engine::core`): the file, and its code without tests and comments.
    files: BTreeMap<String, (&'a str, &'a str)>,
    /// Re-exports (`pub use`): (module, name) to the path that it comes from.
    reexports: BTreeMap<(String, String), Vec<String>>,
}

/// The module path of a file under `src/`; empty for `lib.rs`.
pub(super) fn module_of(path: &str) -> String {
    let inner = path.trim_start_matches("src/").trim_end_matches(".rs");
    let inner = inner.strip_suffix("/mod").unwrap_or(inner);
    if inner == "lib" { String::new() } else { inner.replace('/', "::") }
}

impl<'a> Modules<'a> {
    pub(super) fn new(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let files: BTreeMap<_, _> = files.into_iter().map(|(path, code)| (module_of(path), (path, code))).collect();
        let mut reexports = BTreeMap::new();
        for (module, (_, code)) in &files {
            for (public, names) in uses(code) {
                for path in names.iter().filter(|_| public) {
                    let name = path.last().cloned().unwrap_or_default();
                    reexports.insert((module.clone(), name), path.clone());
                }
            }
        }
        Self { files, reexports }
    }

    /// The files that each file's code names, other than itself. A re-export is not an edge of the module that has it;
    /// a path through it is an edge to the file that it comes from.
    pub(super) fn edges(&self) -> BTreeMap<&'a str, BTreeSet<&'a str>> {
        let mut edges = BTreeMap::new();
        for (module, (file, code)) in &self.files {
            let named = uses(code).into_iter().filter(|(public, _)| !public).flat_map(|(_, names)| names);
            let inline = inline_paths(&without_uses(code), &self.children(module));
            let targets = named.chain(inline).filter_map(|path| self.resolve(module, &path, 0));
            edges.insert(*file, targets.filter(|target| target != file).collect());
        }
        edges
    }

    fn children(&self, module: &str) -> BTreeSet<String> {
        let child = |path: &String| {
            let (parent, name) = path.rsplit_once("::").unwrap_or(("", path));
            (parent == module && !path.is_empty()).then(|| name.to_owned())
        };
        self.files.keys().filter_map(child).collect()
    }

    /// The file that a path in a module leads to; `None` if it leads out of the crate.
    fn resolve(&self, module: &str, path: &[String], depth: usize) -> Option<&'a str> {
        let (mut at, mut rest) = match path.first()?.as_str() {
            "crate" => (String::new(), &path[1..]),
            "self" => (module.to_owned(), &path[1..]),
            "super" => (parent(module), &path[1..]),
            name if self.children(module).contains(name) => (module.to_owned(), path),
            _ => return None,
        };
        while rest.first().is_some_and(|name| name == "super") {
            (at, rest) = (parent(&at), &rest[1..]);
        }
        while let Some(name) = rest.first() {
            let below = if at.is_empty() { name.clone() } else { format!("{at}::{name}") };
            if self.files.contains_key(&below) {
                (at, rest) = (below, &rest[1..]);
            } else if let Some(given) = self.reexports.get(&(at.clone(), name.clone())).filter(|_| depth < 8) {
                return self.resolve(&at, given, depth + 1).or(Some(self.files.get(&at)?.0));
            } else {
                break;
            }
        }
        self.files.get(&at).map(|(file, _)| *file)
    }
}

fn parent(module: &str) -> String {
    module.rsplit_once("::").map_or(String::new(), |(parent, _)| parent.to_owned())
}

/// Every `use` of a file: whether it is a re-export, and the paths that it names.
fn uses(code: &str) -> Vec<(bool, Vec<Vec<String>>)> {
    let mut found = Vec::new();
    let mut rest = code;
    while let Some(at) = rest.find("use ") {
        let line = &rest[rest[..at].rfind('\n').map_or(0, |end| end + 1)..at];
        let visible = line.trim();
        rest = &rest[at + 4..];
        // Something else on the line, such as a string or a name that ends in `use`.
        if !(visible.is_empty() || visible.starts_with("pub")) {
            continue;
        }
        let Some(end) = rest.find(';') else { break };
        let mut paths = Vec::new();
        expand(&rest[..end], &[], &mut paths);
        found.push((visible.starts_with("pub"), paths));
    }
    found
}

/// The code without its `use` declarations.
fn without_uses(code: &str) -> String {
    let (mut left, mut inside) = (String::new(), false);
    for line in code.lines() {
        let begin = line.trim_start().trim_start_matches("pub(crate) ").trim_start_matches("pub(super) ");
        inside |= begin.trim_start_matches("pub ").starts_with("use ");
        if !inside {
            left.extend([line, "\n"]);
        }
        inside &= !line.trim_end().ends_with(';');
    }
    left
}

/// The paths of one `use` tree: `a::{b, c::d}` gives `a::b` and `a::c::d`.
fn expand(tree: &str, before: &[String], paths: &mut Vec<Vec<String>>) {
    let tree = tree.trim();
    let Some(open) = tree.find('{') else {
        let own = tree.split(" as ").next().unwrap_or(tree).trim().split("::").map(|part| part.trim().to_owned());
        let path: Vec<_> = before.iter().cloned().chain(own.filter(|part| part != "self")).collect();
        return if path.is_empty() { paths.push(vec!["self".to_owned()]) } else { paths.push(path) };
    };
    let head = tree[..open].trim_end_matches("::").split("::").filter(|part| !part.is_empty());
    let head: Vec<_> = before.iter().cloned().chain(head.map(|part| part.trim().to_owned())).collect();
    let (mut depth, mut begin) = (0, open + 1);
    for (at, c) in tree.char_indices().skip(tree[..open].chars().count()) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if (c == ',' && depth == 1) || depth == 0 {
            if !tree[begin..at].trim().is_empty() {
                expand(&tree[begin..at], &head, paths);
            }
            begin = at + 1;
        }
        if depth == 0 {
            break;
        }
    }
}

/// Paths in the code outside of `use`: `super::a::b`, `crate::a`, and `child::a` in the file that declares the child.
fn inline_paths(code: &str, children: &BTreeSet<String>) -> Vec<Vec<String>> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut paths = Vec::new();
    for (at, _) in code.match_indices("::") {
        let begin = code[..at].rfind(|c: char| !is_word(c)).map_or(0, |before| before + 1);
        let first = &code[begin..at];
        // Only the first segment begins a path; the others of `a::b::c` were taken with it.
        let follows_path = code[..begin].ends_with(':');
        if follows_path || !(matches!(first, "super" | "crate") || children.contains(first)) {
            continue;
        }
        let end = code[at..].find(|c: char| !is_word(c) && c != ':').map_or(code.len(), |end| at + end);
        paths.push(code[begin..end].split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect());
    }
    paths
}

/// Groups of files in which each names each other, directly or through others (strongly connected components).
pub(super) fn cycles(edges: &BTreeMap<&str, BTreeSet<&str>>) -> Vec<Vec<String>> {
    let reach = |from: &str| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
        while let Some(file) = open.pop() {
            for next in edges.get(file).into_iter().flatten() {
                if seen.insert(*next) {
                    open.push(next);
                }
            }
        }
        seen
    };
    let reached: BTreeMap<_, _> = edges.keys().map(|file| (*file, reach(file))).collect();
    let mut groups = BTreeSet::new();
    for (file, seen) in reached.iter().filter(|(file, seen)| seen.contains(*file)) {
        let group = seen.iter().filter(|other| reached.get(*other).is_some_and(|back| back.contains(file)));
        groups.insert(group.map(|other| (*other).to_owned()).collect::<Vec<_>>());
    }
    groups.into_iter().collect()
}

#[test]
fn cycles_are_found_through_reexports() {
    let files = [
        ("src/lib.rs", "mod a;\n"),
        ("src/a/mod.rs", "mod b;\nmod c;\npub use b::{B, Other};\n"),
        ("src/a/b.rs", "use super::c::C;\n"),
        ("src/a/c.rs", "use super::{B as X, d::D};\n"),
        ("src/a/d.rs", "fn f() { crate::a::Other::new() }\n"),
    ];
    let modules = Modules::new(files);
    let edges = modules.edges();
    assert!(edges["src/a/mod.rs"].is_empty(), "a re-export is not an edge");
    assert_eq!(edges["src/a/c.rs"].iter().copied().collect::<Vec<_>>(), ["src/a/b.rs", "src/a/d.rs"]);
    assert_eq!(edges["src/a/d.rs"].iter().copied().collect::<Vec<_>>(), ["src/a/b.rs"]);
    assert_eq!(cycles(&edges), [["src/a/b.rs", "src/a/c.rs", "src/a/d.rs"]]);
}

#[test]
fn use_trees_are_expanded_to_paths() {
    let mut paths = Vec::new();
    expand("crate::{a::{B, self}, c, d::e::F as G}", &[], &mut paths);
    let paths: Vec<_> = paths.iter().map(|path| path.join("::")).collect();
    assert_eq!(paths, ["crate::a::B", "crate::a", "crate::c", "crate::d::e::F"]);
}
