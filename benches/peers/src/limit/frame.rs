//! What goes to the disks: batches of commands, each padded to the same length.

/// Number of the batch, then how many bytes of commands follow.
pub(super) const HEAD_BYTES: usize = 12;
/// About what a command of Evermind's takes in its log.
pub(super) const COMMAND_BYTES: usize = 256;

/// A batch under its number.
pub(super) fn frame<'a>(number: u64, commands: impl ExactSizeIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut frame = Vec::with_capacity(HEAD_BYTES + commands.len() * COMMAND_BYTES);
    frame.resize(HEAD_BYTES, 0);
    for command in commands {
        let length = command.len().min(COMMAND_BYTES);
        frame.extend_from_slice(&command[..length]);
        frame.resize(frame.len() + COMMAND_BYTES - length, 0);
    }
    let length = u32::try_from(frame.len() - HEAD_BYTES).expect("a batch is far below 4 GiB");
    frame[..8].copy_from_slice(&number.to_le_bytes());
    frame[8..HEAD_BYTES].copy_from_slice(&length.to_le_bytes());
    frame
}

/// How many of these bytes are whole batches, and the number of the last.
pub(super) fn whole(bytes: &[u8]) -> Option<(usize, u64)> {
    let mut whole = None;
    let mut end = 0;
    while let Some(head) = bytes.get(end..end + HEAD_BYTES) {
        let (number, length) = head.split_at(8);
        let number = u64::from_le_bytes(number.try_into().expect("eight bytes"));
        let length = u32::from_le_bytes(length.try_into().expect("four bytes"));
        end += HEAD_BYTES + length as usize;
        if end > bytes.len() {
            break;
        }
        whole = Some((end, number));
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_counts_once_it_is_whole() {
        let mut bytes = frame(7, [&b"one"[..], b"two"].into_iter());
        assert_eq!(bytes.len(), HEAD_BYTES + 2 * COMMAND_BYTES);
        let first = bytes.len();
        bytes.extend(frame(8, [&[1; 999][..]].into_iter()));
        for cut in 0..bytes.len() {
            let expected = (cut >= first).then_some((first, 7));
            assert_eq!(whole(&bytes[..cut]), expected, "{cut}");
        }
        assert_eq!(whole(&bytes), Some((bytes.len(), 8)));
    }
}
