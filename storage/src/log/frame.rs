//! Frames: how one batch of records lies on the disk.
//!
//! A frame starts at a sector and fills whole sectors. Each sector begins with a marker byte, so
//! that no sector of a frame is ever all zero; markers have at least two bits set, so that no
//! single flipped bit makes an acknowledged sector look unwritten.
//!
//! ```text
//! first sector   0  marker 0xA5
//!                1  format version
//!                2  two zero bytes
//!                4  payload bytes        u32, little-endian like all that follow
//!                8  sequence             u64
//!               16  checksum of the frame's bytes from 24 to its end, markers and padding included
//!               20  checksum of bytes 0 to 20
//!               24  payload …
//! later sectors  0  marker 0xC0 | the sequence's low six bits
//!                1  payload …
//! ```

/// What the disk writes as a whole or not at all, in bytes.
pub(super) const SECTOR_BYTES: usize = 512;
const HEAD_MARKER: u8 = 0xA5;
const FORMAT: u8 = 1;
const HEADER_BYTES: usize = 24;
const FIRST_ROOM: usize = SECTOR_BYTES - HEADER_BYTES;
const NEXT_ROOM: usize = SECTOR_BYTES - 1;

/// The marker of a frame's later sectors.
pub(super) fn later_marker(sequence: u64) -> u8 {
    0xC0 | (sequence & 0x3F) as u8
}

/// How many bytes on disk a payload takes.
pub(super) fn frame_bytes(payload_bytes: usize) -> usize {
    let later = payload_bytes.saturating_sub(FIRST_ROOM).div_ceil(NEXT_ROOM);
    (1 + later) * SECTOR_BYTES
}

/// The most payload that fits a frame of this many bytes.
pub(super) fn payload_bytes_max(frame_bytes: usize) -> usize {
    let sectors = frame_bytes / SECTOR_BYTES;
    assert!(sectors > 0, "a frame has a sector at least");
    FIRST_ROOM + (sectors - 1) * NEXT_ROOM
}

/// Lays out a frame in `out`, replacing what is there.
pub(super) fn write(sequence: u64, payload: &[u8], out: &mut Vec<u8>) {
    out.clear();
    out.reserve(frame_bytes(payload.len()));
    out.resize(HEADER_BYTES, 0);
    let (first, later) = payload.split_at(payload.len().min(FIRST_ROOM));
    out.extend_from_slice(first);
    for chunk in later.chunks(NEXT_ROOM) {
        out.push(later_marker(sequence));
        out.extend_from_slice(chunk);
    }
    out.resize(out.len().next_multiple_of(SECTOR_BYTES), 0);

    let length = u32::try_from(payload.len()).expect("a payload is bounded by the options");
    out[0] = HEAD_MARKER;
    out[1] = FORMAT;
    out[4..8].copy_from_slice(&length.to_le_bytes());
    out[8..16].copy_from_slice(&sequence.to_le_bytes());
    let checksum = crc32fast::hash(&out[HEADER_BYTES..]);
    out[16..20].copy_from_slice(&checksum.to_le_bytes());
    let checksum = crc32fast::hash(&out[..20]);
    out[20..24].copy_from_slice(&checksum.to_le_bytes());
}

/// A frame's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// Bytes of payload.
    pub(super) payload_bytes: usize,
    /// Counts frames over the whole log.
    pub(super) sequence: u64,
    checksum: u32,
}

/// What a sector where a frame should start turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeaderSector {
    /// Never written.
    Zero,
    /// A header that its checksum vouches for.
    Intact(Header),
    /// Neither.
    Bad(&'static str),
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// Whether a sector is as zero-filling left it.
pub(super) fn is_zero(sector: &[u8]) -> bool {
    static ZERO: [u8; SECTOR_BYTES] = [0; SECTOR_BYTES];
    sector == &ZERO[..sector.len()]
}

/// Reads the header in a frame's first sector.
pub(super) fn read_header(sector: &[u8]) -> HeaderSector {
    if is_zero(&sector[..SECTOR_BYTES]) {
        return HeaderSector::Zero;
    }
    if u32_at(sector, 20) != crc32fast::hash(&sector[..20]) {
        return HeaderSector::Bad("the header's checksum does not match");
    }
    if sector[0] != HEAD_MARKER {
        return HeaderSector::Bad("no frame starts here");
    }
    if sector[1] != FORMAT {
        return HeaderSector::Bad("the frame's format is not known to this build");
    }
    HeaderSector::Intact(Header {
        payload_bytes: u32_at(sector, 4) as usize,
        sequence: u64::from_le_bytes(sector[8..16].try_into().expect("eight bytes")),
        checksum: u32_at(sector, 16),
    })
}

impl Header {
    /// Bytes on disk.
    pub(super) fn frame_bytes(&self) -> usize {
        frame_bytes(self.payload_bytes)
    }

    /// The payload of the frame that fills `frame`, if its checksum holds.
    pub(super) fn read_payload(&self, frame: &[u8]) -> Option<Vec<u8>> {
        if crc32fast::hash(&frame[HEADER_BYTES..]) != self.checksum {
            return None;
        }
        let mut payload = Vec::with_capacity(frame.len());
        payload.extend_from_slice(&frame[HEADER_BYTES..SECTOR_BYTES]);
        for sector in frame[SECTOR_BYTES..].chunks(SECTOR_BYTES) {
            payload.extend_from_slice(&sector[1..]);
        }
        payload.truncate(self.payload_bytes);
        Some(payload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_of_any_length_comes_back_and_leaves_no_sector_zero() {
        for length in (0..1600).chain([4 << 20]) {
            let payload = vec![0u8; length];
            let mut frame = Vec::new();
            write(7, &payload, &mut frame);
            assert_eq!(frame.len(), frame_bytes(length));
            assert!(payload_bytes_max(frame.len()) >= length);
            for sector in frame.chunks(SECTOR_BYTES) {
                assert!(sector.iter().map(|byte| byte.count_ones()).sum::<u32>() >= 2);
            }
            let HeaderSector::Intact(header) = read_header(&frame) else {
                panic!("the header of a frame of {length} bytes is intact");
            };
            assert_eq!(header.sequence, 7);
            assert_eq!(header.read_payload(&frame), Some(payload));
        }
    }

    #[test]
    fn a_frame_of_the_most_payload_fits() {
        for sectors in 1..10 {
            let bytes = sectors * SECTOR_BYTES;
            assert_eq!(frame_bytes(payload_bytes_max(bytes)), bytes);
            assert!(frame_bytes(payload_bytes_max(bytes) + 1) > bytes);
        }
    }
}
