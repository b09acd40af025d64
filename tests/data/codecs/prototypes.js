'use strict';
// Compiled from another language: strict, namespaces that grow, helpers on the prototype of everything, and exports
// before there is anything to export.
Object.prototype.readWord = function (offset) {
    var buffer = this;
    return (buffer[offset] << 8) | buffer[offset + 1];
};
if (typeof module !== 'undefined') {
    module.exports = codec;
}
if (typeof process !== 'undefined' && process.env['NODE_ENV'] === 'test') {
    global.codec = codec;
}
var codec;
(function (codec) {
    var Kind;
    (function (Kind) {
        Kind[Kind["NONE"] = 0] = "NONE";
        Kind[Kind["LEVEL"] = 1] = "LEVEL";
    })(Kind = codec.Kind || (codec.Kind = {}));
})(codec || (codec = {}));
var __merge = (this && this.__merge) || function () {
    __merge = Object.assign || function (target) { return target; };
    return __merge.apply(this, arguments);
};
var codec;
(function (codec) {
    var Parser = (function () {
        function Parser() {
            this.frameCode = 1;
        }
        Parser.prototype.parse = function (payload) {
            var content = __merge(__merge({}, { kind: codec.Kind[payload[0]] }), { level: payload.readWord(1) });
            for (var key in payload) {
                if (key === 'readWord') content.seen = true;
            }
            return content;
        };
        return Parser;
    }());
    codec.Parser = Parser;
})(codec || (codec = {}));

function decodeUplink(input) {
    return { data: new codec.Parser().parse(input.bytes), errors: [], warnings: [] };
}
