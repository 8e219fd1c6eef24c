// The wait-for graph, drawn by Plotly, for the moment chosen in the timeline.
"use strict";
Q.graph = (() => {
  const FEW = 9;
  let most = FEW, everything = false, drawnFor = "", ready = false;

  // Plotly reads a little markup in texts: what comes from the program must not be markup.
  const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  // Rounded rectangle for threads, a pill for what they wait on.
  const outline = ({ x, y, w, h, shape }) => {
    const r = shape === "object" ? h / 2 : 8;
    return `M${x + r},${y}L${x + w - r},${y}Q${x + w},${y} ${x + w},${y + r}L${x + w},${y + h - r}Q${x + w},${y + h} ${x + w - r},${y + h}L${x + r},${y + h}Q${x},${y + h} ${x},${y + h - r}L${x},${y + r}Q${x},${y} ${x + r},${y}Z`;
  };
  const edgePoint = (from, to) => {
    const [cx, cy] = [from.x + from.w / 2, from.y + from.h / 2];
    const [dx, dy] = [to.x + to.w / 2 - cx, to.y + to.h / 2 - cy];
    const scale = Math.min(Math.abs(dx) > 0.5 ? (from.w / 2 + 3) / Math.abs(dx) : Infinity, Math.abs(dy) > 0.5 ? (from.h / 2 + 3) / Math.abs(dy) : Infinity);
    return [cx + dx * Math.min(scale, 1), cy + dy * Math.min(scale, 1)];
  };
  const step = (key) => Q.view.chain.findIndex((link) => `t${link.tid}` === key) + 1;

  // The two ends of an arrow; where another goes the other way, each keeps to its own side.
  const endsOf = (arrow, nodes) => {
    const [from, to] = [nodes.get(arrow.source), nodes.get(arrow.target)];
    const [a, b] = [edgePoint(from, to), edgePoint(to, from)];
    const length = Math.hypot(b[0] - a[0], b[1] - a[1]) || 1;
    const aside = arrow.twin ? [(-(b[1] - a[1]) / length) * 7, ((b[0] - a[0]) / length) * 7] : [0, 0];
    return [from, to, [a[0] - aside[0], a[1] - aside[1]], [b[0] - aside[0], b[1] - aside[1]]];
  };
  // The colour of alarm is for what is stuck; the chain of a program that only waits has a calm one.
  const chainColour = () => (Q.view.graph.nodes.some((node) => node.stuck) ? Q.theme.stuck : Q.theme.calm);
  const trace = (arrow, nodes) => {
    const [from, to, a, b] = endsOf(arrow, nodes);
    const hot = arrow.in_chain;
    // Straight on the spine; elsewhere bent aside, so that two arrows between a pair stay two.
    const level = Math.abs(a[1] - b[1]) < 2 && Math.abs(a[0] - b[0]) < 120;
    const bend = level || (from.spine && to.spine) ? 0 : Math.min(Math.hypot(b[0] - a[0], b[1] - a[1]) / 7, 40);
    const length = Math.hypot(b[0] - a[0], b[1] - a[1]) || 1;
    const middle = [(a[0] + b[0]) / 2 + ((b[1] - a[1]) / length) * bend, (a[1] + b[1]) / 2 - ((b[0] - a[0]) / length) * bend];
    const xs = [], ys = [];
    const points = bend ? 14 : 1;
    for (let i = 0; i <= points; i++) {
      const t = i / points;
      xs.push((1 - t) ** 2 * a[0] + 2 * t * (1 - t) * middle[0] + t * t * b[0]);
      ys.push((1 - t) ** 2 * a[1] + 2 * t * (1 - t) * middle[1] + t * t * b[1]);
    }
    const colour = hot ? chainColour() : Q.theme.muted;
    return { type: "scatter", mode: "lines+markers", x: xs, y: ys, hoverinfo: "skip", showlegend: false,
      line: { color: colour, width: hot ? 2.5 : 1.25, dash: arrow.certainty === "proven" ? "solid" : "dash" },
      marker: { symbol: "arrow", angleref: "previous", color: colour, opacity: 1, line: { width: 0 }, size: xs.map((_, i) => (i === xs.length - 1 ? (hot ? 13 : 9) : 0)) } };
  };
  const edgeLabel = (arrow, nodes) => {
    const [from, to, a, b] = endsOf(arrow, nodes);
    if (!from.spine || !to.spine || (Q.view.graph.nodes.length && !arrow.in_chain)) return null;
    // A second label would lie on the first: of a pair the way onward is labelled.
    if (arrow.twin && from.onward > to.onward) return null;
    const upright = Math.abs(b[1] - a[1]) > Math.abs(b[0] - a[0]);
    if (!upright && Math.abs(b[0] - a[0]) < 56) return null;
    const below = arrow.twin && b[0] < a[0];
    // Across the picture a label would lie on its own line: it gets a ground to stand on.
    const slanted = !upright && Math.abs(b[1] - a[1]) > 12;
    return { x: (a[0] + b[0]) / 2, y: (a[1] + b[1]) / 2, text: arrow.role === "waits" ? "waits for" : "ended by", showarrow: false, font: { size: 11, color: Q.theme.muted },
      xanchor: upright ? "left" : "center", yanchor: upright || slanted ? "middle" : below ? "top" : "bottom", xshift: upright ? (arrow.twin ? 14 : 6) : 0, yshift: upright || slanted ? 0 : below ? -2 : 2, bgcolor: slanted ? Q.theme.card : "rgba(0,0,0,0)" };
  };
  const hover = (node, model) => {
    const out = model.arrows.filter((a) => a.source === node.key && a.label);
    const lines = [`<b>${plain(node.title)}</b> ${plain(node.subtitle)}`];
    if (node.tid !== null && node.many === 1) lines.push(`tid ${node.tid}`);
    if (node.kind) lines.push(`waits: ${plain(node.kind)}`);
    if (node.live) lines.push(`can go on: ${plain(node.live)}`);
    if (node.shape === "object") for (const arrow of out.slice(0, 6)) lines.push(`ended by ${plain((model.nodes.find((n) => n.key === arrow.target) || {}).title || "")}: ${plain(arrow.label)}`);
    return lines.map((line) => (line.length > 110 ? `${line.slice(0, 108)}…` : line)).join("<br>");
  };
  const label = (node, model) => {
    const number = step(node.key);
    const margin = node.shape === "object" ? 30 : 20;
    // Of one process alone, its name says nothing.
    const alone = new Set(model.nodes.filter((n) => n.shape === "thread").map((n) => n.subtitle)).size === 1 && node.many === 1;
    const [name, under] = node.shape === "thread" && !alone ? [node.subtitle || node.title, node.subtitle ? node.title : ""] : [node.title, alone && node.shape === "thread" ? "" : node.subtitle];
    const title = Q.cut(`${number && node.shape === "thread" ? `${number}  ` : ""}${name}`, node.w - margin, `bold 13px ${Q.theme.font}`);
    const ends = node.endedBy && node.endedBy.length ? `ended by ${node.endedBy[0]}${node.endedBy.length > 1 ? ` and ${node.endedBy.length - 1} more` : ""}` : "";
    const second = Q.cut(ends ? [under, ends].filter(Boolean).join(" · ") : (node.live && !node.kind ? ["can go on", under] : [under, node.kind]).filter(Boolean).join(" · "), node.w - margin, `11px ${Q.theme.font}`);
    return { x: node.x + node.w / 2, y: node.y + node.h / 2, showarrow: false, width: node.w - 4, height: node.h - 4, align: "center", valign: "middle", captureevents: true, name: node.key, hovertext: hover(node, model),
      text: `<b>${plain(title)}</b>${second ? `<br><span style="font-size:11px">${plain(second)}</span>` : ""}`,
      font: { size: 13, color: node.stuck ? Q.theme.ink : node.shape === "object" ? Q.theme.ink : Q.theme.muted }, bgcolor: "rgba(0,0,0,0)" };
  };

  const draw = (force) => {
    if (!ready) return;
    const root = Q.id("graph-figure");
    const wide = Math.floor(root.clientWidth);
    const time = Q.state.at;
    const stamp = [wide, Math.round(time), most, Q.isDark(), Q.state.selected].join();
    if (!wide || (stamp === drawnFor && !force)) return;
    drawnFor = stamp;
    const model = Q.graphLayout.modelAt(time);
    const placed = Q.graphLayout.layout(model, wide, most, everything);
    words(model, placed);
    if (!placed.nodes.length) {
      Plotly.purge(root);
      root.replaceChildren(Q.el("p", { class: "empty", text: Q.waits.columns.size ? `At ${Q.moment(time)} no thread was in a wait that is kept by itself.` : "No thread waited: there is nothing to draw." }));
      return;
    }
    const nodes = new Map(placed.nodes.map((n) => [n.key, n]));
    const chainObject = new Set(placed.arrows.filter((a) => a.in_chain && a.role === "waits").map((a) => a.target));
    const shapes = placed.nodes.map((node) => {
      const hot = node.stuck || chainObject.has(node.key);
      return { type: "path", path: outline(node), layer: "above", fillcolor: node.stuck ? Q.theme.stuckSoft : Q.theme.card, line: { color: hot ? chainColour() : Q.theme.muted, width: node.stuck ? 2.25 : hot ? 1.5 : 1.1, dash: node.live ? "dot" : "solid" } };
    });
    const annotations = [...placed.nodes.map((node) => label(node, model)), ...placed.arrows.map((a) => edgeLabel(a, nodes)).filter(Boolean)];
    if (placed.hasRest && placed.spine.path.length) annotations.push({ x: 8, y: placed.restTop - 6, xanchor: "left", yanchor: "bottom", showarrow: false, text: model.source === "verdict" && Q.view.chain.length ? "beside the chain" : "other threads", font: { size: 12, color: Q.theme.muted } });
    // Data units are pixels: boxes and letters keep their size, whatever the page's width.
    const axis = { visible: false, fixedrange: true, zeroline: false };
    const figure = { width: wide, height: placed.height, margin: { l: 0, r: 0, t: 0, b: 0 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false, hovermode: false, dragmode: false,
      xaxis: { ...axis, range: [0, wide] }, yaxis: { ...axis, range: [placed.height, 0] }, shapes, annotations, font: { family: Q.theme.font } };
    if (!root.classList.contains("js-plotly-plot")) root.replaceChildren();
    Plotly.react(root, placed.arrows.map((a) => trace(a, nodes)), figure, { displayModeBar: false, responsive: false }).then(() => {
      root.removeAllListeners("plotly_clickannotation");
      root.on("plotly_clickannotation", ({ annotation }) => choose(annotation.name));
    });
  };
  const choose = (key) => {
    const lane = Q.laneOfKey(key);
    if (lane < 0) return;
    const row = Q.waits.at(lane, Q.state.at);
    if (row >= 0) Q.timeline.reveal(row);
  };
  // The same in words: for those who cannot see the figure, and for the moment that it shows.
  const words = (model, placed) => {
    const verdict = model.source === "verdict";
    const change = Math.abs(model.time - Q.home) > 1000;
    if (!Q.waits.columns.size && !verdict) { Q.id("graph-lead").replaceChildren("The program did not hang."); Q.id("graph-foot").replaceChildren(); return; }
    Q.id("graph-lead").replaceChildren(verdict ? `At the moment of the verdict, ${Q.moment(model.time)}. Choose another moment by clicking in the timeline.` : `${Q.view.graph.nodes.length ? "" : "The program did not hang; this is what its threads did in the middle of its longest wait, or where you click in the timeline. "}At ${Q.moment(model.time)}: `,
      ...(change ? [Q.el("button", { type: "button", class: "link", id: "graph-verdict", text: Q.view.graph.nodes.length ? "back to the verdict's moment" : "back to the longest wait", onclick: () => Q.set({ at: Q.home }) })] : []));
    const title = new Map(model.nodes.map((n) => [n.key, [n.subtitle, n.title].filter(Boolean).join(" / ")]));
    const text = placed.arrows.map((a) => Q.el("li", { text: `${title.get(a.source)} ${a.role === "waits" ? "waits for" : "can be ended by"} ${title.get(a.target)}${a.in_chain ? " (in the chain)" : ""}` }));
    const key = (css, name) => Q.el("span", { class: `key ${css}` }, Q.el("i", { "aria-hidden": "true" }), name);
    const left = [placed.hiddenThreads ? Q.plural(placed.hiddenThreads, "more thread") : "", placed.hiddenArrows ? Q.plural(placed.hiddenArrows, "more arrow") : ""].filter(Boolean);
    const all = left.length ? Q.el("button", { type: "button", id: "graph-all", text: `Show ${left.join(" and ")}`, onclick: () => { [most, everything] = [400, true]; draw(true); } })
      : everything ? Q.el("button", { type: "button", id: "graph-fewer", text: "Show fewer", onclick: () => { [most, everything] = [FEW, false]; draw(true); } }) : null;
    Q.id("graph-foot").replaceChildren(...[key("box", "thread"), key("pill", "what it waits on"), ...(placed.arrows.some((a) => a.in_chain) ? [key(chainColour() === Q.theme.stuck ? "" : "calm", chainColour() === Q.theme.stuck ? "stuck, in the chain" : "in the chain")] : []), placed.arrows.length ? key("grey", "other") : null, placed.arrows.some((a) => a.certainty !== "proven") ? key("grey dash", "could be ended by: not proven") : null, all,
      Q.el("details", {}, Q.el("summary", { text: "As text" }), Q.el("ul", { id: "graph-text" }, ...text))].filter(Boolean));
  };
  Q.onChange((change) => { if ("at" in change || "selected" in change || change.theme) draw(); });
  return { draw, begin: () => { ready = true; draw(true); }, plain };
})();
