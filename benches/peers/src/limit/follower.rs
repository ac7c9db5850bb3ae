//! A follower of the limit: reads batches, syncs all that have come, says up to which.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};

use super::disk::Disk;
use super::frame;

/// More than the leader ever has in flight.
const BUFFER_BYTES: usize = 8 << 20;

#[derive(clap::Args)]
pub(crate) struct FollowerArgs {
    #[arg(long)]
    listen: String,
    #[arg(long)]
    file: PathBuf,
}

/// Follows one leader until it is gone. One thread that blocks: nothing is faster.
pub(crate) fn follow(args: &FollowerArgs) -> Result<()> {
    let mut disk = Disk::prepare(&args.file)?;
    let listener = TcpListener::bind(&args.listen).context("listening")?;
    let (mut leader, _) = listener.accept().context("accepting the leader")?;
    leader.set_nodelay(true).context("setting TCP_NODELAY")?;
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut filled = 0;
    loop {
        let read = leader.read(&mut buffer[filled..]);
        let read = read.context("reading from the leader")?;
        ensure!(read > 0, "the leader is gone, or its batch is too long");
        filled += read;
        if let Some((end, number)) = frame::whole(&buffer[..filled]) {
            disk.append(&buffer[..end])?;
            let acknowledged = leader.write_all(&number.to_le_bytes());
            acknowledged.context("answering the leader")?;
            buffer.copy_within(end..filled, 0);
            filled -= end;
        }
    }
}
