//! The TCP segment that resets a connection (RFC 9293, 3.5.2), made from one that asked for it.

const IP_BYTES: usize = 20;
const TCP_BYTES: usize = 20;
const TCP: u8 = 6;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// The reset that answers this IPv4 packet; nothing where it is no TCP segment with an
/// acknowledgement, or a reset itself.
pub(crate) fn of(packet: &[u8]) -> Option<Vec<u8>> {
    let options = usize::from(packet.first()? & 0x0f) * 4;
    let segment = packet
        .get(options..)
        .filter(|rest| rest.len() >= TCP_BYTES)?;
    let flags = segment[13];
    if packet[0] >> 4 != 4 || packet[9] != TCP || flags & RST != 0 || flags & ACK == 0 {
        return None;
    }
    let mut reset = vec![0; IP_BYTES + TCP_BYTES];
    reset[0] = 0x45;
    reset[2..4].copy_from_slice(&40_u16.to_be_bytes());
    reset[8] = 64;
    reset[9] = TCP;
    reset[12..16].copy_from_slice(&packet[16..20]);
    reset[16..20].copy_from_slice(&packet[12..16]);
    let sum = checksum(&[&reset[..IP_BYTES]]);
    reset[10..12].copy_from_slice(&sum.to_be_bytes());
    reset[20..22].copy_from_slice(&segment[2..4]);
    reset[22..24].copy_from_slice(&segment[0..2]);
    // What the sender has acknowledged is what it expects next: the one place it takes a reset at.
    reset[24..28].copy_from_slice(&segment[8..12]);
    reset[32] = 5 << 4;
    reset[33] = RST;
    let length = u8::try_from(TCP_BYTES).expect("a header without options");
    let pseudo = [0, TCP, 0, length];
    let sum = checksum(&[&reset[12..20], &pseudo, &reset[IP_BYTES..]]);
    reset[36..38].copy_from_slice(&sum.to_be_bytes());
    Some(reset)
}

/// RFC 1071, over parts of even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let mut sum: u32 = words
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded to 16 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_goes_back_to_where_the_segment_came_from() {
        let mut packet = vec![0; 40];
        packet[0] = 0x45;
        packet[9] = TCP;
        packet[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        packet[20..24].copy_from_slice(&[1, 2, 3, 4]);
        packet[28..32].copy_from_slice(&[9, 9, 9, 9]);
        packet[33] = ACK;
        let reset = of(&packet).expect("a TCP segment");
        assert_eq!(reset[12..20], [10, 0, 0, 2, 10, 0, 0, 1]);
        assert_eq!(reset[20..28], [3, 4, 1, 2, 9, 9, 9, 9]);
        // A checksum over what holds it is all ones, so its complement is nothing.
        assert_eq!(checksum(&[&reset[..20]]), 0);
        assert_eq!(
            checksum(&[&reset[12..20], &[0, TCP, 0, 20], &reset[20..]]),
            0
        );
        assert!(of(&reset).is_none(), "a reset is not answered");
    }
}
