// What Node has and the language has not.
function decodeUplink(input) {
  var buffer = Buffer.from(input.bytes);
  var old = new Buffer([1, 2, 3]);
  var text = Buffer.from('48656c6c6f', 'hex');
  var written = Buffer.alloc(8);
  written.writeUInt16LE(513, 0);
  written.writeInt32BE(-2, 2);
  written.write('ok', 6, 'ascii');
  var outside;
  try { buffer.readUInt32BE(buffer.length - 1); } catch (error) { outside = error.name; }
  return {
    data: {
      u16be: buffer.readUInt16BE(0), u16le: buffer.readUint16LE(0), i16be: buffer.readInt16BE(2), u8: buffer.readUInt8(1),
      i8: buffer.readInt8(2), u24: buffer.readUIntBE(0, 3), i24: buffer.readIntLE(1, 3), u32: buffer.readUInt32LE(0),
      float: Buffer.from('41c80000', 'hex').readFloatBE(0), double: Buffer.from('4039000000000000', 'hex').readDoubleBE(0),
      big: Buffer.from('ffffffffffffffff', 'hex').readBigInt64LE(0),
      hex: buffer.toString('hex'), base64: buffer.toString('base64'), utf8: text.toString(), ascii: text.toString('ascii', 1, 3),
      part: buffer.slice(1, 3).toString('hex'), isBuffer: Buffer.isBuffer(buffer) && !Buffer.isBuffer(input.bytes),
      joined: Buffer.concat([old, text]).length, old: old.length, written: written.toString('hex'), outside: outside,
      json: JSON.stringify(old), equal: old.equals(Buffer.from([1, 2, 3])), index: text.indexOf('l'),
      atob: atob('SGk='), btoa: btoa('Hi'), decoded: new TextDecoder().decode(new Uint8Array([228, 186, 149])),
      encoded: Array.from(new TextEncoder().encode('井')), mapped: buffer.map(function (b) { return b + 1; })[0],
      swapped: Buffer.from([1, 2, 3, 4]).swap16().toString('hex'), length: Buffer.byteLength('井', 'utf8'),
      chinese: Buffer.from('5LqV', 'base64').toString('utf8'), entries: buffer.length, sliced: Array.prototype.slice.call(buffer, 0, 2)
    }
  };
}
