// All that the console of The Things Network 2 called behind one another.
function Decoder(bytes, port) {
  return { raw: bytes[0] };
}
function Converter(decoded, port) {
  var converted = decoded;
  converted.level = decoded.raw / 100 - port;
  return converted;
}
function Validator(converted, port) {
  return !(converted.level > 2);
}
