// A bundle that leaves its functions in `driver`, and calls itself an ES module that was translated.
var driver;
(() => {
  var table = { 7: (exports) => { exports.scale = 10; } };
  var loaded = {};
  function load(id) {
    if (loaded[id]) return loaded[id].exports;
    var module = (loaded[id] = { exports: {} });
    table[id](module.exports);
    return module.exports;
  }
  class ValidationError extends Error {
    constructor(message) {
      super(message);
      this.name = 'ValidationError';
    }
  }
  var made = {};
  made.decodeUplink = function (input) {
    try {
      if (input.bytes.length === 0) throw new ValidationError('bad payload');
      var when = new Date(input.recvTime).toISOString();
      return { data: [{ variable: 'level', value: input.bytes[0] * load(7).scale, date: when }], warnings: [] };
    } catch (error) {
      return { errors: error.message, warnings: [] };
    }
  };
  driver = made;
})();
exports.driver = driver;
