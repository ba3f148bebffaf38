//! Tests that documents name as evidence must exist, and each row of the acceptance list has a test or says why not.

use super::{fail_with, files, rust_files};
use std::collections::BTreeSet;

/// A test's name has at least this many underscores; other names between backquotes have fewer.
const UNDERSCORES_MIN: usize = 3;

/// What stands between backquotes and reads like the name of a test.
fn test_names(line: &str) -> impl Iterator<Item = &str> {
    let is_name = |text: &&str| {
        let plain = text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        plain && text.matches('_').count() >= UNDERSCORES_MIN && !text.starts_with("gatecast_")
    };
    line.split('`').skip(1).step_by(2).filter(is_name)
}

#[test]
fn documents_name_only_tests_that_exist() {
    let code = rust_files();
    let functions: BTreeSet<&str> =
        code.iter().flat_map(|file| file.text.split("fn ").skip(1).filter_map(|rest| rest.split('(').next())).collect();
    let mut broken = Vec::new();
    for document in files(&["README.md", "docs"], "md") {
        for name in document.text.lines().flat_map(test_names).filter(|name| !functions.contains(name)) {
            broken.push(format!("{}: {name}", document.path));
        }
    }
    fail_with(&broken, "these documents name tests that do not exist");
}

#[test]
fn each_row_of_the_acceptance_list_has_a_test_or_says_why_not() {
    let list = &files(&["docs/ACCEPTANCE.md"], "md")[0].text;
    let is_row = |line: &&str| {
        let cell = line.trim_start_matches('|').trim_start();
        cell.starts_with(|c: char| c.is_ascii_uppercase()) && cell[1..].starts_with(|c: char| c.is_ascii_digit())
    };
    let rows: Vec<_> = list.lines().filter(is_row).collect();
    assert!(rows.len() > 50, "the list was read: {} rows", rows.len());
    let shown = |row: &&str| test_names(row).next().is_some() || row.contains("no test") || row.contains("*by hand:*");
    let broken: Vec<_> = rows.iter().filter(|row| !shown(row)).map(|row| (*row).to_owned()).collect();
    fail_with(&broken, "these rows have no test");
}

#[test]
fn test_names_are_found_in_prose() {
    let line = "| `a_head_has_its_bound`, `no_such`, `src/lib.rs`, `gatecast_events_sent_total` |";
    assert_eq!(test_names(line).collect::<Vec<_>>(), ["a_head_has_its_bound"]);
}
