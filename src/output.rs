//! Data, on stdout.

use std::io::Write as _;

use crate::exit::Failure;

/// Writes a text and makes sure it is out. A reader that has gone away (`| head`) is no fault of
/// ours, but ends the command: `println!` would panic there.
pub(crate) fn write(text: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(|error| {
            Failure::new(format!("cannot write to stdout: {error}"))
                .hint("whoever reads this command's output has gone away")
        })
}

/// Writes a line.
pub(crate) fn line(text: &str) -> Result<(), Failure> {
    write(&format!("{text}\n"))
}
