// Keys, the list of them, and the theme.
"use strict";
Q.theme = {};
Q.readTheme = () => {
  for (const [name, css] of [["life", "--life"], ["stuck", "--stuck"], ["stuckSoft", "--stuck-soft"], ["calm", "--calm"], ["muted", "--muted"], ["grid", "--grid"], ["line", "--line"], ["accent", "--accent"], ["veil", "--veil"], ["level", "--level"], ["levelFill", "--level-fill"], ["ink", "--ink"], ["card", "--card"], ["font", "--sans"]]) Q.theme[name] = Q.css(css);
  Q.forgetPatterns();
  for (const mark of document.querySelectorAll(".card .kind")) {
    const kind = Q.view.kinds.findIndex((k) => k.id === mark.dataset.kind);
    if (kind >= 0) mark.firstChild.style.backgroundImage = `url(${Q.tile(kind).toDataURL()})`;
  }
};

Q.keys = (() => {
  const flip = () => {
    document.documentElement.dataset.theme = Q.isDark() ? "light" : "dark";
    Q.readTheme();
    Q.set({ theme: true });
  };
  // The next wait of the same thread; to begin with the first of the chain, or of what is in the window.
  const neighbour = (step) => {
    const { selected } = Q.state;
    const link = Q.view.chain.find((c) => c.wait >= 0);
    if (selected < 0) { const row = link ? Q.waits.ofId(link.wait) : firstInWindow(); if (row >= 0) Q.timeline.reveal(row); return; }
    const { low, high } = Q.waits.lane(Q.waits.columns.lane[selected]);
    for (let row = selected + step; row >= low && row < high; row += step) if (Q.waits.passes(row)) { Q.timeline.reveal(row); return; }
  };
  const firstInWindow = () => {
    const { start, end, size } = Q.waits.columns;
    for (let row = 0; row < size; row++) if (end[row] >= Q.state.t0 && start[row] <= Q.state.t1 && Q.waits.passes(row)) return row;
    return -1;
  };
  // The wait that another thread was in at the chosen moment: the next lane down or up that was in one.
  const beside = (step) => {
    const lanes = Q.rows.build().rows.filter((row) => row.type === "lane").map((row) => row.lane);
    const from = Q.state.selected >= 0 ? lanes.indexOf(Q.waits.columns.lane[Q.state.selected]) : step > 0 ? -1 : lanes.length;
    for (let place = from + step; place >= 0 && place < lanes.length; place += step) {
      const row = Q.waits.at(lanes[place], Q.state.at);
      if (row >= 0 && Q.waits.passes(row)) { Q.timeline.reveal(row, Q.state.at); return; }
    }
  };
  const follow = () => {
    const hop = Q.state.selected >= 0 ? Q.waits.chainOf(Q.state.selected)[0] : null;
    if (hop && hop.next >= 0) Q.timeline.reveal(hop.next);
  };
  const KEYS = [
    ["?", "this list", () => toggleHelp()],
    ["/", "search", () => { Q.id("search").focus(); Q.id("timeline").scrollIntoView(); }],
    ["+", "zoom in", () => Q.zoom(0.5, Q.state.at >= Q.state.t0 && Q.state.at <= Q.state.t1 ? Q.state.at : undefined)],
    ["-", "zoom out", () => Q.zoom(2)],
    ["ArrowLeft", "earlier", () => Q.pan(-0.2)],
    ["ArrowRight", "later", () => Q.pan(0.2)],
    ["0", "the whole recording", () => Q.set({ t0: 0, t1: Q.view.span_ns })],
    ["n", "next wait of the thread", () => neighbour(1)],
    ["p", "wait before it", () => neighbour(-1)],
    ["j", "the thread below, at this moment", () => beside(1)],
    ["k", "the thread above", () => beside(-1)],
    ["w", "follow: what this wait hangs on", follow],
    ["v", "back to the verdict's moment", () => Q.set({ at: Q.home, t0: 0, t1: Q.view.span_ns })],
    ["t", "dark or light", flip],
    ["Escape", "close, deselect", () => Q.set({ selected: -1 })],
  ];
  const MORE = [["drag", "move in time"], ["Ctrl + wheel", "zoom (pinch on a touch screen)"], ["double click", "zoom in there"], ["click", "choose a wait, and the graph's moment"]];
  const NAMES = { ArrowLeft: "←", ArrowRight: "→", Escape: "Esc" };
  const toggleHelp = () => { const dialog = Q.id("help"); if (dialog.open) dialog.close(); else dialog.showModal(); };

  const mount = () => {
    Q.id("theme").addEventListener("click", flip);
    Q.id("help-button").addEventListener("click", toggleHelp);
    const rows = [...KEYS.map(([key, text]) => [NAMES[key] || key, text]), ...MORE];
    Q.id("help").replaceChildren(Q.el("h2", { id: "help-title", text: "Keys" }), Q.el("dl", {}, ...rows.flatMap(([key, text]) => [Q.el("dt", {}, Q.el("kbd", { text: key })), Q.el("dd", { text })])),
      Q.el("form", { method: "dialog" }, Q.el("button", { class: "more", text: "Close" })));
    document.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === "Escape") for (const menu of document.querySelectorAll("details.menu[open]")) menu.open = false;
      const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
      if (typing) { if (event.key === "Escape") event.target.blur(); return; }
      const found = KEYS.find(([key]) => key === event.key || (key === "+" && event.key === "="));
      if (!found || (Q.id("help").open && event.key !== "?")) return;
      if (event.key.startsWith("Arrow") && event.target.closest(".sheet-scroll")) return;
      event.preventDefault();
      found[2]();
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { Q.readTheme(); Q.set({ theme: true }); });
  };
  return { mount };
})();
