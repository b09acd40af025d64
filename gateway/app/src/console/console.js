// Turns what the API says into the page. Every 2 s one set of requests, made only of what the open view shows;
// none while the tab is hidden. Text from data reaches the page as text nodes only.

import * as words from "/console/words.js";
import { StreetMap, sign, svg } from "/console/map.js";
import { LiveFrames } from "/console/frames.js";

const POLL_MILLIS = 2000;
/** Until every device is known once. */
const LOADING_MILLIS = 250;
const ANSWER_MILLIS_MAX = 8000;
/** The most that one page of the API holds. A storm must not push a critical alarm off the list. */
const ALARMS_MAX = 1000;
const ALARM_ROWS_MAX = 200;
/** Devices of an incident that are named; the case and the list of alarms have the rest. */
const INCIDENT_DEVICES_MAX = 50;
const CASES_MAX = 200;
const NOTICES_MAX = 20;
const FRAMES_MAX = 50;
const PAGE_ROWS = 25;
/** Devices that the page keeps for search and map. */
const DEVICES_MAX = 20_000;
const DEVICES_STEP_FIRST = 1000;
/** Once all are known, they are renewed a few at a time. */
const DEVICES_STEP = 200;
const VIEWS = ["overview", "cases", "devices", "live", "notices", "frames"];
const SEVERITIES = ["critical", "major", "minor", "notice"];
const MOVES = ["dispatched", "in_progress", "done", "closed", "void"];
const FINAL = ["closed", "rejected", "void", "duplicate"];

const $ = (id) => document.getElementById(id);
const remembered = (key) => {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
};
const remember = (key, value) => {
  try {
    localStorage.setItem(key, value);
  } catch {
    /* A browser without storage asks again. */
  }
};

let language = remembered("kerbside-language") ?? (navigator.language.startsWith("zh") ? "zh" : "en");
const data = { alarms: { items: [], next: null }, devices: new Map(), cursor: null, complete: false };
const link = { answeredAt: null, error: null, waiting: true };
let query = { view: "overview" };
let page = 0;

// ---- words ----

function term(table, name) {
  const entry = words[table][name];
  return entry ? entry[language === "zh" ? 1 : 0] : String(name ?? "").replaceAll("_", " ");
}

function word(name, values = {}) {
  return term("WORDS", name).replace(/\{(\w+)\}/g, (_, key) => values[key] ?? "");
}

const inLanguage = (record, field) =>
  (language === "zh" ? record[`${field}_zh`] : record[field]) || record[field] || record[`${field}_zh`] || "";

// ---- time ----

/** The gateway's time now; it runs faster in a demonstration. */
function gatewayNow() {
  if (!data.status) return null;
  return Date.parse(data.status.now) + (performance.now() - data.statusAt) * data.status.speed;
}

function exact(at) {
  const zone = data.status?.zone ?? "Asia/Shanghai";
  return new Intl.DateTimeFormat("sv-SE", { timeZone: zone, dateStyle: "short", timeStyle: "medium" }).format(at);
}

function span(seconds) {
  const units = [
    ["day", 86_400],
    ["hour", 3600],
    ["minute", 60],
    ["second", 1],
  ];
  const [unit, size] = units.find(([, size]) => Math.abs(seconds) >= size) ?? units[3];
  return { amount: Math.floor(seconds / size), unit };
}

function ago(at) {
  const { amount, unit } = span(Math.max(0, (gatewayNow() - at) / 1000));
  return new Intl.RelativeTimeFormat(language === "zh" ? "zh-CN" : "en", { style: "short" }).format(-amount, unit);
}

function lasting(seconds) {
  const { amount, unit } = span(seconds);
  return new Intl.NumberFormat(language === "zh" ? "zh-CN" : "en", { style: "unit", unit, unitDisplay: "long" }).format(
    amount,
  );
}

function when(text) {
  if (!text) return make("span", { class: "soft" }, word("never"));
  const at = Date.parse(text);
  const time = make("time", { datetime: text, class: "ago" }, ago(at));
  return make("span", {}, time, make("span", { class: "exact" }, exact(at)));
}

function tellTime() {
  const now = gatewayNow();
  if (now === null) return;
  // Without an answer nobody knows the gateway's time.
  if (!link.error) put($("clock"), exact(now));
  for (const time of document.querySelectorAll("time.ago")) put(time, ago(Date.parse(time.dateTime)));
}

// ---- elements ----

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "onclick") element.addEventListener("click", value);
    else if (value !== null) element.setAttribute(name, value);
  }
  element.append(...present(children));
  return element;
}

const present = (children) => children.filter((child) => ![undefined, null, false, ""].includes(child));

function put(element, text) {
  if (element.textContent !== String(text)) element.textContent = text;
}

