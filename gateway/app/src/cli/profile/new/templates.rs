//! Beginnings of profiles without a captured message.

/// What stands at the top of each.
pub(super) fn head(name: &str, kind: &str, source: &str) -> String {
    format!(
        "\
# yaml-language-server: $schema=./profile.schema.json
# (write the schema with `kerbside profile schema > profile.schema.json`; editors then complete and check this file)
#
# {source}
# Test it with `kerbside profile test {name}.yaml`, and put it into the folder that `profiles` names in gateway.yaml.
profile: {name}
version: 1                         # count up with each change that people should notice
kind: {kind:<29}# manhole_cover, pole, drain, weather_station, meter
vendor: Generic                    # who makes it
model: {name:<28}# the maker's name of the model
# component_class: \"0103\"          # 部件小类代码, in quotes
interval: 10m                      # how often it reports when nothing happens

"
    )
}

/// What every device can have.
pub(super) const SILENCE: &str = "  # Three reports missed.
  - condition: silent
    severity: minor
    silence: {missed: 3}
";

/// A frame that the templates of bytes are made for: 3.61 V and 211 cm.
pub(super) const BYTES: [u8; 4] = [0x0E, 0x1A, 0x00, 0xD3];

pub(super) fn json(name: &str) -> String {
    let head = head(name, "drain", "Give a captured message with --frame FILE, and the points are proposed from it.");
    format!(
        "{head}\
payload:
  format: json
  time: {{path: ts, unit: ms}}       # the device's own clock; leave it out when there is none

points:
  - name: level_mm                 # a canonical name: see device-profiles/README.md
    path: level                    # where it stands in the message; `data.level` inside `data`
    range: {{min: -200, max: 10000}} # outside is bad and raises nothing
    required: true                 # a message without it is a missing reading

detectors:
  # Write beside each limit where it comes from.
  - condition: surcharged
    severity: major
    threshold: {{point: level_mm, above: 400, clear: 350}}
    count: 2
{SILENCE}
samples:
  # Captured frames with what they must give; at least one of them bad.
  - name: a good frame
    json: {{ts: 1767225600000, level: 85}}
    readings: {{level_mm: 85}}
  - name: a frame that was cut in half
    text: '{{\"ts\": 1767225'
    error: not valid JSON
"
    )
}

pub(super) fn registers(name: &str) -> String {
    let head = head(name, "drain", "The maker's sheet says the addresses: 40005 there is address 4 here (0-based).");
    format!(
        "{head}\
payload:
  format: registers

points:
  - name: level_mm
    register: {{table: holding, address: 0x0004, type: i16}}
    # scale: 0.1                   # the raw number times this, plus `offset`
    range: {{min: -200, max: 10000}}

detectors:
  # Write beside each limit where it comes from.
  - condition: surcharged
    severity: major
    threshold: {{point: level_mm, above: 400, clear: 350}}
    count: 2
{SILENCE}
samples:
  - name: dry-weather flow
    registers: {{holding: {{0x0004: 85}}}}
    readings: {{level_mm: 85}}
  - name: the sensor is unplugged
    registers: {{holding: {{0x0004: -32768}}}}
    readings: {{level_mm: null}}
"
    )
}

pub(super) fn binary(name: &str, bytes: &[u8]) -> String {
    let head = head(name, "drain", "The bytes of an uplink; the maker's manual says what stands where.");
    let hex = spaced(bytes);
    let first = u32::from(bytes.first().copied().unwrap_or_default());
    format!(
        "{head}\
payload:
  format: binary
  endian: big                      # the most significant byte first; `little` for the other way

points:
  # The first byte, until you write what the device sends. Longer numbers: u16 i16 u24 u32 f32; some bits of one:
  # `bits: {{from: 0, count: 4}}`.
  - name: first_byte
    at: {{offset: 0, type: u8}}
    required: true
  # - name: distance_mm
  #   at: {{offset: 2, type: u16}}
  #   from_unit: cm                # the device sends cm
  # - name: level_mm
  #   mount_height_minus: distance_mm

detectors:
{SILENCE}
samples:
  - name: a captured frame
    hex: {hex}
    readings: {{first_byte: {first}}}
  - name: nothing at all
    hex: ''
    error: cut short
"
    )
}

pub(super) fn codec(name: &str, bytes: &[u8]) -> String {
    let head = head(name, "drain", "The maker's decoder as it is for The Things Network or ChirpStack.");
    let hex = spaced(bytes);
    let first = bytes.first().copied().unwrap_or_default();
    format!(
        "{head}\
payload:
  format: codec
  # script: {name}.js              # the maker's file beside this one, instead of `source`
  source: |
    function decodeUplink(input) {{
      if (input.bytes.length === 0) {{
        return {{ errors: ['the frame is empty'] }};
      }}
      return {{ data: {{ first: input.bytes[0] }} }};
    }}

points:
  - name: first_byte
    path: first                    # a key of `data`
    required: true

detectors:
{SILENCE}
samples:
  - name: a captured frame
    hex: {hex}
    readings: {{first_byte: {first}}}
  - name: nothing at all
    hex: ''
    error: the frame is empty
"
    )
}

/// Always in quotes: digits alone would be a number.
fn spaced(bytes: &[u8]) -> String {
    let pairs: Vec<String> = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
    format!("'{}'", pairs.join(" "))
}
