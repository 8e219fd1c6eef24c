// What is known of one wait: the tip under the pointer, and the panel of the selected one.
"use strict";
Q.tip = (() => {
  const show = (event, nodes) => {
    const tip = Q.id("tip");
    tip.replaceChildren(...nodes);
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    const [x, y] = [event.clientX + 14, event.clientY + 16];
    tip.style.left = `${Math.max(Math.min(x, innerWidth - box.width - 8), 8)}px`;
    tip.style.top = `${y + box.height > innerHeight - 8 ? Math.max(event.clientY - box.height - 12, 8) : y}px`;
  };
  return { show, hide: () => { Q.id("tip").hidden = true; } };
})();

Q.details = (() => {
  const w = () => Q.waits.columns;
  const lasted = (row) => (w().open[row] ? `${Q.duration(w().dur[row])}, never ended` : Q.duration(w().dur[row]));
  const heading = (row) => [Q.swatch(w().kind[row]), " ", Q.el("b", { text: Q.view.kinds[w().kind[row]].id }), ` · ${Q.laneName(w().lane[row])}`];
  const library = (file) => /\/lib\/python|site-packages|^</.test(file);
  const frameNode = ([file, line, name, source]) => Q.el("div", { class: "frame" },
    Q.el("span", { class: "place", title: file, text: `${file.split("/").pop()}:${line}` }), Q.el("span", { class: "fn", text: name }),
    source ? Q.el("code", { text: source }) : null);
  const framesOf = (row) => (w().stack[row] >= 0 ? Q.view.stacks[w().stack[row]].map((n) => Q.view.frames[n]) : []);
  const textOf = (row) => Q.view.waits.texts[w().text[row]];

  const tip = (row) => {
    const frames = framesOf(row);
    const own = frames.find(([file]) => !library(file)) || frames[0];
    const woken = w().open[row] ? "nobody has ended it" : w().waker[row] >= 0 ? `woken by ${Q.laneName(w().waker[row])}` : "";
    return [Q.el("div", {}, ...heading(row)), Q.el("code", { text: textOf(row) }),
      w().object[row] >= 0 ? Q.el("div", { text: Q.objectName(w().object[row]) }) : null,
      Q.el("div", { class: "dim", text: `${lasted(row)}, from ${Q.moment(w().start[row])}${woken ? `, ${woken}` : ""}` }),
      own ? frameNode(own) : null].filter(Boolean);
  };
  // Where no single wait is under the pointer: what was folded there, or that the thread ran.
  const quietTip = (lane, time, perPixel) => {
    const life = Q.view.lanes[lane];
    const alive = time >= life.start_ns && time <= life.end_ns;
    const folded = Q.waits.foldedAt(lane, time, perPixel);
    const lines = folded.map(({ kind, count, share }) => Q.el("div", {}, Q.swatch(kind), ` ${Q.plural(count, "short wait")} ${Q.view.kinds[kind].id}, ${Q.percent(share)} of this time`));
    const gap = Q.view.gaps.find(([from, to]) => from <= time && time <= to);
    if (gap) lines.push(Q.el("div", { text: `not recorded: ${gap[2]}` }));
    if (!lines.length) lines.push(Q.el("div", { text: alive ? "running, or in calls that did not block" : "not alive" }));
    return [Q.el("b", { text: Q.laneName(lane) }), ...lines, Q.el("div", { class: "dim", text: `at ${Q.moment(time)}` })];
  };

  const fact = (name, ...value) => Q.el("div", {}, Q.el("dt", { text: name }), Q.el("dd", {}, ...value));
  const goTo = (text, act) => Q.el("button", { type: "button", class: "link", text, onclick: act });
  // The other end of an arrow: the wait that this thread was in at that moment, else the moment.
  const threadLink = (lane, time, before) => goTo(Q.laneName(lane), () => {
    const row = before === undefined ? Q.waits.at(lane, time) : before;
    if (row >= 0) Q.timeline.reveal(row);
    else Q.set({ at: time });
  });
  const others = (row) => {
    if (w().open[row]) {
      const lanes = Q.waits.providersOf(w().lane[row]);
      const links = lanes.slice(0, 6).map((lane) => Q.el("div", { class: "waits-for" }, threadLink(lane, Q.view.span_ns)));
      return fact("waits for", ...(links.length ? links : [Q.waits.isVerdicts(row) ? "nobody that is left could end it" : "not known"]));
    }
    const lane = w().waker[row];
    if (lane < 0) return fact("woken by", "the clock, the outside, or not known");
    const hop = Q.waits.chainOf(row)[0];
    return fact("woken by", Q.el("div", { class: "woken-by" }, threadLink(lane, w().end[row], hop && hop.next >= 0 ? hop.next : undefined)));
  };
  const render = () => {
    const panel = Q.id("details");
    const row = Q.state.selected;
    panel.hidden = row < 0;
    // Room to scroll the last part of the page out from under the panel.
    document.body.style.paddingBottom = row < 0 ? "" : "42vh";
    if (row < 0) return;
    const frames = framesOf(row);
    panel.replaceChildren(
      Q.el("button", { type: "button", class: "close", "aria-label": "Close", title: "Close (Esc)", text: "×", onclick: () => Q.set({ selected: -1 }) }),
      Q.el("h3", {}, ...heading(row)),
      Q.el("code", { class: "call", text: textOf(row) }),
      Q.el("dl", { class: "facts" },
        fact("means", Q.view.kinds[w().kind[row]].meaning),
        fact("object", w().object[row] >= 0 ? Q.objectName(w().object[row]) : "none"),
        fact("lasted", Q.el("span", { class: w().open[row] ? `open${Q.stuckLanes.has(w().lane[row]) ? " stuck" : ""}` : "", text: lasted(row) })),
        fact("from, to", `${Q.moment(w().start[row])}, ${w().open[row] ? "the end of the recording" : Q.moment(w().end[row])}`),
        others(row)),
      frames.length ? Q.el("div", { class: "frames" }, Q.el("h3", { text: "Python stack, innermost first" }), ...frames.slice(0, 40).map(frameNode)) : Q.el("p", { class: "dim", text: "No Python stack was taken of this wait." }));
  };
  Q.onChange((change) => { if ("selected" in change) render(); });
  return { tip, quietTip, render, lasted, textOf, frameNode };
})();