const mark = (kind, text) => make("span", { class: `mark ${kind}` }, text);
const soft = (text) => (text ? make("span", { class: "soft" }, text) : null);
/** What a device says is text, also when it says "true". */
const valueText = (value) =>
  typeof value === "boolean" ? word(value ? "yes" : "no") : value === null ? "—" : String(value);
const severityMark = (severity) => mark(severity, term("SEVERITIES", severity));
const button = (text, onclick) => make("button", { type: "button", onclick }, text);
/** The gateway refuses what an account that may only look does; so nothing is offered to it. */
const mayAct = () => data.status?.role !== "viewer";

/** A row of a table: pairs of heading and content. The heading shows on narrow screens. */
function row(...cells) {
  const made = make("tr", { role: "row" });
  for (const [head, ...children] of cells) {
    const kept = present(children);
    const cell = make("td", { role: "cell", "data-head": word(head) });
    if (kept.length) cell.append(make("div", {}, ...kept));
    made.append(cell);
  }
  return made;
}

/** Brings the rows of a table in line with the items, touching only what changed, so that nothing jumps. */
function fill(id, items, key, build, empty) {
  const body = $(id);
  const old = body.rowsByKey ?? new Map();
  const rows = new Map();
  for (const item of items) {
    const print = `${language}${mayAct()}${JSON.stringify(item)}`;
    const known = old.get(key(item));
    if (known?.print === print) {
      rows.set(key(item), known);
      continue;
    }
    const made = build(item);
    made.print = print;
    if (known) replaceFocused(known, made);
    rows.set(key(item), made);
  }
  const kept = new Set(rows.values());
  for (const element of [...body.children]) if (!kept.has(element)) element.remove();
  let place = body.firstElementChild;
  for (const element of rows.values()) {
    if (element === place) place = place.nextElementSibling;
    else body.insertBefore(element, place);
  }
  body.rowsByKey = rows;
  const note = $(`${id}-empty`);
  if (!note) return;
  note.hidden = items.length > 0;
  put(note, empty);
}

function replaceFocused(known, made) {
  const stops = (element) => [...element.querySelectorAll("a, button")];
  const at = stops(known).indexOf(document.activeElement);
  known.replaceWith(made);
  if (at >= 0) stops(made)[at]?.focus();
}

// ---- where we are ----

function address(changes) {
  const wanted = new URLSearchParams();
  for (const [key, value] of Object.entries({ ...query, ...changes }))
    if (value && key !== "view") wanted.set(key, value);
  const rest = wanted.toString();
  return `#${changes.view ?? query.view}${rest ? `?${rest}` : ""}`;
}

const deviceAddress = (id) => address({ device: id, case: null });
const caseAddress = (id) => address({ case: id, device: null });

function readAddress() {
  const [view, rest] = location.hash.slice(1).split("?");
  query = { ...Object.fromEntries(new URLSearchParams(rest)), view: VIEWS.includes(view) ? view : "overview" };
  $("by-status").value = query.status ?? "";
  if (query.view !== "live" || document.hidden) live.close();
  page = 0;
  data.detail = null;
  render();
  poke();
}

// ---- asking the gateway ----

async function ask(path, signal, body) {
  const request = body
    ? { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) }
    : {};
  const response = await fetch(`/api/v1/${path}`, { ...request, signal });
  const answer = await response.json().catch(() => ({}));
  if (response.ok) return answer;
  throw Object.assign(new Error(answer.error?.message ?? `HTTP ${response.status}`), { status: response.status });
}

/** What the open view shows. */
function wanted() {
  const list =
    {
      overview: { incidents: "incidents" },
      cases: { open: `cases?open=true&limit=${CASES_MAX}`, recent: "cases?limit=50" },
      notices: { notices: "notices?limit=100" },
      devices: { profiles: "profiles" },
      frames: { unknown: `unknown-devices?limit=${FRAMES_MAX}`, undecoded: `undecoded?limit=${FRAMES_MAX}` },
    }[query.view] ?? {};
  const set = { status: "status", alarms: `alarms?state=active,stale&limit=${ALARMS_MAX}`, ...list };
  if (query.device) set.detail = `devices/${encodeURIComponent(query.device)}`;
  if (query.case) set.detail = `cases/${encodeURIComponent(query.case)}`;
  return set;
}

/** One page of devices a round: thousands at first, then a few, so that they are never all asked for at once. */
async function renewDevices(signal) {
  if (data.complete && !["overview", "devices"].includes(query.view)) return;
  const step = data.complete ? DEVICES_STEP : DEVICES_STEP_FIRST;
  const answer = await ask(`devices?limit=${step}${data.cursor ? `&cursor=${data.cursor}` : ""}`, signal);
  for (const device of answer.items) {
    if (data.devices.size < DEVICES_MAX || data.devices.has(device.id)) data.devices.set(device.id, device);
  }
  const isFull = data.devices.size >= DEVICES_MAX;
  data.cursor = isFull ? null : answer.next;
  data.complete ||= isFull || !answer.next;
}

