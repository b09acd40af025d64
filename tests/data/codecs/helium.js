// The interface of Helium's console.
function Decoder(bytes, port, uplink_info) {
  var decoded = { port: uplink_info.port, count: uplink_info.hotspots.length, at: uplink_info.reported_at, eui: uplink_info.dev_eui };
  if (bytes.length === 0) return 'The payload has the wrong size !';
  for (var i = 0; i < uplink_info.hotspots.length; i++) decoded.rssi = uplink_info.hotspots[i].rssi;
  return decoded;
}
