// Every way not to end, or to take too much, by port.
function down(depth) { return 1 + down(depth + 1); }
function grow(step) { var list = []; for (;;) list.push(step()); }
function caught(work) { try { return work(); } catch (error) { return error.name; } }

function decodeUplink(input) {
  var bytes = input.bytes;
  switch (input.fPort) {
    case 1: while (true) {}
    case 2: for (;;) { try { while (true) {} } catch (error) { continue; } finally { continue; } }
    case 3: return { data: { depth: down(0) } };
    case 4: return { data: { name: caught(function () { return down(0); }) } };
    case 5: return grow(function () { return { a: 1 }; });
    case 6: return { data: { name: caught(function () { return grow(function () { return 'x'; }); }) } };
    case 7: return { data: { name: caught(function () { return new Array(1e9).join('x').length; }) } };
    case 8: return { data: { name: caught(function () { return new Array(1e9) + ''; }) } };
    case 9: return { data: { name: caught(function () { return 'x'.repeat(1 << 29).length; }) } };
    case 10: return { data: { matched: /^(a+)+$/.test(new Array(40).join('a') + 'b') } };
    case 11: return { data: { sorted: new Array(200000).fill(1).map(function (x, i) { return -i; }).sort()[0] } };
    case 12: return { data: { name: caught(function () { return new Uint8Array(1e9).length; }) } };
    case 13: var text = 'x'; for (;;) text += text;
    case 14: var big = 3n; for (;;) big = big * big;
    case 15: var list = []; for (;;) { var next = [list]; next.push(next); list = next; }
    case 16: var regular = new RegExp(new Array(20000).join('(')); return {};
    case 17: return JSON.parse(new Array(100000).join('['));
    case 18: return eval(new Array(100000).join('('));
    case 19: (function* () { for (;;) yield* arguments.callee(); })().next(); break;
    case 20: var object = { toString: function () { return '' + object; } }; return { data: { text: '' + object } };
    case 21: return { data: { length: 'x'.padEnd(3000000).split('').length } };
    case 22: return { data: { found: 'ab'.repeat(1000000).lastIndexOf('ba'.repeat(400000) + 'c') } };
    case 23: return { data: { text: 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!'.replace(/(a|aa)+$/, '') } };
    case 24: return { data: { sum: Array.from({ length: 1e8 }, function () { return 1; }).length } };
    case 25: Array.prototype.push = null; while (true) {}
    case 26: return { data: { joined: Array.apply(null, { length: 5e7 }).length } };
    case 27: return { data: { power: String((2n ** 1000000n) % 7n) } };
    case 28: return { data: { text: (123456789n ** 20000n).toString().length } };
    case 29: return { data: { copies: new Array(50000).fill('abc').join().split(',').concat(new Array(1e6)).length } };
    case 30: return { data: { set: new Set('x'.repeat(500000).split('').map(function (x, i) { return x + i; })).size } };
    case 31: var source = 'x'; for (var n = 0; n < 17; n++) source = '[' + source + ',' + source + ']'; return { data: { size: eval('var x = 1;' + source).length } };
    case 32: return new Proxy({}, {});
    case 33: return Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
    case 34: var view = new Float64Array(100000); return { data: { last: view.fill(2).sort().reverse().lastIndexOf(3) } };
    case 35: while (bytes.length < 1e7) bytes.splice(0, 0, 1, 2, 3); break;
    case 36: return { data: { length: 'x'.repeat(2000000).replace(/x/g, '$&$&').length } };
    case 37: return { data: { length: encodeURIComponent('\u4e95'.repeat(800000)).length } };
    case 38: return { data: { length: JSON.stringify(new Array(400000).fill('"')).length } };
    case 39: return { data: { text: 'x'.repeat(900000).normalize('NFD').toUpperCase().length } };
    default: return { data: { level: bytes.length } };
  }
}
