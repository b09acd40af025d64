// The interface of ChirpStack 3: no envelope around the result.
function Decode(fPort, bytes, variables) {
  var decoded = {};
  decoded.port = fPort;
  decoded.level = bytes[0] * 256 + bytes[1];
  decoded.tail = bytes.slice(2).map(function (b) { return ('0' + b.toString(16)).slice(-2); }).join('');
  return decoded;
}
