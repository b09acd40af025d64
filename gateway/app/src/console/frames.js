// Frames as they arrive: one card for each, the newest on top. The gateway filters; what it leaves out it tells.

/** Older cards go. */
const CARDS_MAX = 100;
/** A filter is applied when nobody has typed for so long. */
const TYPING_MILLIS = 400;

export class LiveFrames {
  /** `page` lends its helpers: make, put, word, term, mark, exact, deviceLink, valueText. */
  constructor(page, elements) {
    Object.assign(this, { page, elements, events: [], held: [], shown: 0, isPaused: false, state: "live_connecting" });
    this.missed = { sampled: 0, slow: 0, unseen: 0 };
    elements.pause.addEventListener("click", () => this.pause());
    elements.form.addEventListener("submit", (event) => event.preventDefault());
    elements.form.addEventListener("input", () => {
      clearTimeout(this.typing);
      this.typing = setTimeout(() => this.wanted && this.open(this.wanted), TYPING_MILLIS);
    });
  }

  /** Looks, anew when something else is wanted than before. */
  open(wanted) {
    const { text, source, undecoded } = this.elements;
    const asked = new URLSearchParams({ undecoded: undecoded.checked });
    for (const [key, value] of [["device", wanted.device], ["text", text.value.trim()], ["source", source.value]])
      if (value) asked.set(key, value);
    this.wanted = wanted;
    if (this.stream && this.asked === asked.toString()) return;
    this.close();
    this.wanted = wanted;
    this.asked = asked.toString();
    Object.assign(this, { events: [], held: [], shown: 0, state: "live_connecting" });
    this.missed = { sampled: 0, slow: 0, unseen: 0 };
    const stream = new EventSource(`/api/v1/frames?${this.asked}`);
    this.stream = stream;
    stream.addEventListener("open", () => this.tell("live_waiting"));
    stream.addEventListener("error", () =>
      this.tell(stream.readyState === EventSource.CLOSED ? "live_refused" : "live_lost"),
    );
    stream.addEventListener("frame", (event) => this.take(JSON.parse(event.data)));
    stream.addEventListener("missed", (event) => {
      for (const [why, count] of Object.entries(JSON.parse(event.data))) this.missed[why] += count;
      this.tell(this.state);
    });
    this.render();
  }

  close() {
    this.stream?.close();
    this.stream = null;
    this.wanted = null;
  }

  pause() {
    this.isPaused = !this.isPaused;
    if (!this.isPaused) this.events = [...this.held.splice(0), ...this.events].slice(0, CARDS_MAX);
    this.render();
  }

  take(frame) {
    this.shown += 1;
    frame.number = this.shown;
    const list = this.isPaused ? this.held : this.events;
    list.unshift(frame);
    list.length = Math.min(list.length, CARDS_MAX);
    if (!this.isPaused) this.draw();
    this.tell(this.state);
  }

  tell(state) {
    this.state = state;
    const { page, elements } = this;
    const missed = Object.entries(this.missed).filter(([, count]) => count > 0);
    const parts = [
      state === "live_waiting" ? page.word("frames_shown", { count: this.shown }) : page.word(state),
      ...missed.map(([why, count]) => page.word(`missed_${why}`, { count })),
      this.isPaused ? page.word("frames_held", { count: this.held.length }) : "",
    ];
    page.put(elements.note, parts.filter(Boolean).join(" · "));
    elements.note.classList.toggle("warn", state !== "live_waiting" || missed.length > 0);
    elements.empty.hidden = elements.list.children.length > 0;
    page.put(elements.empty, page.word(state));
  }

  /** Everything anew: another language, another filter. */
  render() {
    const { page, elements } = this;
    page.put(elements.pause, page.word(this.isPaused ? "go_on" : "pause"));
    elements.pause.setAttribute("aria-pressed", this.isPaused);
    elements.list.replaceChildren();
    this.draw();
    this.tell(this.state);
  }

  /** Puts new cards on top and takes old ones away. */
  draw() {
    const { list } = this.elements;
    const newest = Number(list.firstElementChild?.dataset.number ?? 0);
    const fresh = this.events.filter((frame) => frame.number > newest);
    list.prepend(...fresh.map((frame) => this.card(frame)));
    while (list.children.length > CARDS_MAX) list.lastElementChild.remove();
  }

  card(frame) {
    const { make, word, exact, deviceLink } = this.page;
    const whose = frame.device ? deviceLink(frame.device, frame.name) : word("no_device");
    const flags = ["retained", "redelivered", "left_out"].filter((name) => frame[name]);
    const profile = frame.profile ? `${frame.profile} v${frame.profile_version}` : null;
    const facts = [frame.source, frame.address, profile, word("bytes", { count: frame.bytes })];
    return make(
      "li",
      { class: frame.outcome, "data-number": frame.number },
      make("p", { class: "whose" }, make("b", {}, whose), make("time", {}, exact(Date.parse(frame.received_at)))),
      make("p", { class: "soft" }, facts.filter(Boolean).join(" · ")),
      flags.length ? make("p", { class: "warn" }, flags.map((name) => word(name)).join(" · ")) : null,
      ...this.outcome(frame),
      this.payload(frame),
    );
  }

  outcome(frame) {
    const { make, word, term } = this.page;
    if (frame.outcome === "ignored") return [make("p", { class: "soft" }, word("no_reading", frame))];
    if (frame.outcome === "undecoded") {
      const address = frame.expected_address;
      return [
        make("p", { class: "bad" }, make("b", {}, term("REASONS", frame.reason)), ` ${frame.detail}`),
        address ? make("p", {}, word("inventory_address", { address })) : null,
      ];
    }
    const notes = [
      frame.readings_cut ? word("readings_cut", { count: frame.readings_cut }) : null,
      frame.history ? word("history_rows", { count: frame.history }) : null,
      frame.time_refused ? word("time_refused", { reason: frame.time_refused }) : null,
      ...frame.remarks,
    ];
    return [
      make("dl", {}, ...frame.readings.flatMap((reading) => this.reading(reading))),
      ...notes.filter(Boolean).map((note) => make("p", { class: "warn" }, note)),
    ];
  }

  reading({ point, value, unit, quality, cause }) {
    const { make, term, mark, valueText } = this.page;
    const plain = valueText(value);
    const shown = unit && value !== null ? `${plain} ${unit.replace("deg", "°")}` : plain;
    const doubt = quality === "good" ? null : mark(quality, term("QUALITIES", quality));
    const why = cause ? ` ${term("CAUSES", cause)}` : null;
    return [make("dt", { title: point }, term("POINTS", point)), make("dd", {}, make("b", {}, shown), " ", doubt, why)];
  }

  payload(frame) {
    const { make, word } = this.page;
    const { text, hex, registers = [], failures = [] } = frame.payload;
    const lines = [
      text ?? hex ?? null,
      ...registers.map((run) => `${run.table} ${run.address}: ${run.words}`),
      ...failures.map((run) => `${run.table} ${run.address}+${run.count}: ${run.cause}`),
      frame.cut ? word("bytes_cut", { count: frame.cut }) : null,
    ];
    return make("pre", { class: "raw" }, lines.filter((line) => line !== null).join("\n"));
  }
}
