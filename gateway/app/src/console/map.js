// Devices with a position, as an SVG without tiles: projected around their middle, drawn by status.
// Colour and shape both tell the status, so that neither is needed alone.

const MARKS_MAX = 2000;
const METRES_PER_DEGREE = 111_320;
/** Farther from the middle than this many times what 95 % of the devices are: a slip in the survey, not drawn. */
const STRAY = 4;
const NAMES = "http://www.w3.org/2000/svg";

export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(NAMES, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const SHAPES = {
  ok: () => svg("circle", { r: 4 }),
  alarm: () => svg("path", { d: "M0-7 7 6H-7Z" }),
  silent: () => svg("rect", { x: -5, y: -5, width: 10, height: 10 }),
  unknown: () => svg("circle", { r: 4 }),
};

/** The sign of a status, at the origin. */
export function sign(status) {
  const shape = (SHAPES[status] ?? SHAPES.unknown)();
  shape.setAttribute("class", `dot ${status}`);
  return shape;
}

function median(numbers) {
  return [...numbers].sort((a, b) => a - b)[numbers.length >> 1];
}

/** Metres east and south of the middle. One district is small enough for a flat projection. */
function project(devices) {
  const lon = median(devices.map((device) => device.position[0]));
  const lat = median(devices.map((device) => device.position[1]));
  const east = METRES_PER_DEGREE * Math.cos((lat * Math.PI) / 180);
  const places = devices.map((device) => {
    const [x, y] = [(device.position[0] - lon) * east, (lat - device.position[1]) * METRES_PER_DEGREE];
    return { device, x, y, far: Math.hypot(x, y) };
  });
  const usual = places.map((place) => place.far).sort((a, b) => a - b)[Math.floor((places.length - 1) * 0.95)];
  return places.filter((place) => place.far <= Math.max(usual * STRAY, 100));
}

/** What is wrong first; of the rest as many as fit, spread over the inventory. */
function choose(places) {
  const loud = places.filter(({ device }) => device.severity).slice(0, MARKS_MAX);
  const quiet = places.filter(({ device }) => !device.severity);
  const step = Math.max(1, quiet.length / Math.max(1, MARKS_MAX - loud.length));
  const kept = [];
  for (let at = 0; at < quiet.length && kept.length + loud.length < MARKS_MAX; at += step)
    kept.push(quiet[Math.floor(at)]);
  return [...kept, ...loud];
}

export class StreetMap {
  /** `open(id)` shows a device; `name(device)` is what a marker is called. */
  constructor(open, name) {
    this.open = open;
    this.name = name;
    this.marks = new Map();
    this.layer = svg("g");
    this.root = svg("svg", { role: "group" }, this.layer);
    this.bar = document.createElement("span");
    this.bar.className = "scale";
    this.scale = document.createElement("small");
    this.home = null;
    this.box = null;
    this.width = 400;
    this.height = 300;
    this.listen();
  }

  /** Draws the devices; returns how many. */
  draw(devices) {
    const places = devices.length ? choose(project(devices)) : [];
    const wanted = new Set();
    for (const place of places) {
      wanted.add(place.device.id);
      this.mark(place);
    }
    for (const [id, { element }] of this.marks) {
      if (wanted.has(id)) continue;
      element.remove();
      this.marks.delete(id);
    }
    this.frame(places);
    return places.length;
  }

  mark({ device, x, y }) {
    const print = [device.status, device.severity, x, y, this.name(device)].join();
    const known = this.marks.get(device.id);
    if (known?.print === print) return;
    const title = svg("title", {}, this.name(device));
    const parts = [title, sign(device.status)];
    if (device.severity) parts.push(svg("circle", { r: 11, class: `ring ${device.severity}` }));
    // The keyboard visits what is wrong only: thousands of stops would help nobody.
    const tabindex = device.severity ? 0 : -1;
    const element = svg(
      "g",
      { role: "button", tabindex, "aria-label": this.name(device), "data-id": device.id },
      ...parts,
    );
    element.style.cursor = "pointer";
    if (known) known.element.replaceWith(element);
    else if (device.severity) this.layer.append(element);
    else this.layer.prepend(element);
    this.marks.set(device.id, { print, element, x, y });
    this.settle(this.marks.get(device.id));
  }

  /** The box around everything, kept while it does not change, so that a zoom survives the next round. */
  frame(places) {
    const xs = places.map((place) => place.x);
    const ys = places.map((place) => place.y);
    const edge = (pick, list) => (list.length ? list.reduce((a, b) => pick(a, b)) : 0);
    const home = [edge(Math.min, xs), edge(Math.min, ys), edge(Math.max, xs), edge(Math.max, ys)].map(Math.round);
    if (home.join() === this.home?.join()) return;
    this.home = home;
    this.all();
  }

  all() {
    const [left, top, right, bottom] = this.home ?? [0, 0, 0, 0];
    const { width, height } = this;
    const metres = Math.max((right - left) / (width - 50), (bottom - top) / (height - 50), 0.1);
    this.box = { x: (left + right) / 2, y: (top + bottom) / 2, metres };
    this.show();
  }

  zoom(factor) {
    if (!this.box) return;
    this.box.metres = Math.min(Math.max(this.box.metres * factor, 0.05), 1000);
    this.show();
  }

  /** Marks are placed in pixels, so that they keep their size at every zoom. */
  show() {
    const { width, height } = this;
    this.root.setAttribute("viewBox", `0 0 ${width} ${height}`);
    for (const mark of this.marks.values()) this.settle(mark);
    const metres = 90 * this.box.metres;
    const power = 10 ** Math.floor(Math.log10(metres));
    const round = power * [5, 2, 1].find((step) => step * power <= metres);
    this.bar.style.width = `${round / this.box.metres}px`;
    this.scale.textContent = round >= 1000 ? `${round / 1000} km` : `${round} m`;
  }

  settle({ element, x, y }) {
    if (!this.box) return;
    const { width, height } = this;
    const [left, top] = [
      (x - this.box.x) / this.box.metres + width / 2,
      (y - this.box.y) / this.box.metres + height / 2,
    ];
    element.setAttribute("transform", `translate(${left.toFixed(1)} ${top.toFixed(1)})`);
  }

  listen() {
    let held = null;
    const chosen = (event) => event.target.closest("[data-id]")?.dataset.id;
    this.root.addEventListener("pointerdown", (event) => {
      held = { x: event.clientX, y: event.clientY, moved: false };
    });
    this.root.addEventListener("pointermove", (event) => {
      if (!held || !this.box || !event.buttons) return;
      const [x, y] = [event.clientX - held.x, event.clientY - held.y];
      if (!held.moved && Math.hypot(x, y) < 5) return;
      this.box.x -= x * this.box.metres;
      this.box.y -= y * this.box.metres;
      held = { x: event.clientX, y: event.clientY, moved: true };
      this.show();
    });
    this.root.addEventListener("click", (event) => {
      const id = chosen(event);
      if (id && !held?.moved) this.open(id);
      held = null;
    });
    this.root.addEventListener("keydown", (event) => {
      const id = chosen(event);
      if (id && (event.key === "Enter" || event.key === " ")) {
        event.preventDefault();
        this.open(id);
      }
    });
    // Asking for the size at every mark would make the browser lay out the page thousands of times.
    new ResizeObserver(() => {
      const [width, height] = [this.root.clientWidth, this.root.clientHeight];
      if (!width || (width === this.width && height === this.height)) return;
      Object.assign(this, { width, height });
      if (this.box) this.all();
    }).observe(this.root);
  }
}
