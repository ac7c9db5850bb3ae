//! The seeded bugs are in no build but the proofs' own: wherever the code names one, it stands under
//! `#[cfg(evermind_mutants)]`, nothing here sets that cfg, and the binary has no trace of it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::sources::{read, rust_files};
use crate::lexer::{Token, tokens};
use crate::workspace::Workspace;

/// The cfg, which only a command line may set.
const CFG: &str = "evermind_mutants";

/// Where the bugs are listed.
const LIST: &str = "lock/src/mutant.rs";

/// Modules that are there under the cfg alone.
const UNDER_CFG: [&str; 2] = [LIST, "lock/src/table/mutated.rs"];

/// What ships.
const SHIPPED: [&str; 6] = [
    "lock/src",
    "storage/src",
    "raft/src",
    "api/src",
    "client/src",
    "src",
];

/// Words by which a hook speaks of a seeded bug.
const WORDS: [&str; 3] = ["mutant", "Mutant", "mutated"];

/// Stands in every program that has the bugs: `MARK` in the list of them.
const MARK: &str = "this evermind was built with seeded bugs";

/// Fails on the first hook that a release would have; the number is how many bugs have one.
pub(super) fn check(workspace: &Workspace) -> Result<usize> {
    let list = read(&workspace.root().join(LIST))?;
    ensure!(list.contains(MARK), "control: {LIST} has no {MARK:?}");
    let listed = listed(&tokens(&list));
    ensure!(!listed.is_empty(), "control: {LIST} lists no bug");
    let mut hooked = BTreeSet::new();
    for home in SHIPPED {
        for file in rust_files(&workspace.root().join(home))? {
            let name = file.strip_prefix(workspace.root()).unwrap_or(&file);
            let source = read(&file)?;
            let code = tokens(&source);
            if name != Path::new(LIST) {
                hooked.extend(named(&code));
            }
            if UNDER_CFG.iter().any(|under| name == Path::new(under)) {
                continue;
            }
            let kept = without_hooks(&code);
            let found = kept.iter().find(|token| WORDS.contains(&token.text));
            ensure!(
                found.is_none(),
                "{}:{}: not under #[cfg({CFG})], so a release would have it",
                name.display(),
                found.map_or(0, |token| token.line)
            );
        }
    }
    ensure!(
        hooked == listed,
        "these seeded bugs are listed and nowhere in the code, or the other way round: {:?}",
        listed.symmetric_difference(&hooked).collect::<Vec<_>>()
    );
    let cargo = workspace.root().join(".cargo/config.toml");
    ensure!(
        !fs::read_to_string(&cargo).is_ok_and(|text| text.contains(CFG)),
        "{} must not set {CFG}",
        cargo.display()
    );
    Ok(listed.len())
}

/// Fails if a binary has the seeded bugs.
pub(crate) fn check_binary(workspace: &Workspace, binary: &Path) -> Result<()> {
    let bytes = fs::read(binary).with_context(|| format!("reading {}", binary.display()))?;
    let has = |text: &str| {
        let text = text.as_bytes();
        bytes.windows(text.len()).any(|window| window == text)
    };
    // A text of the rules themselves: the search does find what is there.
    let control = "the fencing tokens are used up";
    let rules = read(&workspace.root().join("lock/src/table/hold.rs"))?;
    ensure!(
        rules.contains(control) && has(control),
        "control: the binary's texts cannot be searched"
    );
    ensure!(!has(MARK), "{} has the seeded bugs", binary.display());
    Ok(())
}