async function round(signal) {
  const entries = Object.entries(wanted());
  const missing = (error) => {
    if (error.status === 404) return { missing: true };
    throw error;
  };
  const asked = entries.map(([name, path]) =>
    name === "detail" ? ask(path, signal).catch(missing) : ask(path, signal),
  );
  const [answers] = await Promise.all([Promise.all(asked), renewDevices(signal)]);
  signal.throwIfAborted();
  entries.forEach(([name], at) => {
    data[name] = answers[at];
  });
  data.statusAt = performance.now();
}

let running = null;
let timer = null;

async function poll() {
  clearTimeout(timer);
  if (document.hidden || running) return;
  const controller = new AbortController();
  running = controller;
  const limit = setTimeout(() => controller.abort("late"), ANSWER_MILLIS_MAX);
  try {
    await round(controller.signal);
    Object.assign(link, { answeredAt: Date.now(), error: null, waiting: false });
  } catch (error) {
    // A round that we broke off ourselves says nothing about the gateway.
    if (controller.signal.reason !== "newer") Object.assign(link, { error, waiting: false });
    controller.abort();
  }
  clearTimeout(limit);
  if (running !== controller) return;
  running = null;
  render();
  timer = setTimeout(poll, data.complete || link.error ? POLL_MILLIS : LOADING_MILLIS);
}

/** Asks at once: the view changed, or a person did something. */
function poke() {
  running?.abort("newer");
  running = null;
  poll();
}

// ---- drawing ----

function render() {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  renderLink();
  for (const section of document.querySelectorAll("[data-view]")) section.hidden = section.dataset.view !== query.view;
  renderTabs();
  if (!data.status) return;
  renderHeader();
  renderTiles();
  ({
    overview: renderOverview,
    cases: renderCases,
    devices: renderDevices,
    live: renderLive,
    notices: renderNotices,
    frames: renderFrames,
  })[query.view]();
  renderDetail();
  tellTime();
}

function renderStatic() {
  for (const element of document.querySelectorAll("[data-word]")) put(element, word(element.dataset.word));
  for (const table of document.querySelectorAll("table")) table.setAttribute("role", "table");
  for (const group of document.querySelectorAll("thead, tbody")) group.setAttribute("role", "rowgroup");
  for (const head of document.querySelectorAll("th")) {
    head.setAttribute("scope", "col");
    head.setAttribute("role", "columnheader");
  }
  $("detail-close").setAttribute("aria-label", word("close"));
  const options = (table, all) => [
    make("option", { value: "" }, word(all)),
    ...Object.keys(words[table]).map((name) => make("option", { value: name }, term(table, name))),
  ];
  $("by-status").replaceChildren(...options("STATUSES", "all_statuses"));
  $("by-kind").replaceChildren(...options("KINDS", "all_kinds"));
  $("outcomes").replaceChildren(
    ...Object.keys(words.OUTCOMES).map((name) => make("option", { value: term("OUTCOMES", name) })),
  );
  for (const [name, tool] of Object.entries(tools)) tool.setAttribute("aria-label", word(name));
  const item = (icon, text) =>
    make("span", {}, svg("svg", { viewBox: "-9 -9 18 18", "aria-hidden": true }, icon), ` ${text}`);
  legend.replaceChildren(
    ...Object.keys(words.STATUSES).map((status) => item(sign(status), term("STATUSES", status))),
    ...SEVERITIES.map((severity) =>
      item(svg("circle", { r: 7, class: `ring ${severity}` }), term("SEVERITIES", severity)),
    ),
  );
}

function renderLink() {
  const badge = $("link");
  const state = link.waiting
    ? ["connecting", "warn"]
    : link.error
      ? [link.error.status ? "failing" : "disconnected", "bad"]
      : ["connected", "ok"];
  badge.className = `badge ${state[1]}`;
  put(badge, word(state[0]));
  const trouble = $("trouble");
  trouble.hidden = !link.error;
  document.body.classList.toggle("old", Boolean(link.error));
  if (!link.error) return;
  const since = link.answeredAt ? exact(link.answeredAt) : word("open_now");
  put(trouble, word(link.error.status ? "error_answer" : "no_answer", { since, error: link.error.message }));
}

