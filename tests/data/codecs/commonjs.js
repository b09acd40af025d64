// Written for Node: the functions are only exported.
(function (root, factory) {
  if (typeof module === 'object' && module.exports) {
    module.exports = factory();
  } else {
    root.codec = factory();
  }
})(this, function () {
  var names = ['closed', 'open'];
  function read(input) {
    return { data: { cover: names[input.bytes[0]], bytes: input.bytes.length } };
  }
  return { decodeUplink: read, encodeDownlink: function () { return { bytes: [] }; } };
});
