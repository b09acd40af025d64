"use strict";
// What a translator of ES modules leaves: everything is in `exports.default`.
Object.defineProperty(exports, "__esModule", { value: true });
const helper = { level: (bytes) => bytes[0] ?? -1 };
class Reader {
  read(bytes) { return { level: helper.level(bytes) }; }
}
exports.default = {
  reader: new Reader(),
  decodeUplink(input) { return { data: { ...this.reader.read(input.bytes), same: +input.time === +input.recvTime } }; },
};
