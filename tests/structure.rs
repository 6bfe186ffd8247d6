//! The structure of the sources: files look one way, and they and their functions stay short.
#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The most lines of a file.
const FILE: usize = 400;
/// The most lines of a function.
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

/// The names of a path, from the root of the crate on.
type Names = Vec<String>;

/// The sources of a crate.
struct Sources {
    /// What is shipped of each module, all of which are files.
    modules: BTreeMap<Names, String>,
    /// What a module names without a path, its own and what it exports, and where that is.
    imported: BTreeMap<Names, Names>,
}

impl Sources {
    fn of(folder: &Path) -> Self {
        let mut modules = BTreeMap::new();
        for path in sources(folder) {
            let inside = path.strip_prefix(folder).unwrap().with_extension("");
            let mut names: Names = inside.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
            if names.last().is_some_and(|last| ["mod", "lib", "main"].contains(&last.as_str())) {
                names.pop();
            }
            if !names.iter().any(|name| name == "tests") {
                modules.insert(names, shipped(&fs::read_to_string(&path).unwrap()));
            }
        }
        Self::new(modules)
    }

    fn new(modules: BTreeMap<Names, String>) -> Self {
        let mut sources = Self { modules, imported: BTreeMap::new() };
        let mut imported = BTreeMap::new();
        for (module, text) in &sources.modules {
            for (path, name) in uses(text).0 {
                if let Some(path) = sources.absolute(module, &path) {
                    imported.insert([&module[..], &[name]].concat(), path);
                }
            }
        }
        sources.imported = imported;
        sources
    }

    /// A path that a module names, from the root on; `None` if it leads out of the crate.
    fn absolute(&self, module: &[String], path: &str) -> Option<Names> {
        let mut parts = path.split("::").map(str::to_owned).peekable();
        let mut names = module.to_vec();
        match parts.peek()?.as_str() {
            "crate" => names.clear(),
            "self" | "super" => {}
            child if self.modules.contains_key(&[module, &[child.to_owned()]].concat()) => {}
            _ => return None,
        }
        for part in parts {
            match part.as_str() {
                "crate" | "self" => {}
                "super" => drop(names.pop()),
                _ => names.push(part),
            }
        }
        Some(names)
    }

    /// The module that has what a path leads to, whatever others export it.
    fn home(&self, path: &[String]) -> Option<Names> {
        let end = (0..=path.len()).rev().find(|end| self.modules.contains_key(&path[..*end]))?;
        match path.get(..=end).and_then(|name| self.imported.get(name)) {
            Some(other) if other != path => self.home(&[other, &path[end + 1..]].concat()),
            // The root is no module: it has all others.
            _ => (end > 0).then(|| path[..end].to_vec()),
        }
    }

    /// Which modules name what is in which others.
    fn imports(&self) -> Imports {
        let mut imports = Imports::new();
        for (module, text) in self.modules.iter().filter(|(module, _)| !module.is_empty()) {
            let (uses, rest) = uses(text);
            // What is exported and not used is no import.
            let words: BTreeSet<&str> = named(&rest).map(first).collect();
            let paths = uses.into_iter().filter(|(_, name)| words.contains(name.as_str()));
            let inline = named(&rest).filter(|path| path.contains("::")).map(str::to_owned);
            let paths = paths.map(|(path, _)| path).chain(inline);
            let homes = paths.filter_map(|path| self.home(&self.absolute(module, &path)?));
            let module = module.join("::");
            let homes = homes.map(|home| home.join("::")).filter(|home| *home != module).collect::<Vec<_>>();
            imports.entry(module).or_default().extend(homes);
        }
        imports
    }
}

type Imports = BTreeMap<String, BTreeSet<String>>;

fn first(path: &str) -> &str {
    path.split("::").next().unwrap_or_default()
}

/// The names and paths in a text, but for those that say where something is visible.
fn named(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|part: char| !(part.is_alphanumeric() || part == '_' || part == ':'));
    let mut before = "";
    words.filter(|word| !word.is_empty()).filter_map(move |word| {
        let is_visibility = std::mem::replace(&mut before, word) == "in";
        (!is_visibility).then(|| word.trim_matches(':'))
    })
}

/// What a text imports, each path with the name that it gets; and the text without that, and without the names of its files.
fn uses(text: &str) -> (Vec<(String, String)>, String) {
    let (mut uses, mut rest) = (Vec::new(), String::new());
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let code = line.trim_start();
        if code.ends_with(';') && code.split_whitespace().rev().nth(1) == Some("mod") {
            continue;
        }
        let Some((_, tree)) = code.split_once("use ").filter(|(before, _)| {
            before.is_empty() || before.starts_with("pub") && before.split_whitespace().count() == 1
        }) else {
            rest.push_str(line);
            rest.push('\n');
            continue;
        };
        let mut tree = tree.to_owned();
        while !tree.ends_with(';') {
            tree.push_str(lines.next().unwrap_or(";").trim());
        }
        leaves("", tree.trim_end_matches(';'), &mut uses);
    }
    (uses, rest)
}

