// Keeps state in every place that JavaScript offers; each frame must find all of it as the first one did.
'use sloppy';
var calls = 0;
let last = [];
const seen = new Map();
var self = this;
if (typeof total === 'undefined') total = 0;
if (!Array.prototype.tally) Array.prototype.tally = 0;

function decodeUplink(input) {
  calls++;
  total += input.bytes[0];
  last.push(input.bytes[0]);
  seen.set(input.bytes[0], calls);
  self.kept = (self.kept || 0) + 1;
  globalThis['also' + 'Kept'] = (globalThis.alsoKept || 0) + 1;
  Array.prototype.tally += 1;
  decodeUplink.calls = (decodeUplink.calls || 0) + 1;
  Math.calls = (Math.calls || 0) + 1;
  Date.calls = (Date.calls || 0) + 1;
  Object.prototype.polluted = (Object.prototype.polluted || 0) + 1;
  var found = Object.prototype.polluted;
  String.prototype.trim.calls = (String.prototype.trim.calls || 0) + 1;
  Error.stackTraceLimit = (Error.stackTraceLimit || 10) + 1;
  var lastDigit = /\d$/g;
  lastDigit.test('a1');
  var spoiled = [1, 2, 3].join('-');
  Array.prototype.join = function () { return 'spoiled'; };
  var key = '__pro' + 'to__';
  ({})[key]['sneaked'] = (({})[key]['sneaked'] || 0) + 1;
  return {
    data: {
      calls: calls, total: total, last: last, seen: seen.size, kept: self.kept, alsoKept: globalThis.alsoKept,
      tally: [].tally, own: decodeUplink.calls, math: Math.calls, date: Date.calls, polluted: found,
      limit: Error.stackTraceLimit, at: lastDigit.lastIndex, spoiled: spoiled, sneaked: ({}).sneaked,
      counter: typeof counter === 'undefined' ? 'none' : counter++
    }
  };
}
