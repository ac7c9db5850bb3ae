//! Words for a POSIX shell.

/// The command as a line that a POSIX shell splits into these very words.
pub(crate) fn line<S: AsRef<str>>(words: &[S]) -> String {
    words
        .iter()
        .map(|word| quote(word.as_ref()))
        .collect::<Vec<_>>()
        .join(" ")
}

fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:,=@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    // Within single quotes nothing is special but the single quote itself.
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_back_the_same_words() {
        let words = [
            "/usr/bin/evermind",
            "--initial-cluster",
            "1=127.0.0.1:7611,2=h:2",
            "",
            "with space",
            "it's",
            "$HOME `x` \"q\" \\ !",
            "a\nb",
            "~",
            "*",
            "ümlaut",
        ];
        let script = format!("printf '%s\\0' {}", line(&words));
        let output = std::process::Command::new("sh")
            .args(["-c", &script])
            .output()
            .unwrap();
        let read = String::from_utf8(output.stdout).unwrap();
        assert_eq!(
            read.strip_suffix('\0')
                .unwrap()
                .split('\0')
                .collect::<Vec<_>>(),
            words
        );
    }

    #[test]
    fn plain_words_stay_plain() {
        assert_eq!(
            line(&["serve", "--listen", "127.0.0.1:7601"]),
            "serve --listen 127.0.0.1:7601"
        );
    }
}
