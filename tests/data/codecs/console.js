console.log('loaded', 1, { a: [1] }, null, undefined);
function decodeUplink(input) {
  console.info('%s', input.bytes.length);
  console.warn(new Error('only shown'));
  console.error([1, 2]);
  if (input.fPort === 2) for (var line = 0; line < 10000; line++) console.debug('line ' + line);
  if (input.fPort === 3) console.log({ toJSON: function () { throw new Error('no'); } });
  console.table([]);
  return { data: { level: 1 } };
}
