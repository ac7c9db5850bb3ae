//! What every measurement is asked for, and where it works and leaves its figures.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

/// Flags that each kind of measurement has.
#[derive(clap::Args)]
pub(crate) struct Bench {
    /// The release build of `evermind`
    #[arg(long, value_name = "FILE", default_value = "evermind")]
    pub(crate) evermind: PathBuf,
    /// Where the servers keep their data meanwhile, and where the figures are written
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    dir: PathBuf,
    /// How often everything is measured, each time with new servers
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: u32,
    /// How long each measurement takes, as in 4s or 500ms
    #[arg(long, value_name = "TIME", default_value = "4s", value_parser = crate::duration)]
    pub(crate) duration: Duration,
    /// Print JSON instead of tables
    #[arg(long)]
    pub(crate) json: bool,
}

impl Bench {
    /// The directory, made if it is not there. Absolute: servers run elsewhere, and are told it.
    pub(crate) fn directory(&self) -> Result<PathBuf> {
        fs::create_dir_all(&self.dir).with_context(|| format!("making {}", self.dir.display()))?;
        absolute(&self.dir)
    }

    /// Where the program is, from wherever it is started.
    pub(crate) fn program(&self) -> Result<PathBuf> {
        absolute(&self.evermind)
    }

    /// Keeps every figure in a file, and prints them or the tables.
    pub(crate) fn report(&self, file: &Path, figures: &str, tables: &str) -> Result<()> {
        fs::write(file, figures).with_context(|| format!("writing {}", file.display()))?;
        eprintln!("every figure of every round is in {}", file.display());
        if self.json {
            println!("{figures}");
        } else {
            print!("{tables}");
        }
        Ok(())
    }
}

fn absolute(path: &Path) -> Result<PathBuf> {
    let whole = path.canonicalize();
    whole.with_context(|| format!("finding {}", path.display()))
}
