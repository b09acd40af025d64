// Changes what it should not in ways that cannot be put back: the context must be thrown away.
function decodeUplink(input) {
  var wasFrozen = Object.isFrozen(Array.prototype);
  var hadReverse = typeof [].reverse;
  var shadow = Object.keys('').length + (Object.prototype.hidden || 0);
  switch (input.bytes[0] % 6) {
    case 0: Object.freeze(Array.prototype); break;
    case 1: delete Array.prototype.reverse; break;
    case 2: Object.defineProperty(Object.prototype, 'hidden', { value: 7, configurable: false }); break;
    case 3: Object.setPrototypeOf(Number.prototype, Array.prototype); break;
    case 4: Promise.resolve().then(function () { late = true; }); break;
    case 5: ''.__proto__.__proto__.__defineGetter__('hidden', function () { return 8; }); break;
  }
  return {
    data: {
      frozen: wasFrozen, reverse: hadReverse, shadow: shadow, late: typeof late,
      number: typeof (5).push, kind: input.bytes[0] % 6
    }
  };
}