function renderHeader() {
  const { status } = data;
  put($("site"), `Kerbside · ${status.site}`);
  document.title = `(${status.alarms_standing}) ${status.site} · Kerbside`;
  const speed = $("speed");
  speed.hidden = status.speed === 1;
  put(speed, word("simulated", { speed: status.speed }));
  const zone = new Intl.DateTimeFormat("en", { timeZone: status.zone ?? "Asia/Shanghai", timeZoneName: "shortOffset" });
  put(
    $("zone"),
    zone
      .formatToParts(gatewayNow())
      .find((part) => part.type === "timeZoneName")
      .value.replace("GMT", "UTC"),
  );
  const troubled = status.components.filter((component) => component.state !== "ok");
  const health = $("health");
  const down = troubled.some((component) => component.state === "down");
  health.className = `badge ${troubled.length === 0 ? "ok" : down ? "bad" : "warn"}`;
  put(health, word(troubled.length ? "system_not_ok" : "system_ok", { count: troubled.length }));
}

function renderTabs() {
  $("tabs").replaceChildren(
    ...VIEWS.map((view) => {
      const current = view === query.view ? "page" : null;
      return make("a", { href: `#${view}`, "aria-current": current }, word(view));
    }),
  );
}

function renderTiles() {
  const { status } = data;
  $("walk").hidden = !status.walk_test;
  const by = (name) => status.devices.by_status[name] ?? 0;
  const devices = Object.keys(words.STATUSES).map((name) => [
    `devices?status=${name}`,
    by(name),
    term("STATUSES", name),
    word("tile_devices"),
    name,
  ]);
  const tiles = [
    ...devices,
    ["overview", `${status.alarms_standing}${status.alarms_more ? "+" : ""}`, word("tile_alarms"), "", "alarm"],
    ["cases", status.cases_open, word("tile_cases"), "", "major"],
    ["frames", status.unknown_devices, word("tile_unknown"), "", "warn"],
    ["frames", status.undecoded, word("tile_undecoded"), "", "warn"],
    ["notices", status.outbox_open, word("tile_outbox"), "", "warn"],
  ];
  const grid = $("tiles");
  if (grid.children.length !== tiles.length)
    grid.replaceChildren(...tiles.map(() => make("a", {}, make("b"), make("span"))));
  tiles.forEach(([href, count, label, what, kind], at) => {
    const [number, text] = grid.children[at].children;
    grid.children[at].setAttribute("href", `#${href}`);
    number.className = parseInt(count, 10) > 0 ? kind : "";
    put(number, typeof count === "number" ? count.toLocaleString("en") : count);
    put(text, what ? `${what} · ${label}` : label);
  });
}

const worst = (alarm) => SEVERITIES.indexOf(alarm.severity);

function renderOverview() {
  const alarms = [...data.alarms.items].sort((a, b) => worst(a) - worst(b) || b.opened_at.localeCompare(a.opened_at));
  const shown = alarms.slice(0, ALARM_ROWS_MAX).map((alarm) => {
    const { name, place } = data.devices.get(alarm.device) ?? {};
    return { ...alarm, name, place };
  });
  fill("alarms", shown, (alarm) => alarm.id, alarmRow, word("no_alarms"));
  const more = data.alarms.next ? word("more_alarms", { count: ALARMS_MAX }) : "";
  const cut = shown.length < alarms.length ? word("shown_of", { shown: shown.length, count: alarms.length }) : "";
  put($("alarms-note"), [more, cut].filter(Boolean).join(" · "));
  $("incidents-title").hidden = !data.incidents?.items.length;
  renderIncidents();
  renderComponents();
  renderMap();
}

/** Many alarms, one cause: an officer should see the feeder, not forty lamps. */
function renderIncidents() {
  fill(
    "incidents",
    data.incidents?.items ?? [],
    (item) => item.id,
    (item) => {
      const values = {
        count: item.devices.length,
        standing: item.standing.length,
        parent: item.parent,
        condition: term("CONDITIONS", item.condition),
      };
      const link = item.case_id ? make("a", { class: "id", href: caseAddress(item.case_id) }, item.case_id) : "";
      const text = item.ended_at ? inLanguage(item, "explanation") : word("incident", values);
      const shown = item.standing.slice(0, INCIDENT_DEVICES_MAX);
      const devices = shown.map((id) => make("li", {}, deviceLink(id, data.devices.get(id)?.name)));
      const more = item.standing.length - shown.length;
      const where = make(
        "details",
        {},
        make("summary", {}, word("incident_where")),
        item.ended_at ? null : soft(inLanguage(item, "explanation")),
        make("ul", {}, ...devices, more > 0 && make("li", {}, `+ ${more}`)),
      );
      const time = when(item.ended_at ?? item.opened_at);
      return make("li", {}, severityMark(item.severity), ` ${text} `, time, " ", link, shown.length ? where : null);
    },
  );
}

