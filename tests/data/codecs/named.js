// Lists of named values, as several platforms want them.
function Decoder(payload, port) {
  if (port === 2) return { field: 'LEVEL', value: 5 };
  if (port === 3) return [null, 7, { value: 1 }, { field: 'LEVEL' }];
  return [
    { field: 'LEVEL', value: payload[0], unit: 'mm' },
    { field: 'BATTERY', value: payload[1] / 10 },
    { field: '__proto__', value: { bad: true } },
    { field: 'LEVEL', value: payload[0] + 1, timestamp: 1 },
    { field: 4, value: 'four' },
  ];
}
