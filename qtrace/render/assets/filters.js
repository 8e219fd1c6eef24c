// What of the timeline is shown: search, kinds, threads, shortest duration, and the zoom buttons.
"use strict";
Q.filters = (() => {
  const SHORTEST = [[0, "any duration"], [1e3, "1 µs and longer"], [1e4, "10 µs and longer"], [1e5, "100 µs and longer"], [1e6, "1 ms and longer"], [1e7, "10 ms and longer"], [1e8, "100 ms and longer"], [1e9, "1 s and longer"], [1e10, "10 s and longer"]];
  let chips, box, shortest, counted, boxes = [];

  const present = () => {
    const totals = Q.view.kinds.map((kind, n) => Q.view.time_by_kind.reduce((sum, row) => sum + row[n], 0));
    return totals.map((total, kind) => ({ kind, total })).filter((row) => row.total > 0);
  };
  const toggle = (kind) => {
    const hidden = new Set(Q.state.hidden);
    if (!hidden.delete(kind)) hidden.add(kind);
    Q.set({ hidden });
  };
  const chip = ({ kind, total }) => Q.el("button", { type: "button", class: "chip", "data-kind": Q.view.kinds[kind].id, "aria-pressed": String(!Q.state.hidden.has(kind)), title: `${Q.view.kinds[kind].meaning}; ${Q.duration(total)} in all threads. Click to hide or show`, onclick: () => toggle(kind) },
    Q.swatch(kind), Q.view.kinds[kind].id, Q.el("span", { text: Q.duration(total) }));

  const threadMenu = () => {
    boxes = [];
    const sheet = Q.el("div", { class: "sheet" });
    const put = (css, text, lanes, ids) => {
      const tick = Q.el("input", { type: "checkbox", onchange: () => {
        const off = new Set(Q.state.offThreads);
        for (const n of lanes) { if (tick.checked) off.delete(Q.view.lanes[n].tid); else off.add(Q.view.lanes[n].tid); }
        Q.set({ offThreads: off, rows: true });
      } });
      boxes.push({ tick, lanes });
      sheet.append(Q.el("label", { class: css }, tick, text, " ", Q.el("span", { class: "ids", text: ids })));
    };
    const every = Q.view.lanes.map((lane, n) => n);
    put("process", "All threads", every, Q.number(every.length));
    Q.view.processes.forEach((process, p) => {
      const mine = every.filter((n) => Q.view.lanes[n].process === p);
      if (!mine.length) return;
      put("process", process.name, mine, process.pid);
      if (mine.length > 1) for (const n of mine) put("thread", Q.view.lanes[n].name, [n], Q.view.lanes[n].tid);
    });
    return Q.el("details", { class: "menu", id: "threads-menu" }, Q.el("summary", { text: "Threads ▾" }), sheet);
  };

  const mount = (root) => {
    let typing = 0;
    box = Q.el("input", { type: "search", id: "search", placeholder: "Search calls, objects, threads, lines (/)", "aria-label": "Search waits", oninput: () => {
      clearTimeout(typing);
      typing = setTimeout(() => Q.set({ query: box.value }), 120);
    } });
    shortest = Q.el("select", { id: "shortest", "aria-label": "Shortest wait shown", onchange: () => Q.set({ shortest: Number(shortest.value) }) },
      ...SHORTEST.filter(([ns]) => ns <= Q.view.span_ns).map(([ns, text]) => Q.el("option", { value: ns, text })));
    const press = (text, title, id, act) => Q.el("button", { type: "button", text, title, id, "aria-label": title, onclick: act });
    counted = Q.el("span", { class: "count", id: "found-count", "aria-live": "polite" });
    chips = Q.el("div", { class: "chips", role: "group", "aria-label": "Kinds of wait" });
    root.append(
      Q.el("div", { class: "bar" }, Q.el("label", { class: "grow" }, box), shortest, threadMenu(),
        Q.el("div", { class: "group", role: "group", "aria-label": "Zoom" },
          press("−", "Zoom out (-)", "zoom-out", () => Q.zoom(2)), press("+", "Zoom in (+)", "zoom-in", () => Q.zoom(0.5)),
          press("‹", "Earlier (←)", "earlier", () => Q.pan(-0.25)), press("›", "Later (→)", "later", () => Q.pan(0.25)),
          press("All", "Whole recording (0)", "whole", () => Q.set({ t0: 0, t1: Q.view.span_ns }))),
        press("Reset filters", "Show everything again", "reset", reset), counted),
      chips);
    document.addEventListener("click", (event) => {
      const menu = Q.id("threads-menu");
      if (menu.open && !menu.contains(event.target)) menu.open = false;
    });
    refresh();
  };
  const reset = () => Q.set({ hidden: new Set(), offThreads: new Set(), query: "", shortest: 0, rows: true });
  const refresh = () => {
    chips.replaceChildren(...present().map(chip), Q.el("span", { class: "chip still", title: "alive and not waiting" }, Q.el("i", { class: "swatch running", "aria-hidden": "true" }), "running"),
      Q.el("span", { class: "chip still", title: "had not returned when the recording ended" }, Q.el("i", { class: "torn", "aria-hidden": "true" }), "never ended"));
    if (document.activeElement !== box) box.value = Q.state.query;
    shortest.value = String(Q.state.shortest);
    for (const { tick, lanes } of boxes) {
      const off = lanes.filter((n) => Q.state.offThreads.has(Q.view.lanes[n].tid)).length;
      tick.checked = off === 0;
      tick.indeterminate = off > 0 && off < lanes.length;
    }
    const all = Q.waits.columns.size;
    let some = 0;
    for (let row = 0; row < all; row++) if (Q.waits.passes(row)) some++;
    counted.textContent = some === all ? "" : `${Q.number(some)} of ${Q.plural(all, "wait")}`;
    Q.id("reset").hidden = some === all && !Q.state.hidden.size && !Q.state.offThreads.size && !Q.state.query && !Q.state.shortest;
  };
  Q.onChange((change) => {
    if (!chips) return;
    if ("query" in change || change.hidden || change.offThreads || "shortest" in change || change.theme) refresh();
  });
  return { mount, refresh, present };
})();
