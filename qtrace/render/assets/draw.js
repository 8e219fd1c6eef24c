// Drawing of one lane: life, exact waits, and the density of waits too short to be seen singly.
"use strict";
Q.draw = (() => {
  const SINGLE = 1.5; // pixels from which a wait is drawn by itself
  let cover = [], base = new Float32Array(0), wide = 0;
  const used = new Set();

  const prepare = (width) => {
    if (wide === width && cover.length) return;
    wide = width;
    cover = Q.view.kinds.map(() => new Float32Array(width));
    base = new Float32Array(width);
  };
  // How much of each pixel's time was waited, by kind.
  const add = (kind, width, from, to, weight) => {
    const first = Math.max(Math.floor(from), 0);
    const last = Math.min(Math.floor(to), width - 1);
    const mine = cover[kind];
    used.add(kind);
    for (let px = first; px <= last; px++) mine[px] += Math.max(Math.min(to, px + 1) - Math.max(from, px), 0.02) * weight;
  };
  // Short waits as columns, one kind on top of the other: a path for each kind, for one pixel's rectangle
  // at a time would take a hundred milliseconds for a full screen.
  const flush = (context, y, height, width) => {
    if (!used.size) return;
    base.fill(0);
    for (const kind of [...used].sort((a, b) => a - b)) {
      const mine = cover[kind];
      context.fillStyle = Q.colour(kind);
      context.beginPath();
      for (let px = 0; px < width;) {
        if (mine[px] === 0) { px++; continue; }
        const from = px;
        while (px < width && mine[px] !== 0) px++;
        context.moveTo(from, y + height - base[from]);
        for (let i = from; i < px; i++) {
          const top = Math.min(base[i] + Math.max(mine[i] * height, 1.5), height);
          context.lineTo(i, y + height - top);
          context.lineTo(i + 1, y + height - top);
          mine[i] = top;
        }
        for (let i = px - 1; i >= from; i--) {
          context.lineTo(i + 1, y + height - base[i]);
          context.lineTo(i, y + height - base[i]);
          base[i] = mine[i];
        }
      }
      context.fill();
      mine.fill(0);
    }
    used.clear();
  };

  const label = (context, row, x0, x1, y, height) => {
    const w = Q.waits.columns;
    const room = x1 - x0 - 12;
    if (room < 44) return;
    const kind = Q.view.kinds[w.kind[row]].id;
    const full = w.object[row] >= 0 && Q.objectName(w.object[row]) !== kind ? `${kind} · ${Q.objectName(w.object[row])}` : kind;
    const text = context.measureText(full).width <= room ? full : kind;
    if (context.measureText(text).width > room) return;
    if (Q.view.kinds[w.kind[row]].hatch !== "none") {
      context.fillStyle = Q.colour(w.kind[row]);
      context.fillRect(x0 + 3, y + 2, context.measureText(text).width + 6, height - 4);
    }
    context.fillStyle = Q.inkOn(Q.colour(w.kind[row]));
    context.fillText(text, x0 + 6, y + height / 2 + 0.5);
  };

  const lane = (context, number, y, height, width, quiet) => {
    const { t0, t1 } = Q.state;
    const scale = width / (t1 - t0);
    const w = Q.waits.columns;
    const mine = Q.waits.lane(number);
    const life = Q.view.lanes[number];
    prepare(Math.ceil(width));
    const lifeFrom = Math.max((life.start_ns - t0) * scale, 0);
    const lifeTo = Math.min((life.end_ns - t0) * scale, width);
    if (lifeTo > lifeFrom) {
      context.fillStyle = Q.theme.life;
      context.fillRect(lifeFrom, y, lifeTo - lifeFrom, height);
    }
    const dimmed = [];
    const singles = [];
    let row = Math.max(Q.after(w.start, t0, mine.low, mine.high) - 1, mine.low);
    for (; row < mine.high && w.start[row] < t1; row++) {
      if (!Q.waits.shown(row)) continue;
      const x0 = (w.start[row] - t0) * scale;
      const x1 = w.open[row] ? Math.max((w.end[row] - t0) * scale, x0 + 2) : (w.end[row] - t0) * scale;
      if (x1 < 0) continue;
      if (x1 - x0 >= SINGLE) (Q.waits.found(row) ? singles : dimmed).push([row, Math.max(x0, -4), Math.min(x1, width + 4)]);
      else if (Q.waits.found(row)) add(w.kind[row], width, x0, x1, 1);
    }
    if (Q.state.shortest === 0 && !Q.waits.searching()) densityOf(mine, width, scale, t0);
    flush(context, y, height, Math.ceil(width));
    context.globalAlpha = 0.14;
    for (const [at, x0, x1] of dimmed) bar(context, at, x0, x1, y, height, quiet);
    context.globalAlpha = 1;
    for (const [at, x0, x1] of singles) {
      bar(context, at, x0, x1, y, height, quiet);
      if (!quiet) label(context, at, Math.max(x0, 0), Math.min(x1, width), y, height);
    }
    if (!quiet) for (const [at, x0, x1] of singles) if (w.open[at]) openEnd(context, at, x0, x1, y, height, width);
  };

  const densityOf = (mine, width, scale, t0) => {
    for (const { kind, levels } of mine.density) {
      if (Q.state.hidden.has(kind)) continue;
      // The coarsest level whose bins are no wider than a pixel.
      let d = levels[0];
      for (const level of levels) if (level.width * scale <= 1) d = level;
      const from = Q.after(d.bin, t0 / d.width - 1);
      const stop = Q.after(d.bin, Q.state.t1 / d.width);
      for (let i = from; i < stop; i++) {
        const x0 = (d.bin[i] * d.width - t0) * scale;
        add(kind, width, x0, x0 + d.width * scale, d.share[i]);
      }
    }
  };

  const bar = (context, row, x0, x1, y, height, quiet) => {
    const kind = Q.waits.columns.kind[row];
    context.fillStyle = quiet ? Q.colour(kind) : Q.fill(context, kind);
    // Thin gaps keep neighbours of one kind apart.
    context.fillRect(x0, y, Math.max(x1 - x0 - (x1 - x0 > 4 ? 0.75 : 0), 1), height);
  };

  // A wait that never ended: torn right edge, so it is not read as one that ended there.
  const openEnd = (context, row, x0, x1, y, height, width) => {
    const edge = Math.min(x1, width);
    if (edge < 2 || edge - x0 < 5) return;
    const stuck = Q.stuckLanes.has(Q.waits.columns.lane[row]);
    context.fillStyle = stuck ? Q.theme.stuck : Q.theme.muted;
    context.fillRect(Math.max(x0, 0), y + height, edge - Math.max(x0, 0), 2);
    context.beginPath();
    context.moveTo(edge - 7, y);
    context.lineTo(edge, y);
    context.lineTo(edge, y + height);
    context.lineTo(edge - 7, y + height);
    context.lineTo(edge, y + height / 2);
    context.closePath();
    context.fill();
  };
  return { lane };
})();
