//! Finds the one wrong byte of a frame: turns the difference of two sums into a place and a value. Keeps nothing; no
//! metrics.
//!
//! The sum is linear: a word that is larger by `d` makes the sum larger by `d` times a pair of factors that depend on
//! the word's place alone. For the lower bytes of a word the place follows. What is added to the highest byte leaves
//! the sum at the top, so that the same sum comes from many places: then another form of the same page in the log
//! decides, which has the right byte there and differs little otherwise.

use super::{Frame, Log, PAGE_BYTES, SUMMED_HEADER_BYTES, Sum, word};

const SUMMED_WORDS: usize = (SUMMED_HEADER_BYTES + PAGE_BYTES) / 4;
/// Two forms of a page have more equal bytes than this.
const LIKE_BYTES_MIN: usize = PAGE_BYTES / 2;

/// A position under the sum, and the value there that makes the sum right.
type Correction = (usize, u8);

impl Log {
    /// The wrong byte of a frame, when one byte is wrong and it is beyond doubt which.
    pub(super) fn wrong_byte(&self, frames: &[Frame<'_>], index: usize, own_sum: Sum) -> Option<Correction> {
        let possible = corrections(&frames[index], own_sum, self.is_big);
        if let [only] = possible.as_slice() {
            return Some(*only);
        }
        let mut likely = possible.into_iter().filter(|correction| self.is_likely(frames, index, *correction));
        let first = likely.next()?;
        likely.next().is_none().then_some(first)
    }

    /// Whether a correction makes the frame more like another form of the page that it is then of.
    fn is_likely(&self, frames: &[Frame<'_>], index: usize, (position, new): Correction) -> bool {
        let mut header = frames[index].summed_header;
        if let Some(byte) = header.get_mut(position) {
            *byte = new;
        }
        let is_form =
            |frame: &&Frame<'_>| frame.salts == self.salts && word(&frame.summed_header, 0) == word(&header, 0);
        let mut forms = frames[..index].iter().rev().chain(&frames[index + 1..]);
        let Some(form) = forms.find(is_form) else { return false };
        let equal = form.page.iter().zip(frames[index].page).filter(|(left, right)| left == right).count();
        if equal < LIKE_BYTES_MIN {
            return false;
        }
        match position.checked_sub(SUMMED_HEADER_BYTES) {
            Some(in_page) => form.page[in_page] == new,
            // The page's number; of the size no other frame tells.
            None => position < 4,
        }
    }
}

/// Every change of one byte that makes a frame's sum right.
fn corrections(frame: &Frame<'_>, own_sum: Sum, is_big: bool) -> Vec<Correction> {
    let missing = [frame.stored[0].wrapping_sub(own_sum[0]), frame.stored[1].wrapping_sub(own_sum[1])];
    let mut found = Vec::new();
    // What one more in `first` and in `second` after a pair makes of the sum at the end.
    let (mut of_first, mut of_second): (Sum, Sum) = ([1, 0], [0, 1]);
    for place in (0..SUMMED_WORDS / 2).rev() {
        // Within a pair: second += right + first. And first += left + second.
        let of_right = of_second;
        let of_left = [of_first[0].wrapping_add(of_second[0]), of_first[1].wrapping_add(of_second[1])];
        for (word_index, factors) in [(2 * place, of_left), (2 * place + 1, of_right)] {
            for (byte_place, old) in frame.summed_word(word_index).into_iter().enumerate() {
                let shift = if is_big { 24 - 8 * byte_place } else { 8 * byte_place };
                let news = news_of_byte(old, shift, factors, missing);
                found.extend(news.map(|new| (4 * word_index + byte_place, new)));
            }
        }
        of_second = [of_second[0].wrapping_add(of_left[0]), of_second[1].wrapping_add(of_left[1])];
        of_first = of_left;
    }
    found
}

/// The values of a byte that add what is missing in the sum.
fn news_of_byte(old: u8, shift: usize, factors: Sum, missing: Sum) -> impl Iterator<Item = u8> {
    (0..=255_u8).filter(move |new| {
        let difference = (u32::from(*new) << shift).wrapping_sub(u32::from(old) << shift);
        *new != old
            && difference.wrapping_mul(factors[0]) == missing[0]
            && difference.wrapping_mul(factors[1]) == missing[1]
    })
}

impl Frame<'_> {
    fn summed_word(&self, index: usize) -> [u8; 4] {
        let begin = 4 * index;
        let bytes = match begin.checked_sub(SUMMED_HEADER_BYTES) {
            Some(in_page) => &self.page[in_page..in_page + 4],
            None => &self.summed_header[begin..begin + 4],
        };
        bytes.try_into().expect("four bytes")
    }
}
