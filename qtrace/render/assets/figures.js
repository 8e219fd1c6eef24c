// Where the time went, drawn by Plotly: by thread and kind of wait, and along the critical path.
"use strict";
Q.figures = (() => {
  const FEW = 24;
  let ready = false, every = false, roots = {};

  const mount = (root) => {
    if (!Q.view.lanes.length) { root.append(Q.el("p", { class: "empty", text: "No thread was seen." })); return; }
    const part = (id, title, lead) => {
      roots[id] = Q.el("div", { class: "plot", id, role: "img", "aria-label": title });
      root.append(Q.el("h3", { text: title }), lead ? Q.el("p", { class: "dim", text: lead }) : "", roots[id]);
    };
    if (Q.view.critical) part("critical", "Critical path", Q.view.graph.nodes.length ? Q.stuckLanes.size ? "What held the program up until it stopped for good." : "What held the program up until the recording ended." : "The stretches that the program's duration hangs on: making any of them shorter makes the whole shorter.");
    part("by-thread", "By thread");
    const many = Q.view.lanes.length;
    if (many > FEW || Q.view.lanes.some((lane) => lane.fold >= 0)) root.append(Q.el("button", { type: "button", class: "more", id: "all-threads", text: `All ${Q.number(many)} threads`, onclick: (event) => { every = true; event.target.hidden = true; draw(); } }));
  };
  const base = (height, left, width) => ({
    width, height, margin: { l: left, r: 12, t: 8, b: 40 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", barmode: "stack", bargap: 0.32, dragmode: false,
    font: { family: Q.theme.font, size: 12, color: Q.theme.ink }, hoverlabel: { bgcolor: Q.theme.card, bordercolor: Q.theme.line, font: { color: Q.theme.ink, family: Q.theme.font, size: 12 }, align: "left" },
    xaxis: { ticksuffix: " s", gridcolor: Q.theme.grid, zeroline: false, fixedrange: true, tickfont: { color: Q.theme.muted } },
    yaxis: { autorange: "reversed", fixedrange: true, automargin: false, tickfont: { size: 12 }, ticklabelstandoff: 6 },
    legend: { orientation: "h", traceorder: "normal", y: -48 / Math.max(height - 48, 60), yanchor: "top", x: 0, font: { size: 12 } },
  });
  // Room for as many rows of the legend as the width needs, under the axis.
  const withLegend = (bars, names, left, width) => {
    const rows = Math.ceil(names / Math.max(Math.floor((width - left) / 120), 1));
    const figure = base(bars * 26 + 56 + rows * 22, left, width);
    figure.margin.b = 44 + rows * 22;
    figure.legend.y = -40 / (figure.height - figure.margin.b - 8);
    return figure;
  };
  const HATCHES = { none: "", rise: "/", fall: "\\", dots: ".", bars: "|" };
  const look = (kind) => ({ color: Q.colour(kind), line: { width: 0 }, pattern: { shape: HATCHES[Q.view.kinds[kind].hatch], fgcolor: Q.inkOn(Q.colour(kind)), fgopacity: 0.55, fillmode: "overlay", size: 6, solidity: 0.25 } });
  const gutter = (root) => Q.clamp(root.clientWidth * 0.3, 96, 320);
  const cut = (text, pixels) => Q.cut(text, pixels, `12px ${Q.theme.font}`);
  const fit = (n, pixels) => Q.fitName(n, pixels, `12px ${Q.theme.font}`);
  const mean = (row, of) => row.reduce((sum, n) => sum + of(n), 0) / row.length;
  const lived = (row) => mean(row, (n) => Math.max(Q.view.lanes[n].end_ns - Q.view.lanes[n].start_ns, 1));
  const waited = (row) => mean(row, (n) => Q.view.time_by_kind[n].reduce((a, b) => a + b, 0));

  const byThread = () => {
    const root = roots["by-thread"];
    // Folded groups of idle workers are one bar, as they are one lane: the mean of them.
    const groups = new Map();
    Q.view.lanes.forEach((lane, n) => { const key = lane.fold >= 0 && !every ? `fold ${lane.fold}` : n; groups.set(key, [...(groups.get(key) || []), n]); });
    let order = [...groups.values()];
    if (!every && order.length > FEW) {
      // Those of the chain, and those that waited least evenly: the most running time first.
      const weight = ([n]) => (Q.stuckLanes.has(n) ? 1e18 : 0) + lived([n]) - waited([n]);
      const kept = new Set([...order].sort((a, b) => weight(b) - weight(a)).slice(0, FEW));
      order = order.filter((row) => kept.has(row));
    }
    const left = gutter(root);
    const name = ([n]) => `${Q.view.lanes[n].tid}`;
    const title = (row) => (row.length > 1 ? `${Q.number(row.length)} like ${Q.shortName(row[0])}, mean` : Q.shortName(row[0]));
    const bar = (text, values, marker) => ({ type: "bar", orientation: "h", name: text, y: order.map(name), x: values.map((v) => v / 1e9), marker, customdata: order.map((n, i) => [Q.graph.plain(title(n)), Q.duration(values[i]), Q.percent(values[i] / lived(n))]),
      hovertemplate: `<b>%{customdata[0]}</b><br>${text}: %{customdata[1]}, %{customdata[2]} of its life<extra></extra>` });
    const traces = [bar("running", order.map((n) => Math.max(lived(n) - waited(n), 0)), { color: Q.theme.life, line: { width: 1, color: Q.theme.line } })];
    for (const { kind } of Q.filters.present()) traces.push(bar(Q.view.kinds[kind].id, order.map((n) => mean(n, (lane) => Q.view.time_by_kind[lane][kind])), look(kind)));
    const figure = withLegend(order.length, traces.length, left, root.clientWidth);
    Object.assign(figure.yaxis, { type: "category", tickvals: order.map(name), ticktext: order.map((n) => Q.graph.plain(n.length > 1 ? cut(title(n), left - 16) : fit(n[0], left - 16))) });
    Plotly.react(root, traces, figure, { displayModeBar: false, responsive: false });
  };

  const critical = () => {
    const root = roots.critical;
    const path = Q.view.critical;
    if (!root || !path) return;
    const start = Q.sums(path.start);
    const left = gutter(root);
    const share = new Map();
    path.lane.forEach((n, i) => { if (n >= 0) share.set(n, (share.get(n) || 0) + path.dur[i]); });
    // The lanes that most of the path runs through, in the timeline's order.
    const lanes = [...share.keys()].sort((a, b) => share.get(b) - share.get(a)).slice(0, every ? Infinity : FEW).sort((a, b) => a - b);
    const kept = new Set(lanes);
    const kinds = [...new Set(path.kind)].sort((a, b) => a - b);
    const traces = kinds.map((kind) => {
      const rows = path.lane.map((_, i) => i).filter((i) => path.kind[i] === kind && kept.has(path.lane[i]));
      const name = kind < 0 ? "running" : Q.view.kinds[kind].id;
      return { type: "bar", orientation: "h", name, y: rows.map((i) => `${Q.view.lanes[path.lane[i]].tid}`), x: rows.map((i) => path.dur[i] / 1e9), base: rows.map((i) => start[i] / 1e9), width: rows.map(() => 0.6),
        marker: kind < 0 ? { color: Q.theme.life, line: { width: 0.75, color: Q.theme.muted } } : look(kind), customdata: rows.map((i) => [Q.graph.plain(Q.laneName(path.lane[i])), Q.duration(path.dur[i]), Q.moment(start[i]), path.object[i] >= 0 ? `, ${Q.graph.plain(Q.objectName(path.object[i]))}` : "", start[i], path.dur[i]]),
        hovertemplate: `<b>%{customdata[0]}</b><br>${name}%{customdata[3]}<br>%{customdata[1]} from %{customdata[2]}<extra></extra>` };
    });
    const figure = withLegend(lanes.length, traces.length, left, root.clientWidth);
    figure.barmode = "overlay";
    figure.showlegend = true;
    figure.xaxis.range = [0, Q.view.span_ns / 1e9];
    Object.assign(figure.yaxis, { type: "category", tickvals: lanes.map((n) => `${Q.view.lanes[n].tid}`), ticktext: lanes.map((n) => Q.graph.plain(fit(n, left - 16))), categoryorder: "array", categoryarray: lanes.map((n) => `${Q.view.lanes[n].tid}`) });
    Plotly.react(root, traces, figure, { displayModeBar: false, responsive: false }).then(() => {
      root.removeAllListeners("plotly_click");
      root.on("plotly_click", ({ points }) => {
        const [, , , , from, lasted] = points[0].customdata;
        Q.set({ ...Q.window(from - lasted, from + 2 * lasted), at: from + lasted / 2 });
        Q.id("timeline").scrollIntoView();
      });
    });
  };
  const draw = () => {
    if (!ready || !Q.view.lanes.length) return;
    byThread();
    critical();
  };
  Q.onChange((change) => { if (change.theme) draw(); });
  return { mount, draw, begin: () => { ready = true; draw(); } };
})();