/// The bugs that the list has: `Name = "name": "what is wrong";`.
fn listed(code: &[Token<'_>]) -> BTreeSet<String> {
    let listed = code.windows(3).filter_map(|words| {
        let [before, name, is] = words else {
            return None;
        };
        let is_row = matches!(before.text, "{" | ";") && is.text == "=";
        let is_variant = name.text.starts_with(char::is_uppercase);
        (is_row && is_variant).then(|| name.text.to_owned())
    });
    listed.collect()
}

/// The bugs that the code names: `Mutant::Name`.
fn named(code: &[Token<'_>]) -> BTreeSet<String> {
    let named = code.windows(4).filter_map(|words| {
        let [of, one, two, name] = words else {
            return None;
        };
        let is_path = of.text == "Mutant" && one.text == ":" && two.text == ":";
        let is_variant = name.text.starts_with(char::is_uppercase) && name.text != "ALL";
        (is_path && is_variant).then(|| name.text.to_owned())
    });
    named.collect()
}

/// The tokens without what stands under `#[cfg(evermind_mutants)]`: an item, a statement or an arm.
fn without_hooks<'a>(code: &[Token<'a>]) -> Vec<Token<'a>> {
    const UNDER: [&str; 7] = ["#", "[", "cfg", "(", CFG, ")", "]"];
    let mut kept = Vec::new();
    let mut at = 0;
    while at < code.len() {
        let rest = &code[at..];
        let marked = rest.len() > UNDER.len()
            && rest
                .iter()
                .zip(UNDER)
                .all(|(token, mark)| token.text == mark);
        if marked {
            at += UNDER.len();
            at += length(&code[at..]);
        } else {
            kept.push(code[at].clone());
            at += 1;
        }
    }
    kept
}

/// How many tokens the first item, statement or arm takes: to its `;`, or to the end of its block;
/// of a `let` or a `use`, whose blocks are within it, to its `;` only.
fn length(code: &[Token<'_>]) -> usize {
    let to_semicolon = matches!(code.first().map(|token| token.text), Some("let" | "use"));
    // Blocks in the head of an arm or of a condition are patterns: the block comes after.
    let has_arrow = arrow(code);
    let mut depth = 0_usize;
    for (at, token) in code.iter().enumerate() {
        match token.text {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => {
                depth = depth.saturating_sub(1);
                let follows = code.get(at + 1).map(|token| token.text);
                let ends = token.text == "}" && depth == 0 && !to_semicolon;
                if ends && at >= has_arrow && !matches!(follows, Some("else" | "=" | "&" | "|")) {
                    return at + 1;
                }
            }
            ";" if depth == 0 => return at + 1,
            _ => {}
        }
    }
    code.len()
}

/// Where an arm's `=>` stands, if what comes first is an arm; else 0.
fn arrow(code: &[Token<'_>]) -> usize {
    let mut depth = 0_usize;
    for (at, pair) in code.windows(2).enumerate() {
        match pair[0].text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => match depth.checked_sub(1) {
                Some(less) => depth = less,
                None => return 0,
            },
            ";" if depth == 0 => return 0,
            "=" if depth == 0 && pair[1].text == ">" => return at,
            _ => {}
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(source: &str) -> Vec<&str> {
        let code = tokens(source);
        let kept = without_hooks(&code);
        kept.iter().map(|token| token.text).collect()
    }

    #[test]
    fn what_stands_under_the_cfg_is_left_out_and_no_more() {
        let under = |hook: &str| format!("a; #[cfg(evermind_mutants)] {hook} b");
        for hook in [
            "use crate::mutant::{self, Mutant};",
            "if mutant::is(Mutant::A) { return Some(B { c }); }",
            "if let A { b } = c && mutant::is(Mutant::A) { d(); }",
            "let place = if mutant::is(Mutant::A) { 1 } else { place };",
            "mod mutated;",
            "Err(_) if mutant::is(Mutant::A) => { return 1; }",
        ] {
            assert_eq!(left(&under(hook)), ["a", ";", "b"], "{hook}");
        }
    }

    #[test]
    fn another_cfg_hides_nothing() {
        let list =
            "mutants! { A = \"a\": \"x\"; /// In `b`.\n B = \"b\": \"y\"; } static C: D = 1;";
        let found: Vec<String> = super::listed(&tokens(list)).into_iter().collect();
        assert_eq!(found, ["A", "B"]);
        let source = "#[cfg(any(evermind_mutants, test))] mutant::pick(None);";
        assert!(left(source).contains(&"mutant"));
        let source = "if cfg!(evermind_mutants) { mutant::is(Mutant::A) }";
        assert!(left(source).contains(&"Mutant"));
    }

    #[test]
    fn a_bug_is_named_by_its_path() {
        let names = named(&tokens(
            "Mutant::Early, mutant::is(Mutant::Late), Mutant::ALL",
        ));
        assert_eq!(names, BTreeSet::from(["Early".into(), "Late".into()]));
    }
}
