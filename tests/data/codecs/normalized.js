// The interface of The Things Stack with normalizeUplink.
function decodeUplink(input) {
  var data = { TempC_DS18B20: (input.bytes[0] / 10).toFixed(2), measuredAt: input.recvTime, odd: NaN };
  if (input.bytes.length > 4) return { errors: ['too long'] };
  return { data: data, warnings: input.bytes[0] < 10 ? ["it's cold"] : [] };
}
function normalizeUplink(input) {
  if (input.data.measuredAt instanceof Date || input.data.odd !== null) throw new Error('not as The Things Stack does it');
  if (input.data.TempC_DS18B20 === '25.50') return { errors: ['the probe is away'] };
  if (input.data.TempC_DS18B20 === '0.00') return undefined;
  return { data: { air: { temperature: Number(input.data.TempC_DS18B20) }, time: input.data.measuredAt }, warnings: ['rounded'] };
}