function alarmRow(alarm) {
  const acknowledged = alarm.acknowledged
    ? soft(word("acknowledged", { by: alarm.acknowledged.by }))
    : mayAct() && button(word("acknowledge"), () => acknowledge(alarm));
  const caseLink = alarm.case_id ? make("a", { class: "id", href: caseAddress(alarm.case_id) }, alarm.case_id) : null;
  return row(
    ["severity", severityMark(alarm.severity)],
    ["what", make("b", {}, term("CONDITIONS", alarm.condition)), soft(inLanguage(alarm, "explanation")), grounds(alarm)],
    ["device", deviceLink(alarm.device, alarm.name), soft(alarm.place)],
    ["since", when(alarm.opened_at)],
    [
      "standing",
      make("span", { class: alarm.state }, term("ALARM_STATES", alarm.state)),
      alarm.suppressed ? soft(term("SUPPRESSIONS", alarm.suppressed)) : null,
      caseLink && make("div", {}, caseLink),
      acknowledged,
    ],
  );
}

/** Rule, limits, how long, and what was ruled out, for who asks. */
const grounds = (alarm) =>
  make(
    "details",
    {},
    make("summary", {}, word("why")),
    make("ul", {}, ...(inLanguage(alarm, "grounds") ?? []).map((ground) => make("li", {}, ground))),
  );

const deviceLink = (id, name) => make("a", { href: deviceAddress(id) }, name ? `${name} (${id})` : id);

/** What the gateway cannot do without stands first, then what is in trouble. */
function renderComponents() {
  const trouble = ["down", "degraded", "starting", "ok"];
  const rank = (component) => (component.essential ? 0 : 10) + trouble.indexOf(component.state);
  const sorted = [...data.status.components].sort(
    (a, b) => rank(a) - rank(b) || a.component.localeCompare(b.component),
  );
  fill(
    "components",
    sorted,
    (item) => item.component,
    (item) =>
      row(
        ["component", item.component, item.essential ? soft(word("essential")) : null],
        ["state", mark(item.state, term("HEALTH", item.state))],
        ["detail", item.detail],
      ),
  );
}

// ---- map ----

const map = new StreetMap(
  (id) => {
    location.hash = deviceAddress(id);
  },
  (device) => {
    const what = (device.conditions ?? []).map((name) => term("CONDITIONS", name)).join(", ");
    const severity = device.severity && term("SEVERITIES", device.severity);
    return [device.name || device.id, device.place, term("STATUSES", device.status), severity, what]
      .filter(Boolean)
      .join(" · ");
  },
);
const tools = {
  zoom_in: button("+", () => map.zoom(0.6)),
  zoom_out: button("−", () => map.zoom(1.7)),
  zoom_all: button("⤢", () => map.all()),
};
const legend = make("div", { class: "legend" });

/** What the alarms say is newer than what the devices said when their turn came. */
function devicesNow() {
  const standing = new Map();
  for (const alarm of data.alarms.items) standing.set(alarm.device, [...(standing.get(alarm.device) ?? []), alarm]);
  return [...data.devices.values()].map((device) => {
    const alarms = standing.get(device.id);
    if (!alarms) {
      if (data.alarms.next || ["ok", "unknown"].includes(device.status)) return device;
      return { ...device, status: device.heard_at ? "ok" : "unknown", conditions: [] };
    }
    const severity = SEVERITIES[Math.min(...alarms.map(worst))];
    const conditions = alarms.map((alarm) => alarm.condition);
    return { ...device, severity, conditions, status: conditions.includes("silent") ? "silent" : "alarm" };
  });
}

function renderMap() {
  const placed = devicesNow().filter((device) => device.position);
  const drawn = map.draw(placed);
  const cut = drawn < placed.length ? word("drawn_of", { drawn, count: placed.length }) : "";
  put($("map-note"), placed.length ? cut : data.complete ? word("no_positions") : word("loading"));
}

// ---- lists ----

function renderCases() {
  const open = data.open?.items ?? [];
  const known = new Set(open.map((item) => item.id));
  const over = (data.recent?.items ?? []).filter((item) => !known.has(item.id));
  const empty = data.open ? word("no_cases") : word("loading");
  fill("cases", [...open, ...over], (item) => item.id, caseRow, empty);
}

function caseRow(item) {
  return row(
    ["severity", severityMark(item.severity)],
    ["case", make("a", { href: caseAddress(item.id) }, inLanguage(item, "title")), soft(item.id)],
    ["place", item.place, soft([item.device_name, item.device].filter(Boolean).join(" · "))],
    ["unit", item.unit],
    ["state", term("CASE_STATES", item.state), soft(word(item.standing ? "is_standing" : "is_over"))],
    ["platform_number", make("span", { class: "id" }, item.platform_id ?? ""), soft(item.platform)],
    ["signed_by", item.signed?.by],
    ["opened", when(item.opened_at)],
  );
}

