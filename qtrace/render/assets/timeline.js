// The timeline: labels, lanes, axis, time cursor, arrows of the selected wait.
"use strict";
Q.timeline = (() => {
  let rows = [], rowOfLane = new Map(), height = 0, parts, hover = null;
  const AXIS = 26;

  const mount = (root) => {
    parts = {
      root,
      axis: Q.el("canvas", { class: "axis", "aria-hidden": "true" }),
      labels: Q.el("div", { class: "labels" }),
      canvas: Q.el("canvas", { class: "lanes", tabindex: "0", role: "img", "aria-label": "Timeline: a lane a thread, coloured by kind of wait. The table of waits below holds the same as text." }),
      body: Q.el("div", { class: "tl-body" }),
      scroll: Q.el("div", { class: "tl-scroll" }),
    };
    parts.body.append(parts.labels, parts.canvas);
    parts.scroll.append(parts.body);
    root.append(Q.el("div", { class: "tl-axis" }, Q.el("span", { class: "corner", text: "seconds" }), parts.axis), parts.scroll);
    parts.scroll.addEventListener("scroll", draw, { passive: true });
    Q.gestures(parts.canvas, { hover: onHover, click: onClick, leave: () => { hover = null; Q.tip.hide(); draw(); } });
    Q.gestures(parts.axis, { click: (x) => Q.set({ at: timeAt(x) }) });
    relabel();
  };

  const relabel = () => {
    const built = Q.rows.build();
    rows = built.rows;
    height = built.height;
    rowOfLane = new Map();
    for (const row of rows) for (const n of row.type === "lane" ? [row.lane] : row.lanes || []) rowOfLane.set(n, row);
    parts.labels.replaceChildren(...rows.map(Q.rows.label));
    parts.body.style.height = `${height}px`;
  };

  const width = () => Math.max(parts.body.clientWidth - Q.gutter(), 50);
  const x = (time) => ((time - Q.state.t0) / (Q.state.t1 - Q.state.t0)) * width();
  const timeAt = (px) => Q.state.t0 + (px / width()) * (Q.state.t1 - Q.state.t0);

  const draw = () => {
    const wide = width();
    const high = Math.min(parts.scroll.clientHeight, height);
    const top = parts.scroll.scrollTop;
    drawAxis(wide);
    const context = Q.sized(parts.canvas, wide, high);
    context.font = "11px system-ui, sans-serif";
    context.textBaseline = "middle";
    grid(context, wide, high);
    for (const row of rows) {
      const y = row.y - top;
      if (y > high || y + row.height < 0) continue;
      if (row.type === "lane") Q.draw.lane(context, row.lane, y + 2, row.height - 5, wide, false);
      else if (row.type === "fold") Q.draw.lane(context, row.lanes[0], y + 2, row.height - 5, wide, false);
      else if (row !== rows[0]) { context.fillStyle = Q.theme.line; context.fillRect(0, y - 1, wide, 1); }
    }
    gaps(context, wide, high);
    drawSelection(context, wide, top);
    cursor(context, high);
  };
  // Where calls are missing: a lane that looks as if it ran may have waited.
  const gaps = (context, wide, high) => {
    for (const [from, to] of Q.view.gaps) {
      const [left, right] = [Math.max(x(from), 0), Math.min(x(to), wide)];
      if (right < 0 || left > wide) continue;
      context.fillStyle = Q.theme.veil;
      context.fillRect(left, 0, Math.max(right - left, 2), high);
      if (right - left < 90) continue;
      context.fillStyle = Q.theme.ink;
      context.fillText("not recorded", left + 6, high - 10);
    }
  };

  // Steps of 1, 2 or 5 times a power of ten, 110 pixels apart, or a third of a narrow screen.
  const ticks = (wide) => {
    const { t0, t1 } = Q.state;
    const rough = ((t1 - t0) * Math.min(110, wide / 3.5)) / wide;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = power * [1, 2, 5, 10].find((m) => m * power >= rough);
    const found = [];
    for (let t = Math.ceil(t0 / step) * step; t <= t1; t += step) found.push(t);
    return { step, found };
  };
  const grid = (context, wide, high) => {
    context.fillStyle = Q.theme.grid;
    for (const t of ticks(wide).found) context.fillRect(Math.round(x(t)), 0, 1, high);
  };
  const drawAxis = (wide) => {
    const context = Q.sized(parts.axis, wide, AXIS);
    const { step, found } = ticks(wide);
    const decimals = Q.clamp(Math.ceil(-Math.log10(step / 1e9)), 0, 9);
    context.font = "11px system-ui, sans-serif";
    context.textBaseline = "middle";
    for (const t of found) {
      const px = Math.round(x(t));
      context.fillStyle = Q.theme.line;
      context.fillRect(px, AXIS - 6, 1, 6);
      context.fillStyle = Q.theme.muted;
      const text = (t / 1e9).toFixed(decimals);
      context.fillText(text, Math.min(px + 3, wide - context.measureText(text).width - 2), AXIS / 2);
    }
  };
  const cursor = (context, high) => {
    const px = Math.round(x(Q.state.at));
    context.fillStyle = Q.theme.accent;
    context.fillRect(px - (px >= width() - 1 ? 2 : 0), 0, 1.5, high);
  };

  const box = (row, top) => {
    const w = Q.waits.columns;
    const place = rowOfLane.get(w.lane[row]);
    return place ? { x0: x(w.start[row]), x1: x(w.end[row]), y: place.y - top, h: place.height - 1 } : null;
  };
  const outline = (context, row, top, colour, wide) => {
    const at = box(row, top);
    if (!at) return;
    const [left, right] = [Math.max(at.x0, 1), Math.min(at.x1, wide - 1)];
    context.strokeStyle = colour;
    context.lineWidth = 2;
    context.strokeRect(left, at.y + 1, Math.max(right - left, 3), at.h - 2);
  };
  const drawSelection = (context, wide, top) => {
    if (hover !== null && hover >= 0) outline(context, hover, top, Q.theme.muted, wide);
    const selected = Q.state.selected;
    if (selected < 0) return;
    const hops = Q.waits.chainOf(selected);
    hops.forEach((hop, n) => {
      const from = box(hop.from, top);
      const row = rowOfLane.get(hop.lane);
      if (!from || !row) return;
      // Unfinished waits overlap to the end: their arrows stand apart, in the order of the chain.
      const left = Q.clamp(x(hop.time), 12, wide - 40);
      const px = hop.open ? left + ((wide - 40 - left) * (n + 1)) / (hops.length + 1) : x(hop.time);
      arrow(context, px, from.y + from.h / 2, row.y - top + row.height / 2, hop.open);
    });
    outline(context, selected, top, Q.theme.accent, wide);
  };
  // Unfinished: from the waiter to who could end it. Ended: from the waker to whom it woke.
  const arrow = (context, px, fromY, toY, open) => {
    const [tail, head] = open ? [fromY, toY] : [toY, fromY];
    const way = Math.sign(head - tail) || 1;
    const bend = Q.clamp(Math.abs(head - tail) / 6, 6, 22);
    const line = new Path2D();
    line.moveTo(px, tail);
    line.bezierCurveTo(px + bend, tail + way * 4, px + bend, head - way * 12, px, head - way * 5);
    const ends = new Path2D();
    ends.arc(px, tail, 3, 0, 7);
    ends.moveTo(px, head);
    ends.lineTo(px - 4.5, head - way * 8);
    ends.lineTo(px + 4.5, head - way * 8);
    ends.closePath();
    // A halo, for the arrow crosses bars of any colour.
    context.strokeStyle = Q.theme.card;
    context.lineWidth = 5;
    context.lineJoin = "round";
    context.stroke(line);
    context.stroke(ends);
    context.strokeStyle = context.fillStyle = open ? Q.theme.stuck : Q.theme.accent;
    context.lineWidth = 2;
    context.setLineDash(open ? [] : [4, 3]);
    context.stroke(line);
    context.setLineDash([]);
    context.fill(ends);
  };

  const laneAt = (py) => {
    const y = py + parts.scroll.scrollTop;
    const row = rows.find((r) => y >= r.y && y < r.y + r.height);
    return row && row.type !== "process" ? (row.type === "lane" ? row.lane : row.lanes[0]) : -1;
  };
  const hit = (px, py) => {
    const lane = laneAt(py);
    if (lane < 0) return { lane, row: -1 };
    const w = Q.waits.columns;
    const near = [0, -2, 2, -4, 4].map((d) => Q.waits.at(lane, timeAt(px + d)));
    return { lane, row: near.find((row) => row >= 0 && Q.waits.shown(row) && w.lane[row] === lane) ?? -1 };
  };
  const onHover = (px, py, event) => {
    const { lane, row } = hit(px, py);
    if (row !== hover) { hover = row; draw(); }
    if (lane < 0) Q.tip.hide();
    else Q.tip.show(event, row >= 0 ? Q.details.tip(row) : Q.details.quietTip(lane, timeAt(px), (Q.state.t1 - Q.state.t0) / width()));
  };
  const onClick = (px, py) => {
    const { row } = hit(px, py);
    Q.set(row >= 0 ? { selected: row, at: Q.clamp(timeAt(px), 0, Q.view.span_ns) } : { at: Q.clamp(timeAt(px), 0, Q.view.span_ns) });
  };
  // Bring a wait into sight, in time and in the list of lanes.
  const reveal = (row, moment) => {
    const w = Q.waits.columns;
    const lane = Q.view.lanes[w.lane[row]];
    const change = { selected: row, at: moment !== undefined ? moment : w.open[row] ? w.end[row] : (w.start[row] + w.end[row]) / 2 };
    if (w.end[row] < Q.state.t0 || w.start[row] > Q.state.t1) {
      const middle = (w.start[row] + w.end[row]) / 2;
      const half = Math.max((Q.state.t1 - Q.state.t0) / 2, w.dur[row] * 0.75);
      Object.assign(change, Q.window(middle - half, middle + half));
    }
    if (lane.fold >= 0 && !Q.state.unfolded.has(lane.fold)) Object.assign(change, { unfolded: new Set([...Q.state.unfolded, lane.fold]), rows: true });
    Q.set(change);
    requestAnimationFrame(() => {
      const place = rowOfLane.get(w.lane[row]);
      if (!place) return;
      const { scrollTop, clientHeight } = parts.scroll;
      if (place.y < scrollTop || place.y + place.height > scrollTop + clientHeight) parts.scroll.scrollTop = place.y - clientHeight / 2;
    });
  };
  Q.onChange((change) => {
    if (!parts) return;
    if (change.offThreads || change.rows || change.unfolded) relabel();
    draw();
  });
  return { mount, draw, reveal, relabel, timeAt, x, width, ticks, grid, gaps };
})();
