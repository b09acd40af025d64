// The world that a codec finds besides the language itself: a clock that stands at the frame's time, random numbers
// that follow from the frame, a console that is kept short, and the few helpers that public codecs take for granted.
// Evaluated once in every new context; gives the switch that sets the world to a frame.
(function () {
  "use strict";

  const CONSOLE_CHARS_MAX = 4096;
  // What one frame may have the language work through by itself, in elements and characters: QuickJS asks nobody whether
  // to go on while it does so. A list gets long by accident: `list[id] = value` with an id of 32 bits.
  const WORK_MAX = 5e6;
  const DEPTH_MAX = 64;

  let now = 0;
  let seed = 1;
  let lines = "";
  let work = 0;

  function hide(object, name, value) {
    Object.defineProperty(object, name, { value, writable: true, configurable: true, enumerable: false });
  }

  // ==== What would tell two runs apart, or bring in threads. Traps on the language itself would hide what was changed.
  const ABSENT = ["Atomics", "DOMException", "FinalizationRegistry", "Proxy", "SharedArrayBuffer", "WeakRef",
    "performance", "queueMicrotask", "navigator"];
  for (const name of ABSENT) delete globalThis[name];
  // They keep what was assigned outside of any object.
  delete Error.stackTraceLimit;
  delete Error.prepareStackTrace;

  // ==== Long loops inside of the language.
  const { apply } = Reflect;
  const { keys } = Object;
  function spend(amount) {
    work += amount;
    // No number at all is too much as well.
    if (!(work <= WORK_MAX)) throw new RangeError("a list or text is too long");
  }
  // Below zero, or no number, is nothing, as the language has it; `>>> 0` would make much of it.
  const atLeastZero = (length) => (+length > 0 ? +length : 0);
  const lengthOf = (value) => (value === null || value === undefined ? 0 : atLeastZero(value.length));
  function meter(holder, names, cost) {
    for (const name of names) {
      const plain = holder[name];
      hide(holder, name, { [name](...values) {
        spend(cost(this, values[0]));
        return apply(plain, this, values);
      } }[name]);
    }
  }
  const LIST_METHODS = ["copyWithin", "fill", "join", "reverse", "slice", "sort", "toLocaleString", "toReversed", "toSorted",
    "with"];
  const ARRAY_METHODS = ["concat", "flat", "flatMap", "shift", "splice", "toSpliced", "unshift"];
  meter(Array.prototype, [...LIST_METHODS, ...ARRAY_METHODS], lengthOf);
  const typed = Object.getPrototypeOf(Uint8Array.prototype);
  meter(typed, LIST_METHODS.filter((name) => name in typed), lengthOf);
  meter(typed, ["includes", "indexOf", "lastIndexOf", "set", "subarray"], lengthOf);
  const TEXT_METHODS = ["normalize", "toLowerCase", "toUpperCase", "toWellFormed", "localeCompare"];
  meter(String.prototype, TEXT_METHODS, lengthOf);
  const SEARCHES = ["includes", "indexOf", "lastIndexOf", "replace", "replaceAll", "split"];
  meter(String.prototype, SEARCHES, (text, wanted) =>
    lengthOf(text) * (typeof wanted === "string" ? Math.max(wanted.length, 1) : 1));
  meter(String.prototype, ["padEnd", "padStart"], (text, length) => atLeastZero(length));
  meter(String.prototype, ["repeat"], (text, count) => lengthOf(text) * atLeastZero(count));

  // How much there is to write, before it is written.
  function weigh(value, depth) {
    if (typeof value !== "object" || value === null) return;
    if (depth > DEPTH_MAX) throw new RangeError("nested more than " + DEPTH_MAX + " deep, or within itself");
    if (Array.isArray(value) || ArrayBuffer.isView(value)) spend(lengthOf(value));
    const names = keys(value);
    for (let position = 0; position < names.length; position++) weigh(value[names[position]], depth + 1);
  }
  meter(JSON, ["stringify"], (json, value) => {
    weigh(value, 0);
    return 1;
  });

  // ==== Random numbers: mulberry32. Good enough for the jitter that codecs have it for.
  hide(Math, "random", { random() {
    seed = (seed + 0x6d2b79f5) | 0;
    let mixed = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  } }.random);

  // ==== Dates: now is the frame's time, and here is UTC, whatever zone the machine is in.
  const HostDate = Date;
  const DATE = HostDate.prototype;
  const { UTC, parse: parseHost } = HostDate;
  const DAYS = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
  const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

  // A text without a zone is in the machine's for the host, and in UTC here.
  function parse(text) {
    text = String(text);
    const isDateAlone = /^\s*[+-]?\d{4,6}(-\d\d){0,2}\s*$/.test(text);
    const hasZone = /(Z|GMT|UTC?|[ECMP][SD]T|\d\s*[+-]\d\d:?\d\d)\s*(\(.*\))?\s*$/i.test(text);
    if (isDateAlone || hasZone) return parseHost(text);
    const time = parseHost(text + "Z");
    return time === time ? time : parseHost(text + " UTC");
  }

  function timeOf(value) {
    if (value instanceof HostDate) return value.getTime();
    if (typeof value === "object" && value !== null) value = value.valueOf();
    return typeof value === "string" || typeof value === "object" ? parse(value) : +value;
  }

  const FrameDate = function Date(...parts) {
    if (new.target === undefined) return new HostDate(now).toString();
    let time = now;
    if (parts.length === 1) time = timeOf(parts[0]);
    if (parts.length > 1) time = UTC(...parts);
    return Reflect.construct(HostDate, [time], new.target);
  };
  Object.defineProperty(FrameDate, "length", { value: 7 });
  Object.defineProperty(FrameDate, "prototype", { value: DATE, writable: false });
  hide(FrameDate, "UTC", UTC);
  hide(FrameDate, "parse", { parse(text) { return parse(text); } }.parse);
  hide(FrameDate, "now", { now() { return now; } }.now);
  hide(DATE, "constructor", FrameDate);
  hide(globalThis, "Date", FrameDate);

  for (const part of ["Date", "Day", "FullYear", "Hours", "Milliseconds", "Minutes", "Month", "Seconds"]) {
    hide(DATE, "get" + part, DATE["getUTC" + part]);
    if (part !== "Day") hide(DATE, "set" + part, DATE["setUTC" + part]);
  }
  const dateMethods = {
    getYear() { return this.getUTCFullYear() - 1900; },
    setYear(year) {
      year = +year;
      return this.setUTCFullYear(year >= 0 && year <= 99 ? 1900 + Math.trunc(year) : year);
    },
    getTimezoneOffset() { return this.getTime() * 0; },
  };
  for (const name of Object.keys(dateMethods)) hide(DATE, name, dateMethods[name]);

  const two = (number) => (number < 10 ? "0" : "") + number;
  function dateText(date) {
    const day = two(date.getUTCDate()) + " " + ("000" + date.getUTCFullYear()).slice(-4);
    return DAYS[date.getUTCDay()] + " " + MONTHS[date.getUTCMonth()] + " " + day;
  }
  function clockText(date) {
    return two(date.getUTCHours()) + ":" + two(date.getUTCMinutes()) + ":" + two(date.getUTCSeconds());
  }
  const localDate = (date) => date.getUTCMonth() + 1 + "/" + date.getUTCDate() + "/" + date.getUTCFullYear();
  function localTime(date) {
    const hour = date.getUTCHours();
    return (hour % 12 || 12) + clockText(date).slice(2) + (hour < 12 ? " AM" : " PM");
  }
  const texts = {
    toString: (date) => dateText(date) + " " + clockText(date) + " GMT+0000 (Coordinated Universal Time)",
    toDateString: dateText,
    toTimeString: (date) => clockText(date) + " GMT+0000 (Coordinated Universal Time)",
    toLocaleString: (date) => localDate(date) + ", " + localTime(date),
    toLocaleDateString: localDate,
    toLocaleTimeString: localTime,
  };
  for (const name of Object.keys(texts)) {
    const write = texts[name];
    hide(DATE, name, { [name]() { return isNaN(this.getTime()) ? "Invalid Date" : write(this); } }[name]);
  }

  // ==== Console.
  function shown(value) {
    if (typeof value === "string") return value;
    if (value instanceof Error) return String(value);
    if (typeof value !== "object" || value === null) return String(value);
    try {
      return JSON.stringify(value) || String(value);
    } catch (error) {
      return String(value);
    }
  }
  function log(...values) {
    if (lines.length >= CONSOLE_CHARS_MAX) return;
    let line = "";
    for (let position = 0; position < values.length && line.length < CONSOLE_CHARS_MAX; position++) {
      line += (position > 0 ? " " : "") + shown(values[position]).slice(0, CONSOLE_CHARS_MAX);
    }
    lines = (lines + line + "\n").slice(0, CONSOLE_CHARS_MAX);
  }
  const console = {};
  for (const name of ["log", "info", "warn", "error", "debug", "trace", "dir"]) {
    hide(console, name, { [name](...values) { log(...values); } }[name]);
  }
  for (const name of ["assert", "group", "groupEnd", "time", "timeEnd", "table"]) {
    hide(console, name, { [name]() {} }[name]);
  }
  hide(globalThis, "console", console);

  // ==== Texts and bytes.
  function utf8Bytes(text) {
    const bytes = [];
    for (let position = 0; position < text.length; position++) {
      let code = text.codePointAt(position);
      if (code > 0xffff) position++;
      else if (code >= 0xd800 && code <= 0xdfff) code = 0xfffd;
      if (code < 0x80) bytes.push(code);
      else if (code < 0x800) bytes.push(0xc0 | (code >> 6), 0x80 | (code & 63));
      else if (code < 0x10000) bytes.push(0xe0 | (code >> 12), 0x80 | ((code >> 6) & 63), 0x80 | (code & 63));
      else bytes.push(0xf0 | (code >> 18), 0x80 | ((code >> 12) & 63), 0x80 | ((code >> 6) & 63), 0x80 | (code & 63));
    }
    return bytes;
  }

  // The code point of the sequence at a place, and how many bytes it takes; -1 when there is none.
  function sequence(bytes, start) {
    const first = bytes[start];
    if (first < 0x80) return [first, 1];
    const length = first >= 0xf0 && first < 0xf5 ? 4 : first >= 0xe0 && first < 0xf0 ? 3 : first >= 0xc2 ? 2 : 0;
    if (length === 0 || first >= 0xf5) return [-1, 1];
    let code = first & (0x7f >> length);
    for (let offset = 1; offset < length; offset++) {
      const next = bytes[start + offset];
      if (next === undefined || (next & 0xc0) !== 0x80) return [-1, offset];
      code = (code << 6) | (next & 63);
    }
    const isOverlong = code < [0, 0, 0x80, 0x800, 0x10000][length];
    return isOverlong || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff) ? [-1, 1] : [code, length];
  }
  function utf8Text(bytes, isFatal) {
    let text = "";
    for (let start = 0; start < bytes.length;) {
      const [code, length] = sequence(bytes, start);
      if (code < 0 && isFatal) throw new TypeError("the bytes are not UTF-8");
      text += code < 0 ? "\ufffd" : String.fromCodePoint(code);
      start += length;
    }
    return text;
  }

  const BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  function base64Text(bytes, alphabet, padding) {
    let text = "";
    for (let start = 0; start < bytes.length; start += 3) {
      const rest = bytes.length - start;
      const group = (bytes[start] << 16) | ((rest > 1 ? bytes[start + 1] : 0) << 8) | (rest > 2 ? bytes[start + 2] : 0);
      text += alphabet[group >> 18] + alphabet[(group >> 12) & 63];
      text += rest > 1 ? alphabet[(group >> 6) & 63] : padding;
      text += rest > 2 ? alphabet[group & 63] : padding;
    }
    return text;
  }
  // Whatever is not of the alphabet is passed over, as Node does.
  function base64Bytes(text) {
    const bytes = [];
    let group = 0;
    let bits = 0;
    for (const letter of String(text)) {
      if (letter === "=") break;
      const value = BASE64.indexOf(letter === "-" ? "+" : letter === "_" ? "/" : letter);
      if (value < 0) continue;
      group = ((group << 6) | value) & 0xfffff;
      bits += 6;
      if (bits >= 8) {
        bits -= 8;
        bytes.push((group >> bits) & 255);
      }
    }
    return bytes;
  }
  const latin1Text = (bytes) => {
    let text = "";
    for (let position = 0; position < bytes.length; position++) text += String.fromCharCode(bytes[position]);
    return text;
  };
  hide(globalThis, "atob", { atob(text) {
    const packed = String(text).replace(/[\t\n\f\r ]/g, "");
    if (/[^A-Za-z0-9+/=]/.test(packed) || packed.replace(/=+$/, "").length % 4 === 1) {
      throw new Error("the text is not base64");
    }
    return latin1Text(base64Bytes(packed));
  } }.atob);
  hide(globalThis, "btoa", { btoa(text) {
    const bytes = [];
    for (const letter of String(text)) {
      if (letter.charCodeAt(0) > 255) throw new Error("a character is not in Latin-1");
      bytes.push(letter.charCodeAt(0));
    }
    return base64Text(bytes, BASE64, "=");
  } }.btoa);

  class TextEncoder {
    get encoding() { return "utf-8"; }
    encode(text) { return new Uint8Array(utf8Bytes(text === undefined ? "" : String(text))); }
  }
  class TextDecoder {
    #isFatal;
    #keepsMark;
    #label;
    constructor(label = "utf-8", options = {}) {
      const known = { "utf-8": "utf-8", utf8: "utf-8", ascii: "windows-1252", "us-ascii": "windows-1252",
        latin1: "windows-1252", "iso-8859-1": "windows-1252", "utf-16": "utf-16le", "utf-16le": "utf-16le" };
      this.#label = known[String(label).toLowerCase()];
      if (this.#label === undefined) throw new RangeError("the encoding " + label + " is not known here");
      this.#isFatal = !!options.fatal;
      this.#keepsMark = !!options.ignoreBOM;
    }
    get encoding() { return this.#label; }
    decode(source) {
      if (source === undefined) return "";
      const bytes = ArrayBuffer.isView(source)
        ? new Uint8Array(source.buffer, source.byteOffset, source.byteLength) : new Uint8Array(source);
      if (this.#label === "windows-1252") return latin1Text(bytes);
      const text = this.#label === "utf-8" ? utf8Text(bytes, this.#isFatal) : textOfBytes(bytes, "utf16le");
      return !this.#keepsMark && text.charCodeAt(0) === 0xfeff ? text.slice(1) : text;
    }
  }
  hide(globalThis, "TextEncoder", TextEncoder);
  hide(globalThis, "TextDecoder", TextDecoder);

  // ==== Buffer, as far as codecs use it.
  function bytesOfText(text, encoding) {
    switch (String(encoding === undefined ? "utf8" : encoding).toLowerCase()) {
      case "utf8": case "utf-8": return utf8Bytes(text);
      case "hex": {
        const bytes = [];
        for (let start = 0; start + 1 < text.length; start += 2) {
          const pair = text.slice(start, start + 2);
          if (!/^[0-9a-f]{2}$/i.test(pair)) break;
          bytes.push(parseInt(pair, 16));
        }
        return bytes;
      }
      case "base64": case "base64url": return base64Bytes(text);
      case "ascii": case "latin1": case "binary": return Array.from(text, (letter) => letter.charCodeAt(0) & 255);
      case "ucs2": case "ucs-2": case "utf16le": case "utf-16le": {
        const bytes = [];
        for (let position = 0; position < text.length; position++) {
          bytes.push(text.charCodeAt(position) & 255, text.charCodeAt(position) >> 8);
        }
        return bytes;
      }
      default: throw new TypeError("Unknown encoding: " + encoding);
    }
  }
  function textOfBytes(bytes, encoding) {
    switch (String(encoding === undefined ? "utf8" : encoding).toLowerCase()) {
      case "utf8": case "utf-8": return utf8Text(bytes, false);
      case "hex": {
        let text = "";
        for (let position = 0; position < bytes.length; position++) text += (bytes[position] + 256).toString(16).slice(1);
        return text;
      }
      case "base64": return base64Text(bytes, BASE64, "=");
      case "base64url": return base64Text(bytes, BASE64.slice(0, 62) + "-_", "");
      case "ascii": return latin1Text(Array.from(bytes, (byte) => byte & 127));
      case "latin1": case "binary": return latin1Text(bytes);
      case "ucs2": case "ucs-2": case "utf16le": case "utf-16le": {
        let text = "";
        for (let start = 0; start + 1 < bytes.length; start += 2) {
          text += String.fromCharCode(bytes[start] | (bytes[start + 1] << 8));
        }
        return text;
      }
      default: throw new TypeError("Unknown encoding: " + encoding);
    }
  }

  const create = (bytes) => Reflect.construct(Uint8Array, [bytes], Buffer);
  // Without `new` as well: codecs of old write both.
  const Buffer = function Buffer(source, encoding, length) {
    return typeof source === "number" ? create(source) : Buffer.from(source, encoding, length);
  };
  Object.setPrototypeOf(Buffer, Uint8Array);
  Buffer.prototype = Object.create(Uint8Array.prototype);
  hide(Buffer.prototype, "constructor", Buffer);

  const ofBuffer = {
    from(source, encoding, length) {
      if (typeof source === "string") return create(bytesOfText(source, encoding));
      if (source instanceof ArrayBuffer) return Reflect.construct(Uint8Array, [source, encoding, length], Buffer);
      if (source && source.type === "Buffer" && Array.isArray(source.data)) return create(source.data);
      if (typeof source === "object" && source !== null) return create(Array.from(source));
      throw new TypeError("The first argument must be a string, a Buffer, an ArrayBuffer, or an Array");
    },
    alloc(size, fill, encoding) {
      const buffer = create(size);
      return fill === undefined ? buffer : buffer.fill(fill, 0, size, encoding);
    },
    allocUnsafe: (size) => create(size),
    isBuffer: (value) => value instanceof Buffer,
    isEncoding: (name) => /^(utf-?8|hex|base64(url)?|ascii|latin1|binary|ucs-?2|utf-?16le)$/i.test(String(name)),
    byteLength: (value, encoding) => (typeof value === "string" ? bytesOfText(value, encoding).length : value.byteLength),
    concat(list, size) {
      const bytes = [];
      for (const part of list) for (const byte of part) bytes.push(byte);
      const buffer = create(size === undefined ? bytes.length : size);
      buffer.set(bytes.slice(0, buffer.length));
      return buffer;
    },
    compare(one, other) {
      for (let position = 0; position < one.length && position < other.length; position++) {
        if (one[position] !== other[position]) return one[position] < other[position] ? -1 : 1;
      }
      return Math.sign(one.length - other.length);
    },
  };
  for (const name of Object.keys(ofBuffer)) hide(Buffer, name, ofBuffer[name]);

  function place(buffer, offset, size) {
    offset = offset === undefined ? 0 : offset;
    if (typeof offset !== "number") throw new TypeError('The "offset" argument must be of type number');
    if (!(Number.isInteger(offset) && offset >= 0 && offset + size <= buffer.length)) {
      throw new RangeError("The value of \"offset\" is out of range: " + size + " bytes at " + offset + " of " + buffer.length);
    }
    return offset;
  }
  const viewOf = (buffer) => new DataView(buffer.buffer, buffer.byteOffset, buffer.byteLength);
  // Name in Buffer, name in DataView, size.
  const NUMBERS = [["UInt8", "Uint8", 1], ["Int8", "Int8", 1], ["UInt16", "Uint16", 2], ["Int16", "Int16", 2],
    ["UInt32", "Uint32", 4], ["Int32", "Int32", 4], ["Float", "Float32", 4], ["Double", "Float64", 8],
    ["BigUInt64", "BigUint64", 8], ["BigInt64", "BigInt64", 8]];
  for (const [name, viewName, size] of NUMBERS) {
    for (const order of size === 1 ? [""] : ["LE", "BE"]) {
      const isLittle = order === "LE";
      const { read, write } = {
        read(offset) {
          offset = place(this, offset, size);
          return viewOf(this)["get" + viewName](offset, isLittle);
        },
        write(value, offset) {
          offset = place(this, offset, size);
          viewOf(this)["set" + viewName](offset, value, isLittle);
          return offset + size;
        },
      };
      for (const alias of new Set([name, name.replace("UInt", "Uint")])) {
        hide(Buffer.prototype, "read" + alias + order, read);
        hide(Buffer.prototype, "write" + alias + order, write);
      }
    }
  }
  function readWhole(buffer, offset, size, isLittle, isSigned) {
    if (!(size >= 1 && size <= 6)) throw new RangeError('The value of "byteLength" is out of range: ' + size);
    offset = place(buffer, offset, size);
    let value = 0;
    for (let step = 0; step < size; step++) {
      value = value * 256 + buffer[isLittle ? offset + size - 1 - step : offset + step];
    }
    return isSigned && value >= 2 ** (8 * size - 1) ? value - 2 ** (8 * size) : value;
  }
  function writeWhole(buffer, value, offset, size, isLittle) {
    offset = place(buffer, offset, size);
    value = value < 0 ? value + 2 ** (8 * size) : value;
    for (let step = 0; step < size; step++) {
      buffer[isLittle ? offset + step : offset + size - 1 - step] = Math.floor(value / 2 ** (8 * step)) % 256;
    }
    return offset + size;
  }
  for (const order of ["LE", "BE"]) {
    for (const name of ["UInt", "Uint", "Int"]) {
      const { read, write } = {
        read(offset, size) { return readWhole(this, offset, size, order === "LE", name === "Int"); },
        write(value, offset, size) { return writeWhole(this, value, offset, size, order === "LE"); },
      };
      hide(Buffer.prototype, "read" + name + order, read);
      hide(Buffer.prototype, "write" + name + order, write);
    }
  }
  const bufferMethods = {
    toString(encoding, start, end) { return textOfBytes(Uint8Array.prototype.slice.call(this, start || 0, end), encoding); },
    toLocaleString(encoding) { return this.toString(encoding); },
    toJSON() { return { type: "Buffer", data: Array.from(this) }; },
    slice(start, end) { return this.subarray(start, end); },
    equals(other) { return Buffer.compare(this, other) === 0; },
    compare(other) { return Buffer.compare(this, other); },
    copy(target, at = 0, start = 0, end = this.length) {
      const part = Array.from(this.subarray(start, end)).slice(0, Math.max(target.length - at, 0));
      target.set(part, at);
      return part.length;
    },
    write(text, offset = 0, length, encoding) {
      if (typeof offset === "string") [encoding, offset, length] = [offset, 0, undefined];
      if (typeof length === "string") [encoding, length] = [length, undefined];
      const room = this.length - offset;
      const bytes = bytesOfText(text, encoding).slice(0, length === undefined ? room : Math.min(length, room));
      this.set(bytes, offset);
      return bytes.length;
    },
    fill(value, start = 0, end = this.length, encoding) {
      const bytes = typeof value === "string" ? bytesOfText(value, encoding) : [value];
      for (let position = start; position < end; position++) {
        this[position] = bytes.length > 0 ? bytes[(position - start) % bytes.length] : 0;
      }
      return this;
    },
    indexOf(value, from = 0) {
      if (typeof value === "number") return Uint8Array.prototype.indexOf.call(this, value, from);
      const wanted = typeof value === "string" ? utf8Bytes(value) : value;
      for (let start = from; start + wanted.length <= this.length; start++) {
        let length = 0;
        while (length < wanted.length && this[start + length] === wanted[length]) length++;
        if (length === wanted.length) return start;
      }
      return -1;
    },
    includes(value, from) { return this.indexOf(value, from) >= 0; },
    swap16() { return swap(this, 2); },
    swap32() { return swap(this, 4); },
    swap64() { return swap(this, 8); },
  };
  function swap(buffer, size) {
    if (buffer.length % size !== 0) throw new RangeError("Buffer size must be a multiple of " + size * 8 + "-bits");
    for (let start = 0; start < buffer.length; start += size) {
      Uint8Array.prototype.reverse.call(buffer.subarray(start, start + size));
    }
    return buffer;
  }
  for (const name of Object.keys(bufferMethods)) hide(Buffer.prototype, name, bufferMethods[name]);
  hide(globalThis, "Buffer", Buffer);

  return {
    set(time, random) {
      now = time;
      seed = random;
      lines = "";
      work = 0;
    },
    // What the host does after the codec is not the codec's.
    rest() { work = 0; },
    lines: () => lines,
  };
})()