function renderDevices() {
  const sought = $("search").value.trim().toLowerCase();
  const [status, kind] = [$("by-status").value, $("by-kind").value];
  const found = devicesNow().filter(
    (device) =>
      (!status || device.status === status) &&
      (!kind || device.kind === kind) &&
      (!sought || `${device.id} ${device.name} ${device.place} ${device.unit}`.toLowerCase().includes(sought)),
  );
  page = Math.min(page, Math.max(0, Math.ceil(found.length / PAGE_ROWS) - 1));
  const first = page * PAGE_ROWS;
  const shown = found.slice(first, first + PAGE_ROWS);
  fill(
    "devices",
    shown,
    (device) => device.id,
    (device) =>
      row(
        [
          "status",
          mark(device.status, term("STATUSES", device.status)),
          soft((device.conditions ?? []).map((name) => term("CONDITIONS", name)).join(", ")),
        ],
        ["device", deviceLink(device.id, device.name)],
        ["kind", term("KINDS", device.kind)],
        ["place", device.place, soft(device.unit)],
        ["heard", when(device.heard_at)],
      ),
    data.complete ? word("no_devices") : word("loading"),
  );
  const count = word("page_of", {
    first: found.length ? first + 1 : 0,
    last: first + shown.length,
    count: found.length,
  });
  put($("pages"), data.complete ? count : `${count} · ${word("loading")}`);
  renderProfiles();
  $("previous").disabled = page === 0;
  $("next").disabled = first + PAGE_ROWS >= found.length;
}

// ---- frames as they arrive ----

const live = new LiveFrames(
  { make, put, word, term, mark, exact, deviceLink, valueText },
  {
    form: $("live-filters"),
    text: $("live-text"),
    source: $("live-source"),
    undecoded: $("live-undecoded"),
    pause: $("live-pause"),
    note: $("live-note"),
    list: $("live"),
    empty: $("live-empty"),
  },
);

function renderLive() {
  const prefix = "source/";
  const sources = data.status.components.map((item) => item.component).filter((name) => name.startsWith(prefix));
  const options = ["", ...sources.map((name) => name.slice(prefix.length))];
  const select = $("live-source");
  const print = language + JSON.stringify(options);
  if (select.print !== print) {
    const chosen = select.value;
    const label = (name) => name || word("all_sources");
    select.replaceChildren(...options.map((value) => make("option", { value }, label(value))));
    select.value = options.includes(chosen) ? chosen : "";
    select.print = print;
  }
  const only = $("live-only");
  only.hidden = !query.only;
  put(only, query.only ? word("only_device", { id: query.only }) : "");
  if (!document.hidden) live.open({ device: query.only });
}

function renderProfiles() {
  fill(
    "profiles",
    data.profiles?.items ?? [],
    (item) => item.title,
    (item) =>
      row(
        ["profile", make("b", {}, `${item.title} v${item.version}`), soft(`${item.vendor} ${item.model}`)],
        ["kind", term("KINDS", item.kind)],
        ["hash", make("span", { class: "id raw" }, item.hash)],
        ["extends", item.extends.map((parent) => `${parent.profile} v${parent.version}`).join(" → ")],
        ["points_count", String(item.points)],
        ["devices", String(item.devices)],
      ),
    data.profiles ? word("no_profiles") : word("loading"),
  );
}

function renderNotices() {
  const items = (data.notices?.items ?? []).slice(0, NOTICES_MAX);
  fill(
    "notices",
    items,
    (item) => item.id,
    (item) =>
      row(
        ["severity", severityMark(item.severity)],
        [
          "message",
          inLanguage(item, "text"),
          make("div", {}, make("a", { href: caseAddress(item.case_id) }, item.case_id)),
        ],
        ["channel", item.channel],
        ["step", String(item.step)],
        ["delivery", make("span", { class: item.state }, term("DELIVERIES", item.state)), soft(item.note)],
        ["time", when(item.created_at)],
      ),
    data.notices ? word("no_notices") : word("loading"),
  );
}

function renderFrames() {
  const raw = (payload) =>
    make("span", { class: "raw" }, payload.text ?? payload.hex ?? JSON.stringify(payload.registers));
  fill(
    "unknown",
    data.unknown?.items ?? [],
    (item) => `${item.source} ${item.address}`,
    (item) =>
      row(
        ["address", item.address],
        ["source", item.source],
        ["count", String(item.frames)],
        ["last_seen", when(item.last_seen)],
        ["first_seen", when(item.first_seen)],
        ["payload", raw(item.payload)],
      ),
    data.unknown ? word("no_unknown") : word("loading"),
  );
  fill(
    "undecoded",
    data.undecoded?.items ?? [],
    (item) => String(item.number),
    (item) =>
      row(
        ["reason", term("REASONS", item.reason), soft(item.detail)],
        ["address", item.device ? deviceLink(item.device) : item.address],
        ["source", item.source],
        ["received", when(item.received_at)],
        ["payload", raw(item.payload)],
      ),
    data.undecoded ? word("no_undecoded") : word("loading"),
  );
}