/// The paths in a tree such as `a::{b, c::{self, d as e}}`.
fn leaves(before: &str, tree: &str, found: &mut Vec<(String, String)>) {
    let Some((path, list)) = tree.split_once('{') else {
        let (path, name) = tree.split_once(" as ").unwrap_or((tree, ""));
        let path = format!("{before}{}", path.trim());
        let path = path.strip_suffix("::self").unwrap_or(&path).to_owned();
        let name = if name.is_empty() { path.rsplit("::").next().unwrap_or_default() } else { name.trim() };
        found.push((path.clone(), name.to_owned()));
        return;
    };
    let before = format!("{before}{}", path.trim());
    let list = list.trim_end().strip_suffix('}').unwrap_or(list);
    let (mut depth, mut from) = (0, 0);
    for (at, part) in list.char_indices().chain([(list.len(), ',')]) {
        match part {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                let item = list[from..at].trim();
                if !item.is_empty() {
                    leaves(&before, item, found);
                }
                from = at + 1;
            }
            _ => {}
        }
    }
}

/// Modules each of which names the next, and the last the first; none, if there is no such circle.
fn circle(mut imports: Imports) -> Vec<String> {
    // What names no other is in no circle.
    while let Some(lowest) = imports.iter().find(|(_, named)| named.is_empty()).map(|(name, _)| name.clone())
    {
        imports.remove(&lowest);
        for named in imports.values_mut() {
            named.remove(&lowest);
        }
    }
    // From any module on, what is left leads around.
    let mut path: Vec<String> = imports.keys().take(1).cloned().collect();
    while let Some(next) = path.last().and_then(|last| imports[last].first()) {
        if let Some(begins) = path.iter().position(|module| module == next) {
            return path.split_off(begins);
        }
        path.push(next.clone());
    }
    Vec::new()
}

#[test]
fn files_look_one_way() {
    for (folder, least) in [("src", 100), ("cli/src", 40), ("sdk/src", 20)] {
        let imports = Sources::of(&root().join(folder)).imports();
        assert!(imports.len() >= least, "{folder}: {:?}", imports.keys());
        let arrows: usize = imports.values().map(BTreeSet::len).sum();
        assert!(arrows > least, "{folder}: {imports:?}");
        let circle = circle(imports);
        assert!(circle.is_empty(), "{folder} has a circle: {}", circle.join(" -> "));
    }
}

#[test]
fn a_circle_is_found() {
    let of = |pairs: &[(&str, &str)]| {
        let names = |module: &str| module.split("::").map(str::to_owned).collect::<Names>();
        let modules = pairs.iter().map(|(module, text)| (names(module), shipped(text))).collect();
        let mut circle = circle(Sources::new(modules).imports());
        circle.sort();
        circle
    };
    let a = ("a", "use crate::{\n    b::{C, D},\n    c,\n};\nfn f(_: C, _: D) { c::g() }");
    let c = ("c", "");
    assert_eq!(of(&[a, ("b", "use crate::c;\nfn f() { c::g() }"), c]), [""; 0]);
    assert_eq!(of(&[a, ("b", "fn f() { crate::a::g() }"), c]), ["a", "b"]);
    assert_eq!(of(&[a, ("b", "// crate::a\n#[cfg(test)]\nmod tests {\n    use crate::a;\n}"), c]), [""; 0]);
    assert_eq!(of(&[a, ("b", "#[cfg(test)]\nmod tests;\nuse crate::a;\nfn f() { a::g() }"), c]), ["a", "b"]);
    // Files of one folder, also where one of them is only named by what the folder exports.
    let d = ("d", "mod e;\nmod f;\npub use self::{e::E, f::F};");
    let e = ("d::e", "use super::F;\npub struct E(F);");
    assert_eq!(of(&[d, e, ("d::f", "pub(in crate::d) struct F;")]), [""; 0]);
    assert_eq!(of(&[d, e, ("d::f", "use super::e;\npub struct F(e::E);")]), ["d::e", "d::f"]);
    // And a folder with a file in it.
    let d = ("d", "mod e;\npub struct F;\nfn g() { e::h() }");
    assert_eq!(of(&[d, ("d::e", "pub fn h() {}")]), [""; 0]);
    assert_eq!(of(&[d, e]), ["d", "d::e"]);
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
    for folder in ["src", "cli", "sdk", "tests", "benches"] {
        for path in sources(&root().join(folder)) {
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
