// Small helpers that every part of the page uses: elements, numbers in words, columns, state.
"use strict";
const Q = {};

// An element from a tag, attributes and children. Text always becomes a text node, so nothing
// that comes from the traced program is ever read as markup.
Q.el = (tag, attributes = {}, ...children) => {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "style") Object.assign(node.style, value);
    else if (name === "text") node.textContent = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
};
Q.id = (name) => document.getElementById(name);

Q.digits = (number) => {
  const size = Math.abs(number);
  if (size >= 100) return Math.round(number).toLocaleString("en");
  return size >= 10 ? number.toFixed(1) : number.toFixed(2);
};
Q.duration = (ns) => {
  if (ns >= 1e9) return `${Q.digits(ns / 1e9)} s`;
  if (ns >= 1e6) return `${Q.digits(ns / 1e6)} ms`;
  if (ns >= 1e3) return `${Q.digits(ns / 1e3)} µs`;
  return `${Math.round(ns)} ns`;
};
Q.bytes = (count) => {
  if (count >= 1 << 20) return `${Q.digits(count / (1 << 20))} MiB`;
  if (count >= 1 << 10) return `${Q.digits(count / (1 << 10))} KiB`;
  return `${count} B`;
};
Q.number = (value) => value.toLocaleString("en");
Q.percent = (share) => (share > 0 && share < 0.01 ? "<1 %" : `${Math.round(share * 100)} %`);
Q.plural = (count, one, many) => `${Q.number(count)} ${count === 1 ? one : many || `${one}s`}`;
Q.clamp = (value, low, high) => Math.min(Math.max(value, low), high);
// A moment on the recording's own clock.
Q.moment = (ns) => `${(ns / 1e9).toFixed(6).replace(/(\.\d{3})(\d{3})$/, "$1 $2")} s`;

// Columns come as differences; sums stay exact up to 2^53 ns.
Q.sums = (column) => {
  const values = new Float64Array(column.length);
  let total = 0;
  for (let i = 0; i < column.length; i++) values[i] = total += column[i];
  return values;
};
// First place in sorted values[low, high) whose value is greater than `wanted`.
Q.after = (values, wanted, low = 0, high = values.length) => {
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle] > wanted) high = middle;
    else low = middle + 1;
  }
  return low;
};

// What the user chose. Parts of the page listen, and the URL's fragment keeps it.
Q.state = { t0: 0, t1: 1, at: null, selected: -1, hidden: new Set(), offThreads: new Set(), query: "", shortest: 0, unfolded: new Set() };
const listeners = [];
Q.onChange = (listener) => listeners.push(listener);
let pending = null;
Q.set = (change) => {
  Object.assign(Q.state, change);
  pending = Object.assign(pending || {}, change);
  if (pending.scheduled) return;
  pending.scheduled = true;
  requestAnimationFrame(() => {
    const changed = pending;
    pending = null;
    for (const listener of listeners) listener(changed);
  });
};

Q.css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
Q.isDark = () => {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
};
// Asked thousands of times a picture: found out once a theme.
let colours = null;
Q.colour = (kind) => {
  colours ||= Q.view.kinds.map((look) => (Q.isDark() ? look.dark : look.light));
  return colours[kind];
};
// Black or white, whichever reads better on a colour (relative luminance of WCAG 2).
Q.inkOn = (hex) => {
  const part = (at) => {
    const value = parseInt(hex.slice(at, at + 2), 16) / 255;
    return value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  };
  const luminance = 0.2126 * part(1) + 0.7152 * part(3) + 0.0722 * part(5);
  return luminance > 0.2 ? "#101418" : "#ffffff";
};

