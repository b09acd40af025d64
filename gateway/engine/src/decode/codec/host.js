// Runs a codec frame by frame, and sees to it that each frame finds the world as the first one did.
//
// A codec's own variables live inside a function that is called anew for every frame, so they begin anew. What it
// changes outside of them (globals made by assignment, prototypes, objects of the language) is found afterwards by
// comparing with what stood there at first, and put back. Where that cannot be done, the whole context is thrown away.
//
// Evaluated once in every new context, after world.js; gives `run` and `clean`, which machine.rs calls.
(function (world, factory, limits) {
  "use strict";

  const { apply, construct, defineProperty, deleteProperty, getOwnPropertyDescriptor, getPrototypeOf, ownKeys } = Reflect;
  const { create, is, keys: enumerableKeys, getOwnPropertySymbols, freeze } = Object;
  const { parse, stringify } = JSON;
  const { isArray } = Array;
  const { isSafeInteger } = Number;
  const ask = (method) => (subject, ...values) => apply(method, subject, values);
  const [has, test, match, slice, isWellFormed, toWellFormed, includes] = [Set.prototype.has, RegExp.prototype.test,
    String.prototype.match, String.prototype.slice, String.prototype.isWellFormed, String.prototype.toWellFormed,
    String.prototype.includes].map(ask);
  const FrameDate = Date;
  const HostError = Error;
  const HostPromise = Promise;
  const HostNumber = Number;
  const HostString = String;

  // ==== What the world is made of.

  // Objects of the language that a codec could leave something in, each with what it holds.
  const known = new Set();
  const watched = [];
  let isTouched = false;

  // Properties that a codec could define in ways that comparing would not find: it is noted when it does so to an
  // object of the language.
  function watchDefinitions() {
    const guard = (holder, name) => {
      const plain = holder[name];
      const guarded = { [name](target, ...rest) {
        if (has(known, target)) isTouched = true;
        return apply(plain, this, [target, ...rest]);
      } }[name];
      defineProperty(holder, name, { value: guarded });
    };
    const names = ["defineProperty", "preventExtensions", "setPrototypeOf"];
    for (const name of [...names, "defineProperties", "freeze", "seal"]) guard(Object, name);
    for (const name of names) guard(Reflect, name);
    const guardThis = (plain) => ({ guarded(...values) {
      if (has(known, this)) isTouched = true;
      return apply(plain, this, values);
    } }.guarded);
    for (const name of ["__defineGetter__", "__defineSetter__"]) {
      defineProperty(Object.prototype, name, { value: guardThis(Object.prototype[name]) });
    }
    const prototype = getOwnPropertyDescriptor(Object.prototype, "__proto__");
    defineProperty(Object.prototype, "__proto__", { set: guardThis(prototype.set) });
  }

  function everyObject() {
    const objects = [];
    const visit = (object) => {
      if ((typeof object !== "object" && typeof object !== "function") || object === null || known.has(object)) return;
      known.add(object);
      objects.push(object);
      visit(getPrototypeOf(object));
      for (const key of ownKeys(object)) {
        const { value, get, set } = getOwnPropertyDescriptor(object, key);
        [value, get, set].forEach(visit);
      }
    };
    visit(globalThis);
    // These have no name.
    const nameless = [function* () {}, async function () {}, async function* () {}, [].values(), "".matchAll(/x/g),
      ""[Symbol.iterator](), new Map().keys(), new Set().keys(), (function* () {})(), (async function* () {})(),
      [].values().map(String), Iterator.from({ next() {} })];
    nameless.map(getPrototypeOf).forEach(visit);
    return objects;
  }

  // A method of the language inherits nothing to anybody, so nobody notices that nothing can be put into it.
  const isMethod = (object) =>
    typeof object === "function" && getOwnPropertyDescriptor(object, "prototype") === undefined
    && object !== Function.prototype && getPrototypeOf(object) === Function.prototype;

  // Only what is not frozen must be compared after each frame, so everything is frozen that the codec does not mean to
  // change, to judge by its text. Were the text misleading, a change there would do nothing; it would not last.
  const CHANGES = /prototype|\b[A-Z]\w*\s*(\.\s*\w+|\[[^\]]*\])\s*=[^=>]|defineProp|\.assign\b/;
  const CHANGES_ANYTHING = /__proto__|__define|[.'"]\s*constructor|[gs]etPrototypeOf|\beval\s*\(|\bFunction\s*\(|\bReflect\s*\./;

  function changeable(text) {
    const errors = (object) => HostError.prototype === object || HostError.prototype.isPrototypeOf(object);
    // Honest codecs give properties of the same names to objects that inherit from these: `error.name = ...`, or a list
    // that is used as an object, `decoded.values = ...`. A frozen one would forbid that.
    const inherited = new Set([globalThis, Object.prototype, Function.prototype, Array.prototype]);
    if (test(CHANGES_ANYTHING, text)) return () => true;
    if (test(CHANGES, text)) {
      const words = new Set(text.match(/[A-Za-z_$][\w$]*/g));
      for (const name of ownKeys(globalThis)) {
        const object = globalThis[name];
        if (!words.has(name)) continue;
        inherited.add(object);
        if (typeof object === "function" && object.prototype) inherited.add(object.prototype);
      }
    }
    return (object) => inherited.has(object) || errors(object);
  }

  function watch(object) {
    const names = ownKeys(object);
    const compared = names.filter((name) => "value" in getOwnPropertyDescriptor(object, name));
    const values = compared.map((name) => object[name]);
    const enumerable = enumerableKeys(object).length;
    const symbols = getOwnPropertySymbols(object).length;
    watched.push({ object, names: new Set(names), compared, values, enumerable, symbols });
  }

  function isAsBefore() {
    for (let position = 0; position < watched.length; position++) {
      const { object, compared, values, enumerable, symbols } = watched[position];
      if (enumerableKeys(object).length !== enumerable || getOwnPropertySymbols(object).length !== symbols) return false;
      for (let index = 0; index < compared.length; index++) {
        const value = object[compared[index]];
        if (value !== values[index] && !is(value, values[index])) return false;
      }
    }
    return true;
  }

  // A codec's own class of that name is none of the console's functions.
  let isBuiltWithNew = false;

  function setUp() {
    isBuiltWithNew = test(/\bnew\s+(Converter|Validator)\b/, HostString(factory));
    watchDefinitions();
    setModule(null);
    const isChangeable = changeable(HostString(factory));
    for (const object of everyObject()) {
      if (isMethod(object) || !isChangeable(object)) freeze(object);
      else watch(object);
    }
  }

  // Puts back what a frame changed; false when that cannot be done.
  function mend() {
    for (let position = 0; position < watched.length; position++) {
      const { object, names, compared, values } = watched[position];
      const there = ownKeys(object);
      let count = there.length;
      for (let index = 0; index < there.length; index++) {
        if (has(names, there[index])) continue;
        if (!deleteProperty(object, there[index])) return false;
        count--;
      }
      if (count !== setSize(names)) return false;
      for (let index = 0; index < compared.length; index++) {
        if (!is(object[compared[index]], values[index])) object[compared[index]] = values[index];
      }
    }
    return isAsBefore();
  }
  const setSize = ask(getOwnPropertyDescriptor(Set.prototype, "size").get);

  // Whether the next frame finds everything as this one did.
  function clean() {
    setModule(null);
    return !isTouched && (isAsBefore() || mend());
  }

  // ==== One frame.

  function setModule(exported) {
    const module = exported === null ? null : { exports: exported };
    defineProperty(globalThis, "module", { value: module, writable: true, configurable: true, enumerable: false });
    defineProperty(globalThis, "exports", { value: exported, writable: true, configurable: true, enumerable: false });
    return module;
  }

  // What became of a frame; machine.rs has the same numbers.
  const [DATA, REFUSED, THREW, WRONG, NO_ROOM] = [0, 1, 2, 3, 4];

  function run(bytes, port, time, random, variables) {
    world.set(time, random);
    const module = setModule({});
    let outcome;
    try {
      outcome = judge(call(module, bytes, port, time, variables));
    } catch (error) {
      world.rest();
      outcome = failure(error);
    }
    world.rest();
    outcome[3] = toWellFormed(world.lines());
    return outcome;
  }

  const isObject = (value) => typeof value === "object" && value !== null;

  // The codec's functions, wherever it puts them: declared, exported, exported by what was an ES module, or in the
  // object `driver` that ThingPark's bundles have.
  function functions(module) {
    const own = apply(factory, globalThis, []);
    const exported = module.exports || {};
    const holders = [own, exported, exported.default, own.driver, exported.driver];
    if (isObject(own.driver)) holders[5] = own.driver.default;
    return (name) => {
      for (let position = 0; position < holders.length; position++) {
        const holder = holders[position];
        const found = isObject(holder) || typeof holder === "function" ? holder[name] : undefined;
        if (typeof found === "function") return (...values) => apply(found, holder === own ? undefined : holder, values);
      }
      return undefined;
    };
  }

  function call(module, bytes, port, time, variables) {
    const find = functions(module);
    const received = () => construct(FrameDate, [time]);
    const decodeUplink = find("decodeUplink");
    if (decodeUplink) {
      const answer = decodeUplink({ bytes, fPort: port, recvTime: received(), time: received(), variables });
      return { answer, isWrapped: true, normalize: find("normalizeUplink") };
    }
    const decode = find("Decode");
    if (decode) return { answer: decode(port, bytes, variables), isWrapped: false };
    const decoder = find("Decoder");
    if (!decoder) return undefined;
    // What Helium's console tells besides, as far as it is known here.
    const uplinkInfo = { port, reported_at: time, payload_size: bytes.length, hotspots: [] };
    return { answer: converted(find, decoder(bytes, port, uplinkInfo), port), isWrapped: false };
  }

  // What the console of The Things Network's second version did behind a Decoder.
  function converted(find, decoded, port) {
    if (!isObject(decoded) || isBuiltWithNew) return decoded;
    const converter = find("Converter");
    const data = converter ? converter(decoded, port) : decoded;
    const validator = find("Validator");
    if (validator && validator(data, port) === false) return "its Validator calls the data invalid";
    return data;
  }

  function judge(called) {
    if (called === undefined) {
      return [WRONG, "it has none of decodeUplink(input), Decode(fPort, bytes) and Decoder(bytes, port)", ""];
    }
    const { answer, isWrapped, normalize } = called;
    // Some give the reason instead of an object.
    if (typeof answer === "string" && answer !== "") return [REFUSED, short(answer), ""];
    if (!isObject(answer)) return [WRONG, "it gave " + named(answer) + " and no object", ""];
    if (answer instanceof HostPromise) return [WRONG, "it gave a promise; a codec answers at once", ""];
    const judged = judgeData(answer, isWrapped);
    if (judged[0] !== DATA || !limits.isNormalized) return judged;
    if (!normalize) return [WRONG, "it has no normalizeUplink(input), and the profile asks for normalized data", ""];
    const normalized = normalize({ data: parse(judged[1]) });
    if (!isObject(normalized)) return [WRONG, "its normalizeUplink gave " + named(normalized) + " and no object", ""];
    const outcome = judgeData(normalized, true);
    outcome[2] = short(judged[2] + (judged[2] !== "" && outcome[2] !== "" ? "; " : "") + outcome[2]);
    return outcome;
  }

  function judgeData(answer, isWrapped) {
    const warnings = isWrapped ? sentences(answer.warnings) : "";
    let errors = isWrapped ? sentences(answer.errors) : "";
    // Some say it in the singular.
    const { error } = answer;
    if (isWrapped && !("data" in answer) && (typeof error === "string" || isArray(error))) errors = sentences(error);
    if (errors !== "") return [REFUSED, errors, warnings];
    let data = answer;
    if (isWrapped && ("data" in answer || "errors" in answer || "warnings" in answer)) data = answer.data;
    if (!isObject(data)) return [WRONG, "its data is " + named(data) + " and no object", warnings];
    const text = written(limits.nameKey === undefined ? data : byName(data));
    if (text === undefined) return [WRONG, "its data writes itself as nothing", warnings];
    if (text.length > limits.outputChars) {
      const what = "its data is " + text.length + " characters of JSON; " + limits.outputChars + " are allowed";
      return [WRONG, what, warnings];
    }
    return [DATA, text, warnings];
  }

  // A list of named values as an object; of several values of a name the last one counts.
  function byName(data) {
    const list = isArray(data) ? data : [data];
    const values = create(null);
    for (let position = 0; position < list.length; position++) {
      const element = list[position];
      const name = isObject(element) ? element[limits.nameKey] : undefined;
      if (typeof name === "string" || typeof name === "number") values[name] = element[limits.valueKey];
    }
    return values;
  }

  // A list of texts, or one text, as one line.
  function sentences(list) {
    if (list === undefined || list === null) return "";
    if (!isArray(list)) return short(shown(list));
    let text = "";
    for (let position = 0; position < list.length && text.length < limits.messageChars; position++) {
      text += (position > 0 ? "; " : "") + shown(list[position]);
    }
    return text === "" && list.length > 0 ? "no reason given" : short(text);
  }

  function shown(value) {
    if (typeof value !== "object" || value === null) return HostString(value);
    return value instanceof HostError ? HostString(value) : stringify(value) || "";
  }

  const short = (text) => toWellFormed(slice(text, 0, limits.messageChars));

  const named = (value) => (value === null ? "null" : typeof value === "undefined" ? "undefined" : "a " + typeof value);

  // JSON has no big integers, and half a surrogate pair is no text.
  function plain(name, value) {
    if (typeof value === "bigint") {
      const number = HostNumber(value);
      return isSafeInteger(number) ? number : HostString(value);
    }
    return typeof value === "string" && !isWellFormed(value) ? toWellFormed(value) : value;
  }

  function written(data) {
    let text;
    try {
      text = stringify(data);
    } catch (error) {
      return stringify(data, plain);
    }
    return text !== undefined && includes(text, "\\ud") ? stringify(data, plain) : text;
  }

  const LINE = new RegExp(limits.file + ":(\\d+)");

  function failure(error) {
    try {
      // Where there is no room even for the error, null is thrown, or nothing.
      const isNothing = error === null || HostString(error) === "[uninitialized]";
      const isFull = isNothing || (error instanceof HostError && error.message === "out of memory");
      if (isFull) return [NO_ROOM, "", ""];
      const place = error instanceof HostError ? match(HostString(error.stack), LINE) : null;
      const line = place ? " (line " + place[1] + ")" : "";
      return [THREW, short(shown(error)) + line, ""];
    } catch (other) {
      return [THREW, "something that cannot be shown", ""];
    }
  }

  setUp();
  return { run, clean };
})
