// An ES module.
const SCALE = 2;

export const VERSION = '1';

export default function describe() { return 'a level sensor'; }

export async function later() {}

function decode(input) {
  if (input.bytes.length === 0) throw new Error('no bytes');
  return { data: { level: input.bytes[0] * SCALE, version: VERSION } };
}

export {
  decode as decodeUplink,
  SCALE,
};