// The second channel beside the hue: kinds of one family differ by their hatch.
const HATCH = {
  rise: (c) => { c.moveTo(-2, 10); c.lineTo(10, -2); c.moveTo(-2, 2); c.lineTo(2, -2); c.moveTo(6, 10); c.lineTo(10, 6); },
  fall: (c) => { c.moveTo(-2, -2); c.lineTo(10, 10); },
  dots: (c) => { c.moveTo(2, 4); c.lineTo(5, 4); },
  bars: (c) => { c.moveTo(3, -1); c.lineTo(3, 9); },
};
let patterns = {};
Q.forgetPatterns = () => { patterns = {}; colours = null; };
Q.tile = (kind) => {
  const tile = document.createElement("canvas");
  tile.width = tile.height = 8;
  const context = tile.getContext("2d");
  const colour = Q.colour(kind);
  context.fillStyle = colour;
  context.fillRect(0, 0, 8, 8);
  const stroke = HATCH[Q.view.kinds[kind].hatch];
  if (stroke) {
    context.strokeStyle = Q.inkOn(colour) === "#ffffff" ? "rgba(255,255,255,.55)" : "rgba(0,0,0,.45)";
    context.lineWidth = 1.6;
    context.beginPath();
    stroke(context);
    context.stroke();
  }
  return tile;
};
Q.fill = (context, kind) => {
  if (Q.view.kinds[kind].hatch === "none") return Q.colour(kind);
  patterns[kind] ||= context.createPattern(Q.tile(kind), "repeat");
  return patterns[kind];
};
Q.swatch = (kind) => Q.el("i", { class: "swatch", "aria-hidden": "true", style: { backgroundImage: `url(${Q.tile(kind).toDataURL()})` } });

Q.laneName = (number) => {
  const lane = Q.view.lanes[number];
  const process = Q.view.processes[lane.process];
  return process ? `${process.name} / ${lane.name}` : lane.name;
};
// Where there is little room: a process of one thread is named by its own name alone.
Q.shortName = (number) => {
  const lane = Q.view.lanes[number];
  const process = Q.view.processes[lane.process];
  Q.threadCounts ||= Q.view.lanes.reduce((counts, { process: p }) => counts.set(p, (counts.get(p) || 0) + 1), new Map());
  return process && Q.threadCounts.get(lane.process) === 1 ? process.name : Q.laneName(number);
};
Q.objectName = (number) => (number >= 0 ? Q.view.objects[number].label : "");

// Text cut to a width, measured and not guessed: letters are as wide as the reader's fonts make them.
const ruler = document.createElement("canvas").getContext("2d");
Q.textWidth = (text, font) => {
  ruler.font = font;
  return ruler.measureText(text).width;
};
Q.cut = (text, pixels, font) => {
  ruler.font = font;
  if (ruler.measureText(text).width <= pixels) return text;
  let [low, high] = [0, text.length];
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (ruler.measureText(`${text.slice(0, middle)}…`).width <= pixels) low = middle;
    else high = middle - 1;
  }
  return `${text.slice(0, low).trimEnd()}…`;
};

// Under its parent's line a child needs no more than its place: "child 3" of "child 3 of app.py".
Q.childName = (process) => {
  Q.byPid ||= new Map(Q.view.processes.map((p) => [p.pid, p]));
  const place = /^child \d+(?= of )/.exec(process.name);
  return place && Q.byPid.has(process.ppid) ? place[0] : process.name;
};

// A thread's name cut where it says least: in its process's name, for that stands in other lines too.
Q.fitName = (number, pixels, font) => {
  const name = Q.shortName(number);
  if (Q.textWidth(name, font) <= pixels || !name.includes(" / ")) return Q.cut(name, pixels, font);
  const own = ` / ${Q.view.lanes[number].name}`;
  const room = pixels - Q.textWidth(own, font);
  if (room > 40) return Q.cut(name.slice(0, -own.length), room, font) + own;
  // Both cut, the thread's name less: two threads of a process are still two.
  return Q.cut(name.slice(0, -own.length), pixels * 0.45, font) + Q.cut(own, pixels * 0.55, font);
};

// A canvas as sharp as the screen is; returns the context in CSS pixels.
Q.sized = (canvas, width, height) => {
  const ratio = window.devicePixelRatio || 1;
  const [wide, high] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== wide || canvas.height !== high) {
    canvas.width = wide;
    canvas.height = high;
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return context;
};
