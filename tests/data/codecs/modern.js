// The language of today.
const SCALE = 0.1;
const FIELDS = [
  { name: 'temperature', read: (view, at) => view.getInt16(at) * SCALE, size: 2 },
  { name: 'humidity', read: (view, at) => view.getUint8(at) / 2, size: 1 },
];

class Frame {
  #bytes;
  static kinds = new Map([[1, 'report'], [2, 'alarm']]);
  constructor(bytes) { this.#bytes = bytes; }
  get kind() { return Frame.kinds.get(this.#bytes.at(0)) ?? 'unknown'; }
  *fields() {
    const view = new DataView(Uint8Array.from(this.#bytes).buffer);
    let at = 1;
    for (const { name, read, size } of FIELDS) {
      if (at + size > this.#bytes.length) return;
      yield [name, read(view, at)];
      at += size;
    }
  }
}

async function later() { await null; return 1; }

const decodeUplink = ({ bytes, fPort, variables: { unit = 'C' } = {} }) => {
  const frame = new Frame(bytes);
  const data = { ...Object.fromEntries(frame.fields()), kind: frame.kind, unit };
  data.temperature &&= Number(data.temperature.toFixed(1));
  data.missing = data?.nothing?.at?.(0) ?? null;
  data.big = 2n ** 40n;
  data.huge = 2n ** 70n;
  data.tag = `port ${fPort}`.replaceAll('p', 'P');
  data.match = 'v1.22'.match(/v(?<major>\d+)\.(?<minor>\d+)/u).groups.minor;
  data.flat = [[1], [2, [3]]].flat(Infinity).toReversed();
  data.grouped = Object.entries({ b: 2, a: 1 }).sort(([x], [y]) => x.localeCompare(y)).map(([key]) => key);
  data.label = outer();
  function outer() { found: for (const x of [1, 2]) { for (const y of [1, 2]) { if (x * y === 2) break found; } } return 'done'; }
  return { data, warnings: data.kind === 'unknown' ? ['unknown kind'] : [] };
};
