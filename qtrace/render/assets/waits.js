// The waits of the page: columns unpacked, filtered, searched, and followed from waiter to waker.
"use strict";
Q.waits = (() => {
  let w, density, lanes, matches;

  // The same density at half the resolution, and at half of that, down to a screen's width: whatever
  // the zoom, a lane is drawn from no more bins than it has pixels.
  const FEWEST = 512;
  const coarser = (fine, low, high) => {
    let level = { width: fine.width, bin: fine.bin.subarray(low, high), share: Float32Array.from(fine.share.subarray(low, high), (share) => share / 255) };
    const levels = [level];
    for (let bins = Q.view.density.bins; bins > FEWEST && level.bin.length > FEWEST; bins /= 2) {
      const bin = new Uint32Array(level.bin.length), share = new Float32Array(level.bin.length);
      let size = 0;
      for (let i = 0; i < level.bin.length; i++) {
        const half = level.bin[i] >> 1;
        if (size && bin[size - 1] === half) share[size - 1] += level.share[i] / 2;
        else { bin[size] = half; share[size++] = level.share[i] / 2; }
      }
      level = { width: level.width * 2, bin: bin.slice(0, size), share: share.slice(0, size) };
      levels.push(level);
    }
    return levels;
  };

  const unpack = (view, buffer) => {
    const columns = view.waits;
    w = { id: Q.sums(columns.id), lane: Q.sums(columns.lane), start: Q.sums(columns.start), dur: columns.dur, kind: columns.kind,
      object: columns.object, call: columns.call, text: columns.text, waker: columns.waker, stack: columns.stack };
    w.size = w.id.length;
    w.end = Float64Array.from(w.start, (start, i) => start + w.dur[i]);
    w.open = new Uint8Array(w.size);
    for (const row of columns.unfinished) w.open[row] = 1;
    lanes = view.lanes.map(() => ({ low: 0, high: 0, density: [] }));
    for (let row = 0; row < w.size; row++) {
      const lane = lanes[w.lane[row]];
      if (lane.high === 0) lane.low = row;
      lane.high = row + 1;
    }
    const { bins, series } = view.density;
    const size = series.reduce((sum, [, , count]) => sum + count, 0);
    const step = new Uint16Array(buffer, size * 4, size);
    density = { width: view.span_ns / bins, bin: new Uint32Array(size), count: new Uint32Array(buffer, 0, size), share: new Uint8Array(buffer, size * 6, size) };
    let low = 0;
    for (const [lane, kind, marks] of series) {
      let bin = 0;
      for (let i = low; i < low + marks; i++) density.bin[i] = bin += step[i];
      lanes[lane].density.push({ kind, low, high: low + marks, levels: coarser(density, low, low + marks) });
      low += marks;
    }
    matches = null;
    Object.assign(api, { columns: w, density });
  };

  const rowText = (row) => {
    const stack = w.stack[row] >= 0 ? Q.view.stacks[w.stack[row]].map((f) => Q.view.frames[f].join(" ")).join(" ") : "";
    return `${Q.view.waits.texts[w.text[row]]} ${Q.objectName(w.object[row])} ${Q.view.kinds[w.kind[row]].id} ${Q.laneName(w.lane[row])} ${stack}`.toLowerCase();
  };
  const search = (query) => {
    const wanted = query.trim().toLowerCase().split(/\s+/).filter(Boolean);
    if (!wanted.length) { matches = null; return; }
    matches = new Uint8Array(w.size);
    for (let row = 0; row < w.size; row++) {
      const text = rowText(row);
      if (wanted.every((word) => text.includes(word))) matches[row] = 1;
    }
  };
  const shown = (row) => !Q.state.hidden.has(w.kind[row]) && w.dur[row] >= Q.state.shortest;
  const found = (row) => matches === null || matches[row] === 1;
  const passes = (row) => shown(row) && found(row) && !Q.state.offThreads.has(Q.view.lanes[w.lane[row]].tid);

  // The wait of a lane that holds a moment, or -1.
  const at = (lane, time) => {
    const { low, high } = lanes[lane];
    const row = Q.after(w.start, time, low, high) - 1;
    return row >= low && high > low && (w.end[row] >= time || w.open[row]) ? row : -1;
  };
  const ofId = (id) => w.id.indexOf(id);

  // Who the verdict says could end a thread's last wait: lanes, those on the chain first.
  const providersOf = (lane) => {
    const graph = Q.view.graph;
    const key = `t${Q.view.lanes[lane].tid}`;
    const objects = graph.arrows.filter((a) => a.source === key).map((a) => a.target);
    const ends = graph.arrows.filter((a) => objects.includes(a.source) && a.target !== key);
    const inner = ends.filter((a) => a.in_chain);
    return (inner.length ? inner : ends).map((a) => Q.laneOfKey(a.target)).filter((n) => n >= 0);
  };
  // From a wait to what it hung on, hop by hop: who woke it, and what had held the waker up until then.
  const chainOf = (row) => {
    const hops = [];
    const seen = new Set();
    while (row >= 0 && !seen.has(row) && hops.length < 24) {
      seen.add(row);
      if (w.open[row]) {
        const lane = providersOf(w.lane[row])[0];
        if (lane === undefined) break;
        const next = at(lane, Q.view.span_ns);
        hops.push({ from: row, lane, time: Math.max(w.start[row], next >= 0 ? w.start[next] : 0), open: true, next });
        row = next;
      } else {
        const lane = w.waker[row];
        if (lane < 0) break;
        const before = Q.after(w.start, w.end[row], lanes[lane].low, lanes[lane].high) - 1;
        const next = before >= lanes[lane].low && w.end[before] > w.start[row] && w.end[before] <= w.end[row] ? before : -1;
        hops.push({ from: row, lane, time: w.end[row], open: false, next });
        row = next;
      }
    }
    return hops;
  };

  // How many waits too short to be kept singly lie under one pixel, by kind.
  const foldedAt = (lane, time, perPixel) => {
    const reach = Math.max(perPixel, density.width);
    const found = [];
    for (const { kind, low, high } of lanes[lane].density) {
      if (Q.state.hidden.has(kind)) continue;
      let [count, share] = [0, 0];
      for (let i = Math.max(Q.after(density.bin, (time - reach / 2) / density.width - 1, low, high), low); i < high && density.bin[i] * density.width <= time + reach / 2; i++) {
        count += density.count[i];
        share += (density.share[i] / 255) * density.width;
      }
      if (count) found.push({ kind, count, share: Math.min(share / reach, 1) });
    }
    return found.sort((a, b) => b.share - a.share);
  };
  // Whether the verdict speaks of this wait: it was going on at that moment.
  const isVerdicts = (row) => w.open[row] === 1 && Q.view.graph.nodes.some((n) => n.tid === Q.view.lanes[w.lane[row]].tid && n.kind);

  // Before anything that draws: this listener is registered first.
  Q.onChange((change) => { if ("query" in change) search(Q.state.query); });

  const api = { unpack, search, shown, found, passes, at, ofId, chainOf, providersOf, rowText, foldedAt, isVerdicts, lane: (n) => lanes[n], searching: () => matches !== null };
  return api;
})();

Q.laneOfKey = (key) => {
  Q.laneOfTid ||= new Map(Q.view.lanes.map((lane, n) => [`t${lane.tid}`, n]));
  return Q.laneOfTid.has(key) ? Q.laneOfTid.get(key) : -1;
};
