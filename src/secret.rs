//! Secrets, which better come from files: command lines and variables are seen by others.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::exit::Failure;

/// A secret as text or from its file, without white space around it.
pub(crate) fn read(
    flag: &str,
    text: Option<String>,
    file: Option<&Path>,
) -> Result<Option<String>, Failure> {
    let text = match (text, file) {
        (Some(text), _) => text,
        (None, Some(path)) => std::fs::read_to_string(path).map_err(|error| {
            Failure::usage(format!(
                "cannot read {} ({flag}-file): {error}",
                path.display()
            ))
            .hint("it must be there, be text, and be readable by this user")
        })?,
        (None, None) => return Ok(None),
    };
    Ok(Some(text.trim().to_owned()))
}

/// A secret from a flag of either form, as text or as a file, or else from a variable of either.
/// Clap's own variables would set a flag against the variable of its other form.
pub(crate) fn read_or_variable(
    flag: &str,
    variable: &str,
    flags: (Option<String>, Option<PathBuf>),
    variables: impl Fn(&str) -> Option<OsString>,
) -> Result<Option<String>, Failure> {
    let mut forms = flags;
    if forms == (None, None) {
        let read = |name: &str| variables(name).filter(|value| !value.is_empty());
        let file = format!("{variable}_FILE");
        let text = read(variable).map(OsString::into_string).transpose();
        let text = text.map_err(|_| {
            Failure::usage(format!("{variable} is not UTF-8")).hint("is it what was meant?")
        })?;
        forms = (text, read(&file).map(PathBuf::from));
        if let (Some(_), Some(_)) = forms {
            return Err(
                Failure::usage(format!("both {variable} and {file} are set"))
                    .hint("set only one of them; a file keeps the secret out of sight"),
            );
        }
    }
    read(flag, forms.0, forms.1.as_deref())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_files_line_ends_are_not_part_of_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "  sixteen bytes ok\r\n").unwrap();
        let secret = read("--cluster-secret", None, Some(file.path())).unwrap();
        assert_eq!(secret.as_deref(), Some("sixteen bytes ok"));
    }

    #[test]
    fn a_missing_file_names_its_flag() {
        let error = read("--cluster-secret", None, Some(Path::new("/nowhere/x"))).unwrap_err();
        assert!(
            error.message.contains("--cluster-secret-file"),
            "{}",
            error.message
        );
    }
}
