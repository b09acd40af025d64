// Texts in a message.
function decodeUplink(input) {
  var bytes = new Uint8Array(input.bytes);
  if (input.fPort === 2) return { data: { name: new TextDecoder('gbk').decode(bytes) } };
  return { data: { name: new TextDecoder('utf-16le').decode(bytes), same: new TextDecoder('UTF-16').encoding } };
}
