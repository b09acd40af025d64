//! Mends the write-ahead log: turns a log with damaged frames in the middle into one that SQLite reads to its end.
//!
//! SQLite takes the log up to the first frame whose checksum is wrong, and drops what lies behind it without a word:
//! one rotten byte would undo every commit after it, although all of them were acknowledged. But each frame can be
//! checked against the checksum in the frame before it, so that what lies behind the damage is known to be good.
//!
//! A frame with one wrong byte is put right: the checksum, and where it leaves a choice an older form of the page, say
//! which byte it was. A frame with more is kept as it is
//! when a later commit proves that it was once whole; the database is then to be checked. A damaged end without such a
//! proof is a commit that a power cut tore: it was never acknowledged, and SQLite drops it rightly.
//!
//! What a power cut leaves must never pass for rot. The log is synced at the end of each commit, so that all that a cut
//! can tear is one commit, the last. Behind the last synced commit may then lie, in any mixture of sectors: frames of
//! that commit, frames of the log's earlier rounds (other salts, but chained and once committed), and frames with our
//! salts that an earlier cut tore and that a later commit overwrote in part. Hence the proof: a commit was whole if the
//! very next frame is chained to its last one. That frame was written after the sync, and nothing that a cut mixes
//! fits. Without it, SQLite's view of the log is right.
//!
//! The format: <https://www.sqlite.org/fileformat2.html#the_write_ahead_log>.

mod byte;

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

const HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;
/// Every database of ours has SQLite's default page size.
pub(crate) const PAGE_BYTES: usize = 4096;
const FRAME_BYTES: usize = FRAME_HEADER_BYTES + PAGE_BYTES;
/// Checksums over big-endian words; without the last bit, over little-endian ones.
const MAGIC_BIG: u32 = 0x377f_0683;
const MAGIC_LITTLE: u32 = 0x377f_0682;
const VERSION: u32 = 3_007_000;
/// A log above this is left to SQLite: the writer cuts it far below, and it must fit into memory.
const LOG_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Frames in which a wrong byte is looked for: each takes milliseconds, and a torn log may have thousands.
const CORRECTIONS_MAX: usize = 64;

/// The page number and the size in a frame's header are under its checksum, the salts behind them are not.
const SUMMED_HEADER_BYTES: usize = 8;

type Sum = [u32; 2];
type Salts = [u8; 8];

/// What was done to a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mended {
    /// Frames with one wrong byte, put right.
    pub(crate) corrected: u64,
    /// Frames with more damage, kept as they are.
    pub(crate) damaged: u64,
    /// Frames that SQLite would not have reached.
    pub(crate) regained: u64,
}

/// One frame: the page, and the size of the database in pages when a commit ends with it.
struct Frame<'a> {
    summed_header: [u8; SUMMED_HEADER_BYTES],
    salts: Salts,
    stored: Sum,
    page: &'a [u8],
}

/// A frame after its check.
struct Checked {
    /// The byte to write instead of the wrong one, and its place under the sum.
    corrected: Option<(usize, u8)>,
    state: State,
    /// If it lies before a commit that is proven, it is a page of this log and not of an older one.
    is_ours: bool,
}

