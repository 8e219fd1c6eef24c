// What the reader chose, kept in the URL's fragment, so that a link shows the same picture.
"use strict";
Q.address = (() => {
  let waiting = 0, mine = "";

  const write = () => {
    const s = Q.state, parts = new URLSearchParams();
    if (s.t0 > 0 || s.t1 < Q.view.span_ns) parts.set("t", `${Math.round(s.t0)}-${Math.round(s.t1)}`);
    if (Math.abs(s.at - Q.home) > 1) parts.set("at", Math.round(s.at));
    if (s.selected >= 0) parts.set("wait", Q.waits.columns.id[s.selected]);
    if (s.hidden.size) parts.set("hide", [...s.hidden].map((kind) => Q.view.kinds[kind].id).join(" "));
    if (s.offThreads.size) parts.set("off", [...s.offThreads].join(" "));
    if (s.query) parts.set("q", s.query);
    if (s.shortest) parts.set("min", s.shortest);
    if (s.unfolded.size) parts.set("open", [...s.unfolded].join(" "));
    if (document.documentElement.dataset.theme) parts.set("theme", document.documentElement.dataset.theme);
    const text = parts.toString();
    if (text === mine) return;
    mine = text;
    history.replaceState(null, "", text ? `#${text}` : location.pathname + location.search);
  };
  // Fragments come from anywhere: each value is checked, and what makes no sense is left out.
  const read = () => {
    const hash = location.hash.slice(1);
    if (!hash.includes("=")) return {};
    const parts = new URLSearchParams(hash);
    const change = {};
    const numbers = (name) => (parts.get(name) || "").split(/[ -]/).filter(Boolean).map(Number).filter(Number.isFinite);
    const [t0, t1] = numbers("t");
    if (t1 > t0) Object.assign(change, Q.window(t0, t1));
    if (parts.has("at") && Number.isFinite(Number(parts.get("at")))) change.at = Q.clamp(Number(parts.get("at")), 0, Q.view.span_ns);
    if (parts.has("wait")) change.selected = Q.waits.ofId(Number(parts.get("wait")));
    if (parts.has("hide")) change.hidden = new Set(parts.get("hide").split(" ").map((id) => Q.view.kinds.findIndex((k) => k.id === id)).filter((n) => n >= 0));
    if (parts.has("off")) change.offThreads = new Set(numbers("off"));
    if (parts.has("q")) change.query = parts.get("q");
    if (parts.has("min")) change.shortest = Math.max(Number(parts.get("min")) || 0, 0);
    if (parts.has("open")) change.unfolded = new Set(numbers("open"));
    const theme = parts.get("theme");
    if (theme === "dark" || theme === "light") document.documentElement.dataset.theme = theme;
    mine = hash;
    return change;
  };
  Q.onChange(() => { clearTimeout(waiting); waiting = setTimeout(write, 150); });
  addEventListener("hashchange", () => {
    if (location.hash.slice(1) === mine || !location.hash.includes("=")) return;
    Q.set({ t0: 0, t1: Q.view.span_ns, at: Q.home, selected: -1, hidden: new Set(), offThreads: new Set(), query: "", shortest: 0, unfolded: new Set(), rows: true, ...read(), theme: true });
  });
  return { read };
})();
