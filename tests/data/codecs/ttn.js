// The interface of The Things Stack: one function, data or errors, and warnings.
function readUInt16BE(bytes, offset) {
  return (bytes[offset] << 8) | bytes[offset + 1];
}

function decodeUplink(input) {
  var warnings = [];
  switch (input.fPort) {
    case 1:
      if (input.bytes.length < 3) {
        return { errors: ['expected 3 bytes, got ' + input.bytes.length] };
      }
      if (input.bytes[2] < 20) {
        warnings.push('battery is low');
      }
      return {
        data: { level: readUInt16BE(input.bytes, 0), battery: input.bytes[2], length: input.bytes.length },
        warnings: warnings
      };
    case 2:
      return { data: { at: input.recvTime.toISOString(), site: input.variables.site } };
    case 3:
      return { errors: [] , warnings: ['nothing to say'], data: { level: 0 } };
    case 4:
      return { errors: 'one sentence' };
    default:
      return { errors: ['unknown FPort ' + input.fPort, 'see the manual'] };
  }
}