impl Checked {
    /// It is what was written behind the frame before it.
    fn is_sound(&self) -> bool {
        self.state != State::Damaged
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Good,
    Corrected,
    Damaged,
}

/// The part of a frame that is wrong.
enum Fault {
    StoredSum,
    Content,
    /// The frame behind fits to neither.
    Unknown,
}

/// Mends the log of a database if damage lies before commits that are known to be good. The damaged log stays beside
/// it under the name `aside`. `None` when there was nothing to mend.
pub(crate) fn mend(log: &Path, aside: &Path) -> io::Result<Option<Mended>> {
    match fs::metadata(log) {
        Ok(metadata) if metadata.len() <= LOG_BYTES_MAX && metadata.len() > HEADER_BYTES as u64 => {}
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(cause),
        _ => return Ok(None),
    }
    let bytes = fs::read(log)?;
    let Some((mended, repaired)) = repair(&bytes) else { return Ok(None) };
    let fresh = crate::open::with_suffix(log, ".mended");
    write_synced(&fresh, &repaired)?;
    fs::copy(log, aside)?;
    fs::rename(&fresh, log)?;
    Ok(Some(mended))
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// The log as it should be, when SQLite would stop too early in it.
pub(crate) fn repair(bytes: &[u8]) -> Option<(Mended, Vec<u8>)> {
    let (header, rest) = bytes.split_at_checked(HEADER_BYTES)?;
    let frames: Vec<Frame<'_>> = rest.chunks_exact(FRAME_BYTES).map(Frame::read).collect();
    let log = Log::read(header, &frames)?;
    let checked = log.check(&frames);
    let reached = if log.is_header_good { log.intact_prefix(&frames, &checked) } else { 0 };
    let end = provable_end(&frames, &checked)?;
    if end <= reached {
        return None;
    }
    let mut mended = Mended { regained: (end - reached) as u64, ..Mended::default() };
    for state in checked[..end].iter().map(|checked| checked.state) {
        mended.corrected += u64::from(state == State::Corrected);
        mended.damaged += u64::from(state == State::Damaged);
    }
    Some((mended, log.rewrite(&frames, &checked[..end])))
}

/// What the header says, or what the frames say of it when it is damaged.
struct Log {
    is_header_good: bool,
    salts: Salts,
    is_big: bool,
    /// The sum that the first frame is chained to.
    seed: Option<Sum>,
}

impl Log {
    fn read(header: &[u8], frames: &[Frame<'_>]) -> Option<Log> {
        let magic = word(header, 0);
        let stored = [word(header, 24), word(header, 28)];
        let own_sum = sum([0, 0], &header[..24], magic == MAGIC_BIG);
        let is_known = matches!(magic, MAGIC_BIG | MAGIC_LITTLE) && word(header, 8) as usize == PAGE_BYTES;
        if is_known && own_sum == stored {
            let salts = header[16..24].try_into().expect("eight bytes");
            return Some(Log { is_header_good: true, salts, is_big: magic == MAGIC_BIG, seed: Some(stored) });
        }
        let first = frames.first()?;
        for is_big in [false, true] {
            let own_sum = sum([0, 0], &header[..24], is_big);
            let fits = |seed: &Sum| first.sum(*seed, is_big) == first.stored;
            if let Some(seed) = [stored, own_sum].into_iter().find(fits) {
                return Some(Log { is_header_good: false, salts: first.salts, is_big, seed: Some(seed) });
            }
        }
        // A power cut tore the header of the next round: all that lies behind it is in the database.
        if word(header, 16) == word(&first.salts, 0).wrapping_add(1) {
            return None;
        }
        // The whole header is gone: the first two frames that belong together tell.
        for pair in frames.windows(2).filter(|pair| pair[0].salts == pair[1].salts) {
            let follows = |is_big: &bool| pair[1].sum(pair[0].stored, *is_big) == pair[1].stored;
            if let Some(is_big) = [false, true].into_iter().find(follows) {
                return Some(Log { is_header_good: false, salts: pair[0].salts, is_big, seed: None });
            }
        }
        None
    }

    /// Checks each frame against the sum of the one before.
    fn check(&self, frames: &[Frame<'_>]) -> Vec<Checked> {
        let mut checked: Vec<Checked> = Vec::with_capacity(frames.len());
        let mut seed = self.seed;
        let mut corrections_left = CORRECTIONS_MAX;
        for (index, frame) in frames.iter().enumerate() {
            let own_sum = seed.map(|seed| frame.sum(seed, self.is_big));
            let fits = own_sum == Some(frame.stored);
            let wrong_salts = differing_bytes(&frame.salts, &self.salts);
            let is_before_ours = checked.last().is_none_or(|before| before.is_ours);
            let is_ours = wrong_salts == 0 || (fits && is_before_ours);
            let mut result = Checked { corrected: None, state: State::Damaged, is_ours };
            let mut next_seed = frame.stored;
            match own_sum {
                Some(_) if fits => match wrong_salts {
                    0 => result.state = State::Good,
                    // One byte rotted in the salts: those of another round of the log differ in more, because one of
                    // them counts the rounds and the other is random.
                    1 => result.state = State::Corrected,
                    _ => {}
                },
                Some(own_sum) if wrong_salts == 0 => match self.fault(frame, own_sum, frames.get(index + 1)) {
                    Fault::StoredSum => (result.state, next_seed) = (State::Corrected, own_sum),
                    Fault::Content if corrections_left > 0 => {
                        corrections_left -= 1;
                        result.corrected = self.wrong_byte(frames, index, own_sum);
                        result.state = if result.corrected.is_some() { State::Corrected } else { State::Damaged };
                    }
                    Fault::Content | Fault::Unknown => {}
                },
                _ => {}
            }
            seed = Some(next_seed);
            checked.push(result);
        }
        checked
    }

    /// Where the fault of a frame lies whose sum is not the stored one.
    fn fault(&self, frame: &Frame<'_>, own_sum: Sum, next: Option<&Frame<'_>>) -> Fault {
        // What lies behind the end of the log says nothing of it.
        let next = next.filter(|next| next.salts == self.salts);
        let is_next_chained_to = |seed: Sum| next.is_some_and(|next| next.sum(seed, self.is_big) == next.stored);
        if is_next_chained_to(own_sum) {
            Fault::StoredSum
        } else if is_next_chained_to(frame.stored) {
            Fault::Content
        } else {
            Fault::Unknown
        }
    }

    /// Frames that SQLite would take: up to the last commit before the first fault.
    fn intact_prefix(&self, frames: &[Frame<'_>], checked: &[Checked]) -> usize {
        let good = checked.iter().take_while(|checked| checked.state == State::Good).count();
        let is_commit = |index: &usize| frames[*index].commit_pages(&checked[*index]) > 0;
        (0..good).rev().find(is_commit).map_or(0, |last| last + 1)
    }

    /// The frames with sums from a new header on. A frame whose header names no page is left out.
    fn rewrite(&self, frames: &[Frame<'_>], checked: &[Checked]) -> Vec<u8> {
        let sizes = checked.iter().zip(frames).filter(|(checked, _)| checked.state != State::Damaged);
        let pages_max = sizes.map(|(checked, frame)| frame.commit_pages(checked)).max().unwrap_or(0);
        let mut log = new_header(self.salts, self.is_big);
        let mut seed = [word(&log, 24), word(&log, 28)];
        for (frame, checked) in frames.iter().zip(checked) {
            let mut body = frame.corrected(checked);
            let is_page = checked.is_ours && (1..=pages_max).contains(&word(&body, 0));
            if !is_page {
                continue;
            }
            if checked.state == State::Damaged {
                body[4..8].fill(0);
            }
            seed = sum(seed, &body, self.is_big);
            push_frame(&mut log, &body, self.salts, seed);
        }
        log
    }
}

fn differing_bytes(left: &[u8; 8], right: &[u8; 8]) -> usize {
    left.iter().zip(right).filter(|(left, right)| left != right).count()
}

impl Frame<'_> {
    fn read(bytes: &[u8]) -> Frame<'_> {
        Frame {
            summed_header: bytes[..8].try_into().expect("eight bytes"),
            salts: bytes[8..16].try_into().expect("eight bytes"),
            stored: [word(bytes, 16), word(bytes, 20)],
            page: &bytes[FRAME_HEADER_BYTES..],
        }
    }

    fn sum(&self, seed: Sum, is_big: bool) -> Sum {
        sum(sum(seed, &self.summed_header, is_big), self.page, is_big)
    }

    /// Size of the database in pages, when a commit ends here.
    fn commit_pages(&self, checked: &Checked) -> u32 {
        let mut header = self.summed_header;
        if let Some((position, byte)) = checked.corrected
            && position < header.len()
        {
            header[position] = byte;
        }
        word(&header, 4)
    }

    /// What is under the sum, with the wrong byte put right.
    fn corrected(&self, checked: &Checked) -> Vec<u8> {
        let mut body = [self.summed_header.as_slice(), self.page].concat();
        if let Some((position, byte)) = checked.corrected {
            body[position] = byte;
        }
        body
    }
}

/// The end of the last commit that is known to have been whole: the next frame is chained to its last one, or it follows
/// such a commit and nothing in it had to be guessed. Sums are linear: what a power cut mixes may look like one wrong
/// byte, so that a correction counts only before a proof.
fn provable_end(frames: &[Frame<'_>], checked: &[Checked]) -> Option<usize> {
    let mut end = None;
    let mut is_whole = true;
    for (position, (frame, check)) in frames.iter().zip(checked).enumerate() {
        is_whole &= check.is_sound() && check.corrected.is_none();
        let is_size_sure = check.is_sound() && check.corrected.is_none_or(|(place, _)| place >= SUMMED_HEADER_BYTES);
        if !is_size_sure || frame.commit_pages(check) == 0 {
            continue;
        }
        let is_followed = checked.get(position + 1).is_some_and(Checked::is_sound);
        if is_whole || is_followed {
            end = Some(position + 1);
            is_whole = true;
        }
    }
    end
}

fn new_header(salts: Salts, is_big: bool) -> Vec<u8> {
    let mut header = Vec::with_capacity(HEADER_BYTES);
    let page_bytes = u32::try_from(PAGE_BYTES).expect("a page is small");
    for word in [if is_big { MAGIC_BIG } else { MAGIC_LITTLE }, VERSION, page_bytes, 0] {
        header.extend(word.to_be_bytes());
    }
    header.extend(salts);
    let header_sum = sum([0, 0], &header, is_big);
    header_sum.iter().for_each(|half| header.extend(half.to_be_bytes()));
    header
}

fn push_frame(log: &mut Vec<u8>, body: &[u8], salts: Salts, seed: Sum) {
    log.extend(&body[..8]);
    log.extend(salts);
    seed.iter().for_each(|half| log.extend(half.to_be_bytes()));
    log.extend(&body[8..]);
}

/// The log with one more commit at its end, which puts these pages over those of the database.
pub(crate) fn with_commit(bytes: &[u8], pages: &[(u32, Vec<u8>)], database_pages: u32) -> Vec<u8> {
    let (salts, is_big, mut log) = match kept(bytes) {
        Some(kept) => kept,
        None => {
            let salts = *b"salvage1";
            (salts, false, new_header(salts, false))
        }
    };
    let mut seed = if log.len() > HEADER_BYTES {
        let last = &log[log.len() - FRAME_BYTES..];
        [word(last, 16), word(last, 20)]
    } else {
        [word(&log, 24), word(&log, 28)]
    };
    for (position, (number, page)) in pages.iter().enumerate() {
        let size = if position + 1 == pages.len() { database_pages } else { 0 };
        let body = [number.to_be_bytes().as_slice(), size.to_be_bytes().as_slice(), page].concat();
        seed = sum(seed, &body, is_big);
        push_frame(&mut log, &body, salts, seed);
    }
    log
}

/// What SQLite reads of a log, with its salts and byte order.
fn kept(bytes: &[u8]) -> Option<(Salts, bool, Vec<u8>)> {
    let (header, rest) = bytes.split_at_checked(HEADER_BYTES)?;
    let frames: Vec<Frame<'_>> = rest.chunks_exact(FRAME_BYTES).map(Frame::read).collect();
    let log = Log::read(header, &frames).filter(|log| log.is_header_good)?;
    let reached = log.intact_prefix(&frames, &log.check(&frames));
    Some((log.salts, log.is_big, bytes[..HEADER_BYTES + reached * FRAME_BYTES].to_vec()))
}

/// The newest form of a page in what SQLite reads of a log, and the size of the database in pages after it.
pub(crate) fn page_and_size(bytes: &[u8], number: u32) -> (Option<Vec<u8>>, Option<u32>) {
    let Some((_, _, log)) = kept(bytes) else { return (None, None) };
    let frames: Vec<Frame<'_>> = log[HEADER_BYTES..].chunks_exact(FRAME_BYTES).map(Frame::read).collect();
    let page = frames.iter().rev().find(|frame| word(&frame.summed_header, 0) == number);
    let size = frames.last().map(|frame| word(&frame.summed_header, 4));
    (page.map(|frame| frame.page.to_vec()), size)
}

fn word(bytes: &[u8], offset: usize) -> u32 {
    u32::from_be_bytes(bytes[offset..offset + 4].try_into().expect("four bytes"))
}

/// SQLite's checksum over pairs of words.
fn sum(seed: Sum, bytes: &[u8], is_big: bool) -> Sum {
    let [mut first, mut second] = seed;
    for pair in bytes.chunks_exact(8) {
        let (left, right): ([u8; 4], [u8; 4]) =
            (pair[..4].try_into().expect("four bytes"), pair[4..].try_into().expect("four bytes"));
        let (left, right) = if is_big {
            (u32::from_be_bytes(left), u32::from_be_bytes(right))
        } else {
            (u32::from_le_bytes(left), u32::from_le_bytes(right))
        };
        first = first.wrapping_add(left).wrapping_add(second);
        second = second.wrapping_add(right).wrapping_add(first);
    }
    [first, second]
}

#[cfg(test)]
mod tests;
