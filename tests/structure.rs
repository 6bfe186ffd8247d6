//! The structure of the sources: modules look one way, and files and functions stay short.
#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The most lines of a file.
const FILE: usize = 400;
/// The most lines of a function that is shipped.
const FUNCTION: usize = 80;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The Rust files below a folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// The text without comments and without what is built for tests alone.
fn shipped(text: &str) -> String {
    let mut lines = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    let mut kept = String::new();
    while let Some(line) = lines.next() {
        let code = line.trim_start();
        if !code.starts_with("#[cfg(test)]") {
            kept.push_str(line);
            kept.push('\n');
            continue;
        }
        let end = format!("{}}}", &line[..line.len() - code.len()]);
        let item = lines.find(|line| !line.trim_start().starts_with("#["));
        if item.is_some_and(|item| item.ends_with('{')) {
            lines.find(|line| line.starts_with(&end));
        }
    }
    kept
}

/// The modules at the top of the crate that a text names: those behind each `crate::`, and those in braces behind one.
fn named(text: &str) -> BTreeSet<String> {
    let name = |text: &str| {
        text.chars().take_while(|part| part.is_alphanumeric() || *part == '_').collect::<String>()
    };
    let mut found = BTreeSet::new();
    for (at, found_here) in text.match_indices("crate::") {
        let rest = &text[at + found_here.len()..];
        let Some(list) = rest.strip_prefix('{') else {
            found.insert(name(rest));
            continue;
        };
        let (mut depth, mut begins) = (1, true);
        for (at, part) in list.char_indices() {
            match part {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' => begins = depth == 1,
                _ if part.is_whitespace() => {}
                _ if begins && depth == 1 => {
                    found.insert(name(&list[at..]));
                    begins = false;
                }
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
    }
    found
}

/// Which modules at the top of a crate name which others.
fn imports(sources_of: &Path) -> BTreeMap<String, BTreeSet<String>> {
    let mut imports: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for path in sources(sources_of) {
        let inside = path.strip_prefix(sources_of).unwrap().with_extension("");
        let parts: Vec<&str> = inside.iter().map(|part| part.to_str().unwrap()).collect();
        if parts.contains(&"tests") || ["lib", "main"].contains(&parts[0]) {
            continue;
        }
        let named = named(&shipped(&fs::read_to_string(&path).unwrap()));
        imports.entry(parts[0].to_owned()).or_default().extend(named);
    }
    let modules: BTreeSet<String> = imports.keys().cloned().collect();
    for (module, named) in &mut imports {
        named.retain(|other| other != module && modules.contains(other));
    }
    imports
}

/// What is left of the modules once those are taken away, again and again, that name no other: each is in a circle, or above one.
fn circles(mut imports: BTreeMap<String, BTreeSet<String>>) -> BTreeMap<String, BTreeSet<String>> {
    while let Some(lowest) =
        imports.iter().find(|(_, named)| named.is_empty()).map(|(module, _)| module.clone())
    {
        imports.remove(&lowest);
        for named in imports.values_mut() {
            named.remove(&lowest);
        }
    }
    imports
}

#[test]
fn modules_look_one_way() {
    for (folder, least) in [("src", 30), ("cli/src", 12)] {
        let imports = imports(&root().join(folder));
        assert!(imports.len() >= least, "{folder}: {:?}", imports.keys());
        let arrows: usize = imports.values().map(BTreeSet::len).sum();
        assert!(arrows > least, "{folder}: {imports:?}");
        let circles = circles(imports);
        assert!(circles.is_empty(), "{folder} has a circle among these: {circles:#?}");
    }
}

#[test]
fn a_circle_is_found() {
    let of = |pairs: &[(&str, &str)]| {
        let mut imports: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (module, text) in pairs {
            imports.insert((*module).to_owned(), named(&shipped(text)));
        }
        circles(imports).into_keys().collect::<Vec<_>>()
    };
    let a = ("a", "use crate::{\n    b::{C, D},\n    c,\n};");
    let c = ("c", "");
    assert_eq!(of(&[a, ("b", "use crate::c;"), c]), [""; 0]);
    assert_eq!(of(&[a, ("b", "fn f() { crate::a::g() }"), c]), ["a", "b"]);
    assert_eq!(of(&[a, ("b", "// crate::a\n#[cfg(test)]\nmod tests {\n    use crate::a;\n}"), c]), [""; 0]);
    assert_eq!(of(&[a, ("b", "#[cfg(test)]\nmod tests;\nuse crate::a;"), c]), ["a", "b"]);
}

#[test]
fn files_stay_short() {
    let mut long = Vec::new();
    for folder in ["src", "cli", "sdk", "tests", "benches"] {
        for path in sources(&root().join(folder)) {
            let lines = fs::read_to_string(&path).unwrap().lines().count();
            if lines > FILE {
                long.push(format!("{}: {lines} lines", path.display()));
            }
        }
    }
    assert!(long.is_empty(), "over {FILE} lines: {long:#?}");
}

/// The functions of a text that have more lines than allowed, with their number of lines. Where one ends is told by its indentation, as
/// rustfmt writes it.
fn long_functions(text: &str) -> Vec<(&str, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (first, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let words = code.split("fn ").next().unwrap_or_default();
        let is_function = code.contains("fn ")
            && words.split_whitespace().all(|word| {
                word.starts_with("pub")
                    || ["in", "const", "async", "unsafe", "extern", "\"C\""].contains(&word)
                    || word.ends_with(')')
            });
        if !is_function || code.ends_with(['}', ';']) {
            continue;
        }
        let end = format!("{}}}", &line[..line.len() - code.len()]);
        let last = lines[first..].iter().position(|line| *line == end).unwrap_or(0);
        if last + 1 > FUNCTION {
            found.push((code, last + 1));
        }
    }
    found
}

#[test]
fn functions_stay_short() {
    let mut long = Vec::new();
    for folder in ["src", "cli/src", "sdk/src"] {
        let folder = root().join(folder);
        for path in sources(&folder) {
            if path.strip_prefix(&folder).unwrap().iter().any(|part| part == "tests") {
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            let found = long_functions(&text);
            long.extend(
                found.into_iter().map(|(name, lines)| format!("{}: {lines} lines: {name}", path.display())),
            );
        }
    }
    assert!(long.is_empty(), "over {FUNCTION} lines: {long:#?}");
}

#[test]
fn a_long_function_is_found() {
    for head in ["fn f() {", "pub(crate) async fn f() {", "pub(in crate::spool) fn f() {"] {
        let of =
            |lines: usize| format!("impl A {{\n    {head}\n{}    }}\n}}\n", "        g();\n".repeat(lines));
        assert_eq!(long_functions(&of(FUNCTION - 2)), []);
        assert_eq!(long_functions(&of(FUNCTION - 1)), [(head, FUNCTION + 1)]);
    }
}
