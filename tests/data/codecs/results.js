// Every kind of result, by port.
function decodeUplink(input) {
  var loop = {};
  loop.self = loop;
  switch (input.fPort) {
    case 1: return { data: { nan: NaN, inf: -Infinity, none: undefined, nil: null, call: function () {}, zero: -0 } };
    case 2: return { data: [{ level: 1 }, { level: 2 }] };
    case 3: return { data: 'text' };
    case 4: return { data: null };
    case 5: return undefined;
    case 6: return 5;
    case 7: return { data: loop };
    case 8: return { level: 3 };
    case 9: return Promise.resolve({ data: {} });
    case 10: return { data: { half: 'a\ud800b', quote: '"\\\u0000\n', 井: '盖' } };
    case 11: return { data: { deep: nest(200) } };
    case 12: return { data: { long: new Array(70000).join('x') } };
    case 13: return { data: { get level() { throw new TypeError('hidden'); } } };
    case 14: return { data: { toJSON: function () { return undefined; } } };
    case 15: return { data: { map: new Map([[1, 2]]), typed: new Uint8Array([1, 2]), nested: { deep: [{ level: 4 }] } } };
    case 16: return { data: { '__proto__': 1, 'constructor': 2, level: 5 }, errors: null, warnings: null };
    case 17: return { data: {}, warnings: [{ code: 1 }, new Error('odd')], errors: [] };
    case 18: return { errors: [''] };
    case 19: return [1, 2];
    case 21: return { error: 'not mine' };
    case 22: return { warnings: ['nothing for this port'] };
    case 20: return { data: { small: 5n, list: [1n] } };
  }
}
function nest(depth) { return depth === 0 ? 1 : [nest(depth - 1)]; }
