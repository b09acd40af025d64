//! Keeps frames that gave no readings, and a list of addresses that no device has.
//!
//! Both are bounded: by bytes and age, by rows of one address (so that a babbling device cannot push out the others),
//! and by the number of unknown addresses. The oldest go first, and what goes is counted by reason.

use std::collections::HashMap;

use kerbside_model::{Frame, Payload, ReadAgain, Tags, Timestamp, Undecoded, UndecodedReason};
use rusqlite::{Connection, OptionalExtension, params};

use crate::metrics::{Dropped, Reason};
use crate::quota::Quota;
use crate::totals::Totals;

/// Frames kept of one source, address and reason.
pub(crate) const FRAMES_OF_ONE_ADDRESS_MAX: usize = 100;
/// Unknown addresses kept; the ones that were heard longest ago go first.
pub(crate) const UNKNOWN_DEVICES_MAX: u64 = 10_000;
/// Bytes kept of the last payload of an unknown address: enough to recognise the device.
const UNKNOWN_PAYLOAD_BYTES_MAX: usize = 1024;
/// Bytes that a row takes beside its frame and texts: its columns and its place in the index.
const ROW_BYTES: u64 = 96;
/// Frames that one transaction drops beyond those that it writes, so that the next alarm does not wait.
const CHUNK_FRAMES_MAX: usize = 512;

type Key<'a> = (&'a str, &'a str, UndecodedReason);

/// Writes undecoded frames and unknown addresses, and drops the oldest over the limits. Inside a transaction.
pub(crate) fn write(
    connection: &Connection,
    frames: &[Undecoded],
    totals: &mut Totals,
    dropped: &mut Dropped,
) -> rusqlite::Result<()> {
    let keys = insert_newest(connection, frames, totals, dropped)?;
    for key in keys {
        trim_address(connection, key, totals, dropped)?;
    }
    write_unknown_devices(connection, frames, totals)
}

/// Drops the oldest frames over a quota, in one chunk that is larger than what was `written` just now.
pub(crate) fn prune(
    connection: &Connection,
    quota: &Quota,
    written: usize,
    totals: &mut Totals,
    dropped: &mut Dropped,
) -> rusqlite::Result<()> {
    let mut last = 0_i64;
    let mut statement = connection.prepare_cached("SELECT number, at, bytes FROM undecoded ORDER BY number")?;
    let mut rows = statement.query([])?;
    for _ in 0..CHUNK_FRAMES_MAX + written {
        let Some(row) = rows.next()? else { break };
        let Some(reason) = quota.reason_to_drop(totals.undecoded_bytes, Timestamp(row.get(1)?)) else { break };
        last = row.get(0)?;
        remove_row(row.get(2)?, reason, totals, dropped);
    }
    drop(rows);
    if last > 0 {
        connection.prepare_cached("DELETE FROM undecoded WHERE number <= ?1")?.execute([last])?;
    }
    Ok(())
}

/// Whether the oldest frame is too old.
pub(crate) fn has_expired(connection: &Connection, quota: &Quota) -> rusqlite::Result<bool> {
    let query = "SELECT at FROM undecoded ORDER BY number LIMIT 1";
    let oldest = connection.prepare_cached(query)?.query_row([], |row| row.get(0)).optional()?;
    Ok(oldest.is_some_and(|at| quota.is_expired(Timestamp(at))))
}

/// Writes what became of frames that were read again, inside the transaction of their batch: a readable one goes from
/// the list, another one stays with today's reason. A row that a quota dropped meanwhile is left as it is.
pub(crate) fn settle(connection: &Connection, again: &[ReadAgain], totals: &mut Totals) -> rusqlite::Result<()> {
    for ReadAgain { row, source, address, device, refused } in again {
        let is_known = !matches!(refused, Some((UndecodedReason::UnknownDevice, _)));
        if is_known {
            let query = "DELETE FROM unknown_devices WHERE source = ?1 AND address = ?2";
            let removed = connection.prepare_cached(query)?.execute(params![source, address])?;
            totals.unknown_devices = totals.unknown_devices.saturating_sub(removed as u64);
        }
        match refused {
            None => {
                let query = "DELETE FROM undecoded WHERE number = ?1 RETURNING bytes";
                let bytes: Option<u64> =
                    connection.prepare_cached(query)?.query_row([row], |row| row.get(0)).optional()?;
                if let Some(bytes) = bytes {
                    totals.undecoded = totals.undecoded.saturating_sub(1);
                    totals.undecoded_bytes = totals.undecoded_bytes.saturating_sub(bytes);
                }
            }
            Some((reason, detail)) => {
                let query = "UPDATE undecoded SET reason = ?2, detail = ?3, device = ?4 WHERE number = ?1";
                connection.prepare_cached(query)?.execute(params![row, reason.name(), detail, device])?;
            }
        }
    }
    Ok(())
}

/// Inserts at most the newest hundred of each key; of the rest, nothing would stay anyway.
fn insert_newest<'a>(
    connection: &Connection,
    frames: &'a [Undecoded],
    totals: &mut Totals,
    dropped: &mut Dropped,
) -> rusqlite::Result<Vec<Key<'a>>> {
    let mut surplus: HashMap<Key<'a>, usize> = HashMap::new();
    for undecoded in frames {
        *surplus.entry(key_of(undecoded)).or_default() += 1;
    }
    let keys: Vec<Key<'a>> = surplus.keys().copied().collect();
    surplus.values_mut().for_each(|count| *count = count.saturating_sub(FRAMES_OF_ONE_ADDRESS_MAX));
    let mut statement = connection.prepare_cached(
        "INSERT INTO undecoded(source, address, reason, device, detail, at, bytes, frame) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?;
    for undecoded in frames {
        let key = key_of(undecoded);
        let frame = packed(undecoded);
        let bytes = ROW_BYTES + (frame.len() + undecoded.detail.len()) as u64;
        let left_out = surplus.get_mut(&key).expect("every key was counted");
        if *left_out > 0 {
            *left_out -= 1;
            count_dropped(bytes, Reason::Address, totals, dropped);
            continue;
        }
        let received_at = undecoded.frame.received_at.as_millis();
        let (source, address, reason) = key;
        statement.execute(params![
            source,
            address,
            reason.name(),
            undecoded.device,
            undecoded.detail,
            received_at,
            bytes,
            frame
        ])?;
        totals.undecoded += 1;
        totals.undecoded_bytes += bytes;
    }
    Ok(keys)
}

