// From the packed data to the first picture; Plotly follows once that stands.
"use strict";
Q.unpackBytes = async (id) => {
  const text = Q.id(id).textContent;
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  Q.id(id).remove();
  return new Response(stream).arrayBuffer();
};
Q.unpack = async (id) => new TextDecoder().decode(await Q.unpackBytes(id));
Q.cannot = (why) => {
  const notice = Q.id("cannot");
  notice.textContent = `The verdict above is complete. The figures and tables cannot be shown: ${why}`;
  notice.hidden = false;
  Q.id("figures").hidden = true;
};

Q.redraw = () => {
  Q.timeline.draw();
  Q.overview.draw();
  Q.tracks.draw();
};
Q.mount = () => {
  const { view } = Q;
  Q.stuckLanes = new Set(view.graph.nodes.filter((n) => n.stuck && n.tid !== null).map((n) => Q.laneOfKey(`t${n.tid}`)).filter((n) => n >= 0));
  Q.id("folded").textContent = view.folded.waits ? `${view.folded.sentence}. Long and unfinished waits and those of the chain are exact; columns of colour stand for many short ones.` : Q.waits.columns.size ? `Nothing is folded: each of ${Q.plural(Q.waits.columns.size, "wait")} is drawn by itself.` : "No thread waited in this recording.";
  const figure = Q.id("timeline-figure");
  Q.filters.mount(Q.id("filters"));
  const over = Q.el("div"), lanes = Q.el("div"), levels = Q.el("div", { class: "tracks" });
  figure.append(over, lanes, Q.el("div", { id: "tracks" }, levels));
  Q.overview.mount(over);
  Q.timeline.mount(lanes);
  if (Q.tracks.mount(levels)) levels.prepend(Q.el("h3", { text: "Pipes and queues: level over time" }));
  Q.figures.mount(Q.id("time-figures"));
  Q.tables.mount();
  Q.keys.mount();
};
Q.navigation = () => {
  const links = [...document.querySelectorAll("nav.parts a")];
  for (const link of links) link.addEventListener("click", (event) => {
    event.preventDefault();
    Q.id(link.hash.slice(1)).scrollIntoView();
  });
  const here = new IntersectionObserver((entries) => {
    // At the top it is the verdict, however short that is.
    for (const entry of entries) if (entry.isIntersecting) for (const link of links) link.classList.toggle("here", link.hash === (scrollY < 40 ? "#verdict" : `#${entry.target.id}`));
  }, { rootMargin: "-15% 0px -75% 0px" });
  for (const part of document.querySelectorAll("section.panel")) here.observe(part);
  for (const card of document.querySelectorAll(".card")) {
    const open = () => {
      const link = Q.view.chain.find((c) => String(c.tid) === card.dataset.tid);
      if (link && link.wait >= 0 && Q.waits.ofId(link.wait) >= 0) Q.timeline.reveal(Q.waits.ofId(link.wait));
    };
    card.addEventListener("click", (event) => { if (!event.target.closest("details") && !String(getSelection())) open(); });
    card.addEventListener("keydown", (event) => { if (event.key === "Enter" && event.target === card) open(); });
  }
};
// The moment to begin at: the verdict's, or where a program that ended by itself waited longest.
Q.homeMoment = () => {
  if (Q.view.graph.nodes.length) return Q.view.verdict_at_ns;
  const w = Q.waits.columns;
  let longest = -1;
  for (let row = 0; row < w.size; row++) if (longest < 0 || w.dur[row] > w.dur[longest]) longest = row;
  return longest < 0 ? Q.view.verdict_at_ns : Math.round((w.start[longest] + w.end[longest]) / 2);
};
Q.start = async () => {
  if (typeof DecompressionStream === "undefined") {
    Q.cannot("this browser has no DecompressionStream. Chromium 80, Firefox 113 and Safari 16.4 and later have it.");
    return;
  }
  Q.view = JSON.parse(await Q.unpack("packed-view"));
  Q.waits.unpack(Q.view, await Q.unpackBytes("packed-density"));
  Q.home = Q.homeMoment();
  Object.assign(Q.state, { t0: 0, t1: Q.view.span_ns, at: Q.home });
  Object.assign(Q.state, Q.address.read());
  Q.readTheme();
  Q.waits.search(Q.state.query);
  Q.mount();
  Q.navigation();
  Q.redraw();
  Q.details.render();
  Q.firstPicture = performance.now();
  let size = 0;
  const resized = () => {
    cancelAnimationFrame(size);
    size = requestAnimationFrame(everything);
  };
  const everything = () => { Q.redraw(); Q.graph.draw(); Q.figures.draw(); };
  let wide = innerWidth;
  new ResizeObserver(() => { if (innerWidth !== wide) { wide = innerWidth; resized(); } }).observe(document.documentElement);
  // The sheet's width holds from here on; the picture of it is taken before the next frame.
  matchMedia("print").addEventListener("change", everything);
  // Let the browser paint before it reads five megabytes of script.
  await new Promise((done) => requestAnimationFrame(() => setTimeout(done, 0)));
  const script = document.createElement("script");
  script.textContent = await Q.unpack("packed-plotly");
  document.head.append(script);
  Q.graph.begin();
  Q.figures.begin();
  document.documentElement.dataset.ready = "true";
};