// ---- details ----

function renderDetail() {
  const dialog = $("detail");
  const isWanted = Boolean(query.device || query.case);
  if (!isWanted) return dialog.close();
  if (!data.detail) return;
  if (data.detail.missing) showMissing();
  else if (query.case) showCase(data.detail);
  else showDevice(data.detail);
  if (!dialog.open) dialog.showModal();
}

function showFacts(title, facts) {
  put($("detail-title"), title);
  const kept = facts.filter(([, value]) => value);
  const print = language + JSON.stringify(kept.map(([name, value]) => [name, value.textContent ?? value]));
  const box = $("detail-facts");
  if (box.print === print) return;
  box.print = print;
  box.replaceChildren(
    make("dl", {}, ...kept.flatMap(([name, value]) => [make("dt", {}, word(name)), make("dd", {}, value)])),
  );
}

function showMissing() {
  showFacts(word("no_such", { id: query.case ?? query.device }), []);
  showActions("");
  showTable("history", []);
  fill("detail-rows", [], String, row, word("no_history"));
}

function showTable(heading, heads) {
  put($("detail-heading"), word(heading));
  $("detail-head").replaceChildren(
    ...heads.map((head) => make("th", { scope: "col", role: "columnheader" }, word(head))),
  );
}

function showActions(print, ...buttons) {
  const box = $("detail-actions");
  if (box.print === language + print) return;
  box.print = language + print;
  box.replaceChildren(...buttons);
}

const positionText = (position) => (position ? `${position[1].toFixed(6)}, ${position[0].toFixed(6)} (WGS84)` : "");

function showDevice(device) {
  const standing = device.conditions.map((name) => term("CONDITIONS", name)).join(", ");
  showFacts(`${device.name || term("KINDS", device.kind)} · ${device.id}`, [
    ["status", mark(device.status, [term("STATUSES", device.status), standing].filter(Boolean).join(": "))],
    ["kind", term("KINDS", device.kind)],
    ["place", device.place],
    ["unit", device.unit],
    ["grid", device.grid],
    ["position", positionText(device.position)],
    ["service", term("SERVICES", device.service)],
    ["tags", (device.tags ?? []).join(", ")],
    ["heard", device.heard_at ? exact(Date.parse(device.heard_at)) : word("never")],
    ["interval", device.interval_seconds ? lasting(device.interval_seconds) : ""],
    ["profile", profileText(device)],
    ["source", device.source],
    ["address", device.address],
    ["walk_device", device.in_walk_test ? word("yes") : ""],
    ["masked", device.masked_until ? `${exact(Date.parse(device.masked_until))} ${device.mask_reason ?? ""}` : ""],
  ]);
  const frames = make("a", { href: `#live?only=${encodeURIComponent(device.id)}` }, word("frames_of_device"));
  showActions(`frames ${device.id}`, frames);
  showTable("readings", ["point", "value", "quality", "observed"]);
  fill("detail-rows", device.readings ?? [], (reading) => reading.point, readingRow, word("no_readings"));
}

/** Name, version, content and where it comes from: what a report of a fault must say. */
function profileText(device) {
  const { profile, profile_version: version, profile_hash: hash, profile_extends: parents, overrides } = device;
  const chain = (parents ?? []).map((parent) => ` ← ${parent.profile} v${parent.version}`).join("");
  return `${[profile, ...(overrides ?? [])].join(" + ")} v${version} (${hash})${chain}`;
}

function readingRow(reading) {
  const { value, unit, quality, cause } = reading;
  const plain = valueText(value);
  const why = cause ? soft(term("CAUSES", cause)) : null;
  return row(
    ["point", term("POINTS", reading.point), soft(reading.point)],
    ["value", make("b", { class: quality }, unit && value !== null ? `${plain} ${unit.replace("deg", "°")}` : plain)],
    ["quality", mark(quality, term("QUALITIES", quality)), why],
    ["observed", when(reading.observed_at)],
  );
}

