use crate::profile::parse::tests::check_in;

const CHANNELS: &str = "profile: channels
version: 1
kind: drain
vendor: Acme
model: channels
payload:
  format: binary
  endian: little
  time: {at: {channel: 20 CE}, unit: s}
  channels:
    - {id: 01 75, length: 1}
    - {id: 03 67, length: 2}
    - {id: 20 CE, length: 6, time: {offset: 0, type: u32}}
    - {id: FF 01, length: 1}
points:
  - name: battery_percent
    at: {channel: 01 75}
  - name: temperature_c
    at: {channel: 03 67, type: i16}
    scale: 0.1
  - name: fw
    type: text
    at: {channel: 20 CE, offset: 4, type: hex, length: 2}
samples:
  - {name: good, hex: 01 75 64, port: 85, readings: {battery_percent: 100}}
  - {name: bad, hex: 01 75, error: cut short}
";

const MESSAGES: &str = "profile: messages
version: 1
kind: drain
vendor: Acme
model: messages
payload:
  format: binary
  messages:
    - name: status
      when: {port: 2, length: {min: 3}, byte: {offset: 0, equals: 1}}
      parts:
        - {name: header, length: 3}
        - {name: rows, length: 4, when: {flag: 0}, repeat: rest, step: 10m, newest: first}
      flags: {offset: 1, type: u16}
    - name: alarm
      when: {port: [3, 4]}
    - {name: spare, when: {port: 9}}
points:
  - name: level_mm
    at: [{part: rows, type: u16}, {message: alarm, offset: 0, type: u16}]
samples:
  - {name: good, hex: 00 07, port: 3, readings: {level_mm: 7}}
  - {name: bad, hex: 00, port: 3, error: cut short}
";

#[track_caller]
fn check(from: &str, to: &str, expected: &str, mend: &str) {
    let base = if CHANNELS.contains(from) { CHANNELS } else { MESSAGES };
    check_in(base, from, to, expected, mend);
}

#[test]
fn a_channel_says_what_is_wrong_with_it() {
    check("id: FF 01", "id: FF 0 x", "payload.channels[3].id = \"FF 0 x\": not the bytes", "03 67");
    check("{id: FF 01", "{id: 01 75", "payload.channels[3].id: a channel above", "any byte");
    check("{id: FF 01, length: 1}", "{id: FF 01}", "payload.channels[3].length: this key is missing", "rest");
    check(
        "length: 6, time",
        "lenght: 6, length: 6, time",
        "payload.channels[2].lenght: this key is not known",
        "length?",
    );
    check("type: u32}", "type: u33}", "payload.channels[2].time.type = \"u33\": not one of the known types", "u32?");
}

#[test]
fn a_place_says_what_is_wrong_with_it() {
    check(
        "{channel: 03 67, type: i16}",
        "{channel: 03 68, type: i16}",
        "points[1].at.channel = \"03 68\": no kind of message has this channel",
        "payload.channels",
    );
    check(
        "{channel: 03 67, type: i16}",
        "{channel: 03 67, type: i24}",
        "points[1].at.offset = \"0\": 3 bytes from here on reach out of a block of 2",
        "behind its id",
    );
    check("at: {channel: 01 75}\n", "path: battery\n", "points[0].path: the payload's format is binary", "at: ");
    check("    at: {channel: 01 75}\n", "", "points[0].at: this key is missing", "offset");
    check("type: i16}", "type: i16, bit: 16}", "points[1].at.bit = \"16\": not a whole number from 0 to 15", "");
    check("type: hex, length: 2", "type: hex", "points[2].at.length: this key is missing", "length: 8");
    check("    type: text\n", "", "points[2].at: the bytes are a text, and the point is not", "type: text");
    check(
        "{part: rows, type: u16}",
        "{part: row, type: u16}",
        "points[0].at[0].part = \"row\": there is no part",
        "rows?",
    );
    check(
        "{message: alarm, offset: 0",
        "{message: alarms, offset: 0",
        "points[0].at[1].message = \"alarms\": there is no kind of message",
        "alarm?",
    );
    check("{message: alarm, offset", "{offset", "points[0].at[1].message: this key is missing", "status, alarm, spare");
    check("offset: 0, type: u16}]", "offset: -1, type: u16}]", "points[0].at[1].offset = \"-1\": it reaches", "-2");
}

#[test]
fn a_kind_of_message_says_what_is_wrong_with_it() {
    check("{name: spare", "{name: status", "payload.messages[2].name = \"status\": another kind", "");
    check("port: [3, 4]", "port: 300", "payload.messages[1].when.port = \"300\": not a number from 0 to 255", "port");
    check("equals: 1}}", "equals: 3, mask: 1}}", "payload.messages[0].when.byte.equals = \"3\": never so", "mask");
    check("{flag: 0}", "{flag: 16}", "payload.messages[0].parts[1].when.flag = \"16\": not a whole number", "15");
    check(
        "      flags: {offset: 1, type: u16}\n",
        "",
        "payload.messages[0].parts[1].when: this message has no flags",
        "flags: {offset",
    );
    check(
        ", step: 10m, newest: first",
        "",
        "payload.messages[0].parts[1].repeat: nobody knows when each of them was taken",
        "step",
    );
    check("newest: first", "newest: none", "payload.messages[0].parts[1].newest: which end", "newest: first");
    check(
        "length: 4, when",
        "length: rest, when",
        "payload.messages[0].parts[1].length = \"rest\": a part that is repeated until the end needs a length",
        "length: 4",
    );
    check("  messages:\n", "  parts: []\n  messages:\n", "payload.parts: there are several kinds of message", "move");
}

const TEXT: &str = "profile: text
version: 1
kind: drain
vendor: Acme
model: text
payload:
  format: csv
  columns: [id, t, level]
  time: {column: t, unit: s}
points:
  - name: level_mm
    column: level
samples:
  - {name: good, text: \"7,1799999990,5\", readings: {level_mm: 5}}
  - {name: bad, text: \"\", error: no line}
";

#[test]
fn text_with_separators_says_what_is_wrong_with_it() {
    let check = |from: &str, to: &str, expected: &str, mend: &str| check_in(TEXT, from, to, expected, mend);
    check("column: level\n", "column: levl\n", "points[0].column = \"levl\": there is no column", "level?");
    check("column: level\n", "column: 0\n", "points[0].column = \"0\": there is no column", "counted from 1");
    check("    column: level\n", "", "points[0].column: this key is missing", "column: 3");
    check("format: csv\n", "format: csv\n  separator: ab\n", "payload.separator = \"ab\": not a sign", "tab");
    check("format: csv\n", "format: csv\n  pairs: \",\"\n", "payload.pairs: names and values", "\"=\"");
    check(
        "  time: {column: t, unit: s}\n",
        "  newest: last\n",
        "payload.newest: several lines are several rows",
        "time: {column",
    );
    check("column: t, unit: s", "column: t", "payload.time.unit: this key is missing", "auto");
}
