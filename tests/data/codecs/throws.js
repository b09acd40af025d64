// Every kind of failure, by port.
function decodeUplink(input) {
  switch (input.fPort) {
    case 1: return missing(input);
    case 2: throw 'a text';
    case 3: throw { code: 7 };
    case 4: return input.bytes.nothing.length;
    case 5: throw null;
    case 6: throw new RangeError('out of it');
    case 7: throw { get message() { throw 1; }, toString: function () { throw 2; }, toJSON: function () { throw 3; } };
    case 8:
      var error = new Error(new Array(100000).join('long'));
      throw error;
    case 9: return eval('1 +');
    case 10: return { data: { sum: eval('1 + input.fPort'), made: new Function('a', 'return a * 2')(4) } };
    case 11: return JSON.parse('{"level": 5');
  }
}
