//! Just enough of Rust's grammar to search code and not its comments, strings or tests.

/// One word or sign of the code, and the line it stands on, from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token<'a> {
    /// An identifier, keyword or number whole; any other sign alone.
    pub(crate) text: &'a str,
    /// The line, from 1.
    pub(crate) line: usize,
}

/// The tokens of a file outside comments, string and character literals.
pub(crate) fn tokens(source: &str) -> Vec<Token<'_>> {
    let bytes = source.as_bytes();
    let mut tokens = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < bytes.len() {
        let end = match bytes[at] {
            byte if byte.is_ascii_whitespace() => at + 1,
            b'/' if bytes.get(at + 1) == Some(&b'/') => find(bytes, at, b"\n"),
            b'/' if bytes.get(at + 1) == Some(&b'*') => block_comment_end(bytes, at),
            b'"' => string_end(bytes, at),
            b'\'' => quote_end(bytes, at),
            byte if is_word(byte) => {
                let end = word_end(bytes, at);
                raw_string_end(bytes, at, end).unwrap_or_else(|| {
                    tokens.push(Token {
                        text: &source[at..end],
                        line,
                    });
                    end
                })
            }
            byte => {
                if byte.is_ascii() {
                    tokens.push(Token {
                        text: &source[at..=at],
                        line,
                    });
                }
                at + 1
            }
        };
        line += source[at..end].matches('\n').count();
        at = end;
    }
    tokens
}

/// The tokens without the modules marked `#[cfg(test)]`; and the names of those modules that lie in
/// files of their own.
pub(crate) fn without_tests<'a>(tokens: &[Token<'a>]) -> (Vec<Token<'a>>, Vec<&'a str>) {
    const MARK: [&str; 8] = ["#", "[", "cfg", "(", "test", ")", "]", "mod"];
    let (mut kept, mut elsewhere) = (Vec::new(), Vec::new());
    let mut at = 0;
    while at < tokens.len() {
        let rest = &tokens[at..];
        let marked = rest.len() > MARK.len() + 1
            && rest
                .iter()
                .zip(MARK)
                .all(|(token, mark)| token.text == mark);
        if !marked {
            kept.push(tokens[at].clone());
            at += 1;
            continue;
        }
        if rest[MARK.len() + 1].text == ";" {
            elsewhere.push(rest[MARK.len()].text);
            at += MARK.len() + 2;
            continue;
        }
        let mut depth = 0_usize;
        at += MARK.len() + 1;
        while at < tokens.len() {
            match tokens[at].text {
                "{" => depth += 1,
                "}" => depth = depth.saturating_sub(1),
                _ => {}
            }
            at += 1;
            if depth == 0 {
                break;
            }
        }
    }
    (kept, elsewhere)
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii()
}

fn word_end(bytes: &[u8], start: usize) -> usize {
    let length = bytes[start..]
        .iter()
        .take_while(|byte| is_word(**byte))
        .count();
    start + length
}

/// Where `needle` begins at or after `from`, else the end of the text.
fn find(bytes: &[u8], from: usize, needle: &[u8]) -> usize {
    let rest = bytes.get(from..).unwrap_or_default();
    let found = rest
        .windows(needle.len())
        .position(|window| window == needle);
    found.map_or(bytes.len(), |offset| from + offset)
}

fn block_comment_end(bytes: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0_usize);
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    bytes.len()
}

fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// The end of a character literal, or of the lone sign that begins a lifetime.
fn quote_end(bytes: &[u8], start: usize) -> usize {
    if bytes.get(start + 1) == Some(&b'\\') {
        return (find(bytes, start + 3, b"'") + 1).min(bytes.len());
    }
    // A character is at most four bytes long; a lifetime has no closing quote that near, unless
    // another literal follows, and then a word of more than one byte stands between.
    let window = &bytes[start + 1..bytes.len().min(start + 6)];
    match window.iter().position(|&byte| byte == b'\'') {
        Some(1) => start + 3,
        Some(length) if length > 1 && !window[0].is_ascii() => start + 2 + length,
        _ => start + 1,
    }
}

/// The end of a raw string that this word (`r`, `br`, `cr`) opens, if it does.
fn raw_string_end(bytes: &[u8], start: usize, word_end: usize) -> Option<usize> {
    if !matches!(&bytes[start..word_end], b"r" | b"br" | b"cr") {
        return None;
    }
    let hashes = bytes[word_end..]
        .iter()
        .take_while(|&&byte| byte == b'#')
        .count();
    if bytes.get(word_end + hashes) != Some(&b'"') {
        return None;
    }
    let close: Vec<u8> = b"\"".iter().copied().chain(vec![b'#'; hashes]).collect();
    let body = word_end + hashes + 1;
    Some((find(bytes, body, &close) + close.len()).min(bytes.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(source: &str) -> Vec<&str> {
        tokens(source).iter().map(|token| token.text).collect()
    }

    #[test]
    fn comments_and_literals_are_not_code() {
        assert_eq!(texts("a // b\nc"), ["a", "c"]);
        assert_eq!(texts("a /* b /* c */ d */ e"), ["a", "e"]);
        assert_eq!(texts(r#"a "b \" c" d"#), ["a", "d"]);
        assert_eq!(texts(r##"a r#"b " c"# d br"e" f"##), ["a", "d", "f"]);
        assert_eq!(
            texts(r"'a' b '\'' c '\u{41}' d 'é' e"),
            ["b", "c", "d", "e"]
        );
    }

    #[test]
    fn a_lifetime_is_no_literal() {
        assert_eq!(texts("&'a T, 'static 'x'"), ["&", "a", "T", ",", "static"]);
    }

    #[test]
    fn lines_are_counted_through_what_is_passed_over() {
        let source = "/* one\ntwo */ \"three\nfour\" word";
        assert_eq!(
            tokens(source),
            [Token {
                text: "word",
                line: 3
            }]
        );
    }

    #[test]
    fn test_modules_are_left_out_and_those_in_files_named() {
        let source = "a #[cfg(test)] mod tests { fn b() { } } c #[cfg(test)] mod script; d";
        let (kept, elsewhere) = without_tests(&tokens(source));
        let kept: Vec<_> = kept.iter().map(|token| token.text).collect();
        assert_eq!(kept, ["a", "c", "d"]);
        assert_eq!(elsewhere, ["script"]);
    }
}