function showCase(item) {
  showFacts(`${inLanguage(item, "title")} · ${item.id}`, [
    ["severity", severityMark(item.severity)],
    ["state", `${term("CASE_STATES", item.state)} · ${word(item.standing ? "is_standing" : "is_over")}`],
    ["explanation", inLanguage(item, "explanation")],
    ["place", item.place],
    ["device", deviceLink(item.device, item.device_name)],
    ["unit", item.unit],
    ["grid", item.grid],
    ["component_code", item.component_code],
    ["position", positionText(item.position)],
    ["platform", item.platform],
    ["platform_number", item.platform_id],
    ["opened", exact(Date.parse(item.opened_at))],
    ["signed_by", item.signed ? `${item.signed.by}, ${exact(Date.parse(item.signed.at))}` : ""],
  ]);
  showActions(JSON.stringify([item.id, item.state, item.signed, mayAct()]), ...caseActions(item));
  showTable("history", ["time", "state", "who", "note"]);
  fill(
    "detail-rows",
    item.history.map((event, number) => ({ ...event, number })),
    (event) => `history ${event.number}`,
    (event) =>
      row(
        ["time", when(event.at)],
        ["state", term("CASE_STATES", event.state)],
        ["who", event.by],
        ["note", event.note],
      ),
    word("no_history"),
  );
}

function caseActions(item) {
  if (FINAL.includes(item.state)) return [soft(word("case_over"))];
  if (!mayAct()) return [soft(word("may_look"))];
  const about = `${inLanguage(item, "title")} · ${item.place || item.device}`;
  const path = `cases/${encodeURIComponent(item.id)}`;
  const actions = [];
  if (!item.signed) {
    const sign = button(word("sign"), () => request(word("sign"), about, `${path}/sign`));
    sign.className = "main";
    actions.push(sign);
  }
  if (item.platform !== "ledger") return [...actions, soft(word("led_elsewhere", { platform: item.platform }))];
  const moves = MOVES.filter((state) => state !== item.state).map((state) => {
    const title = word(`move_${state}`);
    return button(title, () => request(title, about, `${path}/move`, { to: state, mustSayWhy: state === "void" }));
  });
  return [...actions, ...moves];
}

// ---- what people do ----

function acknowledge(alarm) {
  const about = `${term("CONDITIONS", alarm.condition)} · ${alarm.name || alarm.device}`;
  request(word("acknowledge"), about, `alarms/${encodeURIComponent(alarm.id)}/acknowledge`);
}

/** Asks for a name, and for a note where a case is moved, then tells the gateway. */
function request(title, about, path, move) {
  put($("ask-title"), title);
  put($("ask-about"), about);
  put($("ask-error"), "");
  $("ask-name").value = remembered("kerbside-name") ?? "";
  $("ask-note").value = "";
  $("ask-note-label").hidden = !move;
  const form = $("ask").querySelector("form");
  form.onsubmit = async (event) => {
    event.preventDefault();
    const [by, note] = [$("ask-name").value.trim(), $("ask-note").value.trim()];
    if (move?.mustSayWhy && !note) return put($("ask-error"), word("note_missing"));
    const submit = form.querySelector("[type=submit]");
    submit.disabled = true;
    try {
      await ask(path, AbortSignal.timeout(ANSWER_MILLIS_MAX), {
        ...(by && { by }),
        ...(move && { to: move.to, note }),
      });
      remember("kerbside-name", by);
      $("ask").close();
      poke();
    } catch (error) {
      put(
        $("ask-error"),
        error.status === 400 && !by ? word("name_missing") : word("refused", { error: error.message }),
      );
    } finally {
      submit.disabled = false;
    }
  };
  $("ask").showModal();
}

// ---- start ----

function start() {
  $("map").append(
    map.root,
    make("div", { class: "tools" }, ...Object.values(tools)),
    make("div", { class: "legend" }, make("span", {}, map.bar, map.scale)),
    legend,
  );
  renderStatic();
  $("language").addEventListener("click", () => {
    language = language === "zh" ? "en" : "zh";
    remember("kerbside-language", language);
    renderStatic();
    $("by-status").value = query.status ?? "";
    render();
    live.render();
  });
  $("filters").addEventListener("submit", (event) => event.preventDefault());
  for (const id of ["search", "by-status", "by-kind"]) {
    $(id).addEventListener("input", () => {
      page = 0;
      renderDevices();
    });
  }
  $("previous").addEventListener("click", () => {
    page -= 1;
    renderDevices();
  });
  $("next").addEventListener("click", () => {
    page += 1;
    renderDevices();
  });
  $("detail-close").addEventListener("click", () => $("detail").close());
  $("detail").addEventListener("close", () => {
    if (query.device || query.case) location.hash = address({ device: null, case: null });
  });
  $("ask-cancel").addEventListener("click", () => $("ask").close());
  window.addEventListener("hashchange", readAddress);
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) return poke();
    live.close();
    running?.abort("newer");
  });
  setInterval(tellTime, 1000);
  readAddress();
}

start();
