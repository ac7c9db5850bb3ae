//! Writes where the corpus of `peer_frames` begins: one well-formed frame of each kind and shape.
//! The inputs of the other targets are decoded by `arbitrary`, and were found by fuzzing alone.

use std::path::Path;
use std::{fs, io};

fn main() -> io::Result<()> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/peer_frames");
    fs::create_dir_all(&dir)?;
    for (number, seed) in evermind_fuzz::peer_frames::seeds().into_iter().enumerate() {
        fs::write(dir.join(format!("seed-{number:02}")), seed)?;
    }
    Ok(())
}
