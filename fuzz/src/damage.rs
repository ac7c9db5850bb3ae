//! What happens to bytes on a disk.

use arbitrary::Arbitrary;

/// What a disk writes as a whole, in bytes.
pub const SECTOR_BYTES: usize = 512;

/// One change. Numbers wrap around what is there.
#[derive(Debug, Clone, Arbitrary)]
pub enum Damage {
    /// One bit of one file.
    Flip { file: u8, bit: u32 },
    /// Bytes became something else.
    Bytes { file: u8, at: u16, bytes: Vec<u8> },
    /// Bytes became zero.
    Zero { file: u8, at: u16, length: u16 },
    /// Whole sectors became zero.
    ZeroSectors { file: u8, at: u8, count: u8 },
    /// The same, counted back from the last that is not zero.
    ZeroTail { file: u8, count: u8 },
    /// Another sector's bytes, of any file.
    CopySector {
        from: (u8, u8),
        to: (u8, u8),
        count: u8,
    },
    /// Its end is missing.
    Cut { file: u8, at: u16 },
    /// It is longer than it was.
    Longer { file: u8, bytes: Vec<u8> },
    /// Bytes are missing from within.
    Remove { file: u8, at: u16, length: u16 },
    /// Two files have changed places.
    Swap(u8, u8),
}

/// Changes some of these files.
pub fn damaged(files: &mut [Vec<u8>], damage: &Damage) {
    let count = files.len();
    let place = |number: u8| usize::from(number) % count;
    match damage {
        Damage::Flip { file, bit } => {
            let bytes = &mut files[place(*file)];
            if !bytes.is_empty() {
                let bit = usize::try_from(*bit).expect("64 bits") % (bytes.len() * 8);
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
        }
        Damage::Bytes { file, at, bytes } => {
            let target = &mut files[place(*file)];
            let at = within(target, *at);
            for (byte, other) in target[at..].iter_mut().zip(bytes) {
                *byte = *other;
            }
        }
        Damage::Zero { file, at, length } => {
            let bytes = &mut files[place(*file)];
            let at = within(bytes, *at);
            zero(bytes, at, usize::from(*length));
        }
        Damage::ZeroSectors { file, at, count } => {
            let bytes = &mut files[place(*file)];
            let sectors = (bytes.len() / SECTOR_BYTES).max(1);
            let at = usize::from(*at) % sectors * SECTOR_BYTES;
            zero(bytes, at, usize::from(*count) * SECTOR_BYTES);
        }
        Damage::ZeroTail { file, count } => {
            let bytes = &mut files[place(*file)];
            let written = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0);
            let last = written / SECTOR_BYTES;
            let at = last.saturating_sub(usize::from(*count)) * SECTOR_BYTES;
            zero(bytes, at, SECTOR_BYTES);
        }
        Damage::CopySector { from, to, count } => {
            let source = &files[place(from.0)];
            let sectors = (source.len() / SECTOR_BYTES).max(1);
            let at = usize::from(from.1) % sectors * SECTOR_BYTES;
            let length = usize::from(*count % 8 + 1) * SECTOR_BYTES;
            let piece = source[at..(at + length).min(source.len())].to_vec();
            let target = &mut files[place(to.0)];
            let sectors = (target.len() / SECTOR_BYTES).max(1);
            let at = usize::from(to.1) % sectors * SECTOR_BYTES;
            for (byte, other) in target[at..].iter_mut().zip(piece) {
                *byte = other;
            }
        }
        Damage::Cut { file, at } => {
            let bytes = &mut files[place(*file)];
            let at = within(bytes, *at);
            bytes.truncate(at);
        }
        Damage::Longer { file, bytes } => files[place(*file)].extend_from_slice(bytes),
        Damage::Remove { file, at, length } => {
            let bytes = &mut files[place(*file)];
            let at = within(bytes, *at);
            let end = (at + usize::from(*length)).min(bytes.len());
            bytes.drain(at..end);
        }
        Damage::Swap(one, other) => files.swap(place(*one), place(*other)),
    }
}

fn within(bytes: &[u8], at: u16) -> usize {
    usize::from(at) % (bytes.len() + 1)
}

fn zero(bytes: &mut [u8], at: usize, length: usize) {
    let end = at.saturating_add(length).min(bytes.len());
    bytes[at..end].fill(0);
}
