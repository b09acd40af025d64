// The interface of The Things Network 2, with variables that nobody declared.
function Decoder(bytes, port) {
  decoded = {};
  for (i = 0; i < bytes.length; i++) {
    decoded['byte' + i] = bytes[i];
  }
  self = this;
  decoded.port = port;
  decoded.hasWindow = typeof window !== 'undefined' || typeof require !== 'undefined' || typeof process !== 'undefined';
  return decoded;
}