/// A frame as its row has it: behind it stand its tags, if it has any. Rows from before they were kept have none.
fn packed(undecoded: &Undecoded) -> Vec<u8> {
    let frame = postcard::to_stdvec(&undecoded.frame).expect("frames are plain data");
    match &undecoded.tags {
        Some(tags) => postcard::to_extend(tags, frame).expect("tags are plain data"),
        None => frame,
    }
}

/// The frame of a row, and its tags.
pub(crate) fn unpacked(bytes: &[u8]) -> Result<(Frame, Option<Tags>), postcard::Error> {
    let (frame, behind) = postcard::take_from_bytes(bytes)?;
    let tags = if behind.is_empty() { None } else { Some(postcard::from_bytes(behind)?) };
    Ok((frame, tags))
}

fn key_of(undecoded: &Undecoded) -> Key<'_> {
    (&undecoded.frame.source, undecoded.frame.address.as_str(), undecoded.reason)
}

fn trim_address(
    connection: &Connection,
    (source, address, reason): Key<'_>,
    totals: &mut Totals,
    dropped: &mut Dropped,
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "DELETE FROM undecoded WHERE number IN (SELECT number FROM undecoded \
         WHERE source = ?1 AND address = ?2 AND reason = ?3 ORDER BY number DESC LIMIT -1 OFFSET ?4) RETURNING bytes",
    )?;
    let mut rows = statement.query(params![source, address, reason.name(), FRAMES_OF_ONE_ADDRESS_MAX])?;
    while let Some(row) = rows.next()? {
        remove_row(row.get(0)?, Reason::Address, totals, dropped);
    }
    Ok(())
}

fn remove_row(bytes: u64, reason: Reason, totals: &mut Totals, dropped: &mut Dropped) {
    totals.undecoded = totals.undecoded.saturating_sub(1);
    totals.undecoded_bytes = totals.undecoded_bytes.saturating_sub(bytes);
    count_dropped(bytes, reason, totals, dropped);
}

fn count_dropped(bytes: u64, reason: Reason, totals: &mut Totals, dropped: &mut Dropped) {
    totals.dropped_undecoded += 1;
    dropped.undecoded(reason, bytes);
}

/// What one commit heard of one unknown address.
struct Heard<'a> {
    first: Timestamp,
    last: Timestamp,
    frames: u64,
    payload: &'a Payload,
}

fn write_unknown_devices(connection: &Connection, frames: &[Undecoded], totals: &mut Totals) -> rusqlite::Result<()> {
    let mut heard: HashMap<(&str, &str), Heard<'_>> = HashMap::new();
    for undecoded in frames.iter().filter(|undecoded| undecoded.reason == UndecodedReason::UnknownDevice) {
        let frame = &undecoded.frame;
        let at = frame.received_at;
        let new = Heard { first: at, last: at, frames: 0, payload: &frame.payload };
        let entry = heard.entry((&frame.source, undecoded.address.as_str())).or_insert(new);
        entry.first = entry.first.min(at);
        entry.last = entry.last.max(at);
        entry.frames += 1;
        entry.payload = &frame.payload;
    }
    for ((source, address), heard) in heard {
        let is_new = write_unknown_device(connection, source, address, &heard)?;
        totals.unknown_devices += u64::from(is_new);
    }
    if totals.unknown_devices > UNKNOWN_DEVICES_MAX {
        let surplus = totals.unknown_devices - UNKNOWN_DEVICES_MAX;
        let query = "DELETE FROM unknown_devices WHERE (source, address) IN \
                     (SELECT source, address FROM unknown_devices ORDER BY last_seen LIMIT ?1)";
        let removed = connection.prepare_cached(query)?.execute([surplus])?;
        totals.unknown_devices -= removed as u64;
    }
    Ok(())
}

/// Returns whether the address was not in the list yet.
fn write_unknown_device(
    connection: &Connection,
    source: &str,
    address: &str,
    heard: &Heard<'_>,
) -> rusqlite::Result<bool> {
    let (first, last) = (heard.first.as_millis(), heard.last.as_millis());
    let payload = postcard::to_stdvec(&shortened(heard.payload)).expect("payloads are plain data");
    let updated = connection
        .prepare_cached(
            "UPDATE unknown_devices SET last_seen = max(last_seen, ?3), frames = frames + ?4, payload = ?5 \
             WHERE source = ?1 AND address = ?2",
        )?
        .execute(params![source, address, last, heard.frames, payload])?;
    if updated > 0 {
        return Ok(false);
    }
    connection.prepare_cached("INSERT INTO unknown_devices VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?.execute(params![
        source,
        address,
        first,
        last,
        heard.frames,
        payload
    ])?;
    Ok(true)
}

fn shortened(payload: &Payload) -> Payload {
    match payload {
        Payload::Bytes(bytes) => Payload::Bytes(bytes.slice(..bytes.len().min(UNKNOWN_PAYLOAD_BYTES_MAX))),
        Payload::Registers(read) => Payload::Registers(read.clone()),
    }
}
