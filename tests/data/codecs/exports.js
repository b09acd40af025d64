exports.Decoder = function (bytes, port) {
  return { level: bytes[0], port: port, same: module.exports === exports };
};
