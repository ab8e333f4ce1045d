//! The scan for the end of a string, sixteen bytes at a time.
//!
//! Most of a record is strings, so this is where most of its decoding goes. It is the only place with `unsafe` code
//! here, and only because the compiler wants it said that every x86-64 processor has SSE2. Other processors take a
//! portable way with the same answer.

/// How many bytes of the chunk stand before the first quote, backslash or control character: 16 if there is none.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
#[expect(unsafe_code, reason = "SSE2 is in every x86-64 processor, but calling a function that names it is unsafe")]
pub(super) fn bytes_before_stop(chunk: &[u8; 16]) -> usize {
    // SAFETY: `sse2` needs nothing but the feature, which the architecture guarantees.
    unsafe { sse2(chunk) }
}

#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
pub(super) fn bytes_before_stop(chunk: &[u8; 16]) -> usize {
    portable(chunk)
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "sse2")]
fn sse2(chunk: &[u8; 16]) -> usize {
    use std::arch::x86_64::{
        _mm_cmpeq_epi8, _mm_min_epu8, _mm_movemask_epi8, _mm_or_si128, _mm_set_epi64x, _mm_set1_epi8,
    };
    let both = u128::from_le_bytes(*chunk);
    let bytes = _mm_set_epi64x((both >> 64) as i64, both as i64);
    let quote = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'"' as i8));
    let backslash = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'\\' as i8));
    let control = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1f)), bytes);
    let stops = _mm_movemask_epi8(_mm_or_si128(_mm_or_si128(quote, backslash), control)) as u32;
    // The seventeenth bit stands for none in the sixteen.
    (stops | 1 << 16).trailing_zeros() as usize
}

#[cfg(any(test, not(target_arch = "x86_64")))]
fn portable(chunk: &[u8; 16]) -> usize {
    const ONES: u128 = u128::from_le_bytes([0x01; 16]);
    const HIGHS: u128 = ONES << 7;
    let bytes = u128::from_le_bytes(*chunk);
    // The high bit of each byte that is smaller than `n`; a borrow can spoil only bytes behind a true one.
    let below = |bytes: u128, n: u128| bytes.wrapping_sub(ONES * n) & !bytes & HIGHS;
    let equal = |b: u8| below(bytes ^ (ONES * u128::from(b)), 1);
    let stops = equal(b'"') | equal(b'\\') | below(bytes, 0x20);
    stops.trailing_zeros() as usize / 8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_at_every_place_is_judged_as_by_hand() {
        for b in 0..=255_u8 {
            for at in 0..16 {
                for filler in [b'x', b' ', 0x7f, 0x80, 0xff, b'!', b'#', b'[', b']'] {
                    let mut chunk = [filler; 16];
                    chunk[at] = b;
                    let by_hand = chunk.iter().position(|b| matches!(b, b'"' | b'\\' | 0..0x20)).unwrap_or(16);
                    assert_eq!((bytes_before_stop(&chunk), portable(&chunk)), (by_hand, by_hand), "{chunk:?}");
                }
            }
        }
    }
}
