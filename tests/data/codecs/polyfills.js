// What older codecs add to the language before they begin.
if (!Object.assign) {
  Object.defineProperty(Object, 'assign', {
    value: function (target) { target.broken = true; return target; }
  });
}
if (!String.prototype.padLeft) {
  String.prototype.padLeft = function (length, fill) {
    var text = String(this);
    while (text.length < length) text = fill + text;
    return text;
  };
}
Object.defineProperty(Array.prototype, 'lastOne', {
  value: function () { return this[this.length - 1]; }, enumerable: false, configurable: true
});
Number.prototype.round = function (digits) {
  var factor = Math.pow(10, digits || 0);
  return Math.round(this * factor) / factor;
};
Math.trunc = function (x) { return x < 0 ? Math.ceil(x) : Math.floor(x); };
Array.prototype.includes = function (wanted) { return this.indexOf(wanted) !== -1; };
Uint8Array.prototype.toHex = function () { return Array.from(this).map(b => b.toString(16).padLeft(2, '0')).join(''); };

function Reading(bytes) { this.bytes = bytes; }
Reading.prototype.toString = function () { return 'Reading of ' + this.bytes.length; };
Reading.prototype.valueOf = function () { return this.bytes[0]; };
function Level(bytes) { Reading.call(this, bytes); }
Level.prototype = Object.create(Reading.prototype);
Level.prototype.constructor = Level;

function decodeUplink(input) {
  var level = new Level(input.bytes);
  var error = new Error('only made');
  error.name = 'LevelError';
  var list = [];
  list.values = 3;
  list.name = 'list';
  var enumerated = [];
  for (var key in [1]) enumerated.push(key);
  return {
    data: Object.assign({ hex: input.bytes[0].toString(16).padLeft(4, '0') }, {
      last: input.bytes.lastOne(), rounded: (1.23456).round(2), whole: Math.trunc(-1.5), has: input.bytes.includes(2),
      text: '' + level.toString(), sum: level + 1, error: String(error), values: list.values, keys: enumerated.length,
      packed: Uint8Array.from(input.bytes).toHex(), isLevel: level instanceof Reading
    })
  };
}
