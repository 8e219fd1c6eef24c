// Where the boxes of the wait-for graph stand: the chain as a row or a ring, everything else below.
"use strict";
Q.graphLayout = (() => {
  const [NARROWEST, WIDEST, HIGH, GAP_X, GAP_Y] = [150, 284, 52, 74, 46];
  let WIDE = NARROWEST;
  // Boxes as wide as their longest name, as far as the page has room for them.
  const boxWidth = (model, wide, across) => {
    const name = (n) => Q.textWidth(n.shape === "thread" ? n.subtitle || n.title : n.title, `bold 13px ${Q.theme.font}`);
    const under = (n) => Q.textWidth(n.shape === "thread" ? `${n.title} · ${n.kind}` : n.subtitle, `11px ${Q.theme.font}`);
    const need = Math.max(...model.nodes.map((n) => Math.max(name(n), under(n))), 0) + 52;
    return Q.clamp(need, NARROWEST, Q.clamp((wide - 16 - (across - 1) * GAP_X) / across, 188, WIDEST));
  };

  // Who waits for whom at a moment, from the waits themselves. At the verdict's moment its own graph says more.
  const modelAt = (time) => {
    const { graph } = Q.view;
    const atVerdict = Math.abs(time - Q.view.verdict_at_ns) <= Math.max(Q.view.span_ns * 1e-6, 1000);
    if (atVerdict && graph.nodes.length) return { ...graph, time, source: "verdict" };
    const nodes = new Map(), arrows = [];
    const thread = (n) => {
      const lane = Q.view.lanes[n];
      const key = `t${lane.tid}`;
      if (!nodes.has(key)) nodes.set(key, { key, shape: "thread", title: lane.name, subtitle: (Q.view.processes[lane.process] || {}).name || "", stuck: false, live: "", tid: lane.tid, kind: "" });
      return nodes.get(key);
    };
    const w = Q.waits.columns;
    Q.view.lanes.forEach((lane, n) => {
      const row = lane.start_ns <= time && time <= lane.end_ns ? Q.waits.at(n, time) : -1;
      if (row < 0) return;
      const open = w.open[row] === 1;
      const node = thread(n);
      node.kind = Q.view.kinds[w.kind[row]].id;
      node.stuck = open && Q.stuckLanes.has(n);
      node.row = row;
      const object = w.object[row] >= 0 ? `o${Q.view.objects[w.object[row]].id}` : `o-of-${lane.tid}`;
      if (!nodes.has(object)) nodes.set(object, { key: object, shape: "object", title: w.object[row] >= 0 ? Q.objectName(w.object[row]) : node.kind, subtitle: "", stuck: false, live: "", tid: null, kind: "" });
      arrows.push({ source: node.key, target: object, role: "waits", label: node.kind, certainty: "proven", in_chain: node.stuck });
      const ends = open ? Q.waits.providersOf(n).slice(0, 2) : w.waker[row] >= 0 ? [w.waker[row]] : [];
      for (const end of ends) {
        const label = open ? "could end it" : `ended it ${Q.duration(w.end[row] - time)} later`;
        arrows.push({ source: object, target: thread(end).key, role: "provider", label, certainty: "proven", in_chain: node.stuck });
      }
    });
    return { nodes: [...nodes.values()], arrows, hidden_providers: 0, time, source: "waits" };
  };

  // From thread to thread along the first provider, those on the chain preferred: the spine of the picture.
  const spineOf = (model) => {
    const out = new Map();
    for (const arrow of model.arrows) out.set(arrow.source, [...(out.get(arrow.source) || []), arrow]);
    const best = (key) => {
      const arrows = out.get(key) || [];
      return (arrows.find((a) => a.in_chain) || (arrows.length === 1 ? arrows[0] : null) || null);
    };
    const walk = (key) => {
      const path = [];
      while (key && !path.includes(key)) {
        path.push(key);
        key = (best(key) || {}).target;
      }
      return { path, back: key ? path.indexOf(key) : -1 };
    };
    const chosen = Q.state.selected >= 0 ? `t${Q.view.lanes[Q.waits.columns.lane[Q.state.selected]].tid}` : "";
    const first = Q.view.chain.length ? `t${Q.view.chain[0].tid}` : "";
    const threads = model.nodes.filter((n) => n.shape === "thread" && n.kind).map((n) => n.key);
    if (model.source === "verdict" && threads.includes(first)) return walk(first);
    if (threads.includes(chosen)) return walk(chosen);
    const walks = threads.slice(0, 200).map(walk).sort((a, b) => b.path.length - a.path.length);
    return walks[0] && walks[0].path.length > 2 ? walks[0] : { path: [], back: -1 };
  };

  // A row if it fits and is no circle; otherwise there on top and back below, or down and up on a narrow page.
  const placeSpine = (spine, wide) => {
    const count = spine.path.length;
    const each = Math.min(WIDE, Math.floor((wide - 24 - 28) / 2));
    const fits = (n) => n * WIDE + (n - 1) * GAP_X <= wide - 16;
    const places = new Map();
    if (!count) return { places, high: 8, box: WIDE };
    if (spine.back < 0 && fits(count)) {
      const left = Math.max((wide - count * WIDE - (count - 1) * GAP_X) / 2, 8);
      spine.path.forEach((key, n) => places.set(key, { x: left + n * (WIDE + GAP_X), y: 10 }));
      return { places, high: HIGH + 30, box: WIDE };
    }
    const half = Math.ceil(count / 2);
    if (fits(half)) {
      const left = Math.max((wide - half * WIDE - (half - 1) * GAP_X) / 2, 8);
      spine.path.forEach((key, n) => places.set(key, n < half ? { x: left + n * (WIDE + GAP_X), y: 10 } : { x: left + (2 * half - 1 - n) * (WIDE + GAP_X), y: 10 + HIGH + GAP_Y + 14 }));
      return { places, high: 2 * HIGH + GAP_Y + 54, box: WIDE };
    }
    const apart = wide - 16 - 2 * each;
    spine.path.forEach((key, n) => places.set(key, n < half ? { x: 8, y: 10 + n * (HIGH + GAP_Y) } : { x: 8 + each + apart, y: 10 + (2 * half - 1 - n) * (HIGH + GAP_Y) }));
    return { places, high: half * (HIGH + GAP_Y) + 10, box: each };
  };

  const stem = (name) => name.replace(/\bchild \d+ of /, "child of ").replace(/[\d\-_ ]+$/, "") || name;
  // Threads beside the spine; those that wait in the same way for the same object are one box.
  const groups = (model, places) => {
    const target = new Map(model.arrows.filter((a) => a.role === "waits").map((a) => [a.source, a.target]));
    const found = new Map();
    for (const node of model.nodes) {
      if (node.shape === "object" || places.has(node.key)) continue;
      const name = stem(node.title) + stem(node.subtitle);
      const key = target.has(node.key) ? `${target.get(node.key)} ${node.kind} ${node.stuck} ${name}` : node.live ? `live ${node.live} ${name}` : `single ${node.key}`;
      found.set(key, [...(found.get(key) || []), node]);
    }
    return [...found.values()].map((nodes) => ({ nodes, object: target.get(nodes[0].key) })).sort((a, b) => b.nodes[0].stuck - a.nodes[0].stuck || (b.object ? 1 : 0) - (a.object ? 1 : 0));
  };

  // Everybody who holds a pipe could end a wait on it, which makes a thicket of arrows: one that the chain
  // follows is enough, and beside the chain one.
  const thinned = (model) => {
    const kept = new Map();
    const chained = new Set(model.arrows.filter((a) => a.role === "provider" && a.in_chain).map((a) => a.source));
    return model.arrows.filter((arrow) => {
      if (arrow.role !== "provider" || arrow.in_chain) return true;
      const count = kept.get(arrow.source) || 0;
      kept.set(arrow.source, count + 1);
      return !chained.has(arrow.source) && count < 1;
    });
  };

  // Who could end a group's wait, by name; others that wait on the same are not among those for whom it is one of many.
  const endsOf = (whole, group) => {
    const own = new Set(group.nodes.map((n) => n.key));
    const single = new Set(whole.nodes.filter((n) => n.shape === "thread").map((n) => n.subtitle)).size === 1;
    const byKey = new Map(whole.nodes.map((n) => [n.key, n]));
    const keys = whole.arrows.filter((a) => a.role === "provider" && a.source === group.object && !own.has(a.target)).map((a) => a.target);
    return [...new Set(keys.map((key) => byKey.get(key)).filter(Boolean).map((n) => (single ? n.title : n.subtitle || n.title)))];
  };

  const layout = (whole, wide, most, everything) => {
    const model = everything ? whole : { ...whole, arrows: thinned(whole) };
    const spine = spineOf(model);
    WIDE = boxWidth(model, wide, Math.max(Math.ceil(spine.path.length / 2), 2));
    const { places, high, box } = placeSpine(spine, wide);
    const byKey = new Map(model.nodes.map((n) => [n.key, n]));
    const drawn = new Map();
    for (const [key, place] of places) drawn.set(key, { ...byKey.get(key), ...place, w: box, h: HIGH, spine: true, onward: drawn.size, many: 1 });
    const rest = groups(model, places);
    const shown = rest.slice(0, most);
    const alias = new Map(), ownPill = new Map();
    const cell = 2 * WIDE + GAP_X;
    const narrow = cell > wide - 16;
    const columns = narrow ? 1 : Math.max(Math.floor((wide - 16 + 40) / (cell + 40)), 1);
    const side = narrow ? Math.min(WIDE, Math.floor((wide - 16 - 40) / 2)) : WIDE;
    const gap = narrow ? wide - 16 - 2 * side : GAP_X;
    const top = high + (spine.path.length && shown.length ? 26 : 0);
    // Objects that several groups wait on stand beside the first of them.
    shown.forEach((group, n) => {
      const column = n % columns;
      const x = 8 + column * (2 * side + gap + 40);
      const y = top + Math.floor(n / columns) * (HIGH + 22);
      const node = group.nodes[0];
      const many = group.nodes.length;
      drawn.set(node.key, { ...node, x, y, w: side, h: HIGH, many, subtitle: many > 1 ? `${many} × ${stem(node.subtitle)}` : node.subtitle, title: many > 1 ? stem(node.title) : node.title });
      for (const other of group.nodes) alias.set(other.key, node.key);
      if (!group.object) return;
      // Each group has what it waits on beside it, though another has it too, and says in words who could
      // end the wait: arrows across the other boxes would hide more than they show.
      const key = drawn.has(group.object) && !everything ? `${group.object} of ${node.key}` : group.object;
      if (key !== group.object) ownPill.set(node.key, key);
      if (!drawn.has(key)) drawn.set(key, { ...byKey.get(group.object), key, x: x + side + gap, y, w: side, h: HIGH, many: 1, endedBy: everything ? [] : endsOf(whole, group) });
    });
    const between = (arrow) => {
      const source = alias.get(arrow.source) || arrow.source;
      const target = arrow.role === "waits" && ownPill.has(source) ? ownPill.get(source) : alias.get(arrow.target) || arrow.target;
      return drawn.has(source) && drawn.has(target) && source !== target ? [source, target] : null;
    };
    const arrows = new Map();
    for (const arrow of model.arrows) {
      const ends = between(arrow);
      if (!ends || arrows.has(ends.join(" "))) continue;
      const [source, target] = ends;
      if (everything || arrow.role === "waits" || drawn.get(source).spine) arrows.set(ends.join(" "), { ...arrow, source, target });
    }
    for (const arrow of arrows.values()) arrow.twin = arrows.has(`${arrow.target} ${arrow.source}`);
    const possible = new Set(whole.arrows.map(between).filter(Boolean).map((ends) => ends.join(" ")));
    const rows = Math.ceil(shown.length / columns);
    const hiddenThreads = rest.slice(most).reduce((sum, group) => sum + group.nodes.length, 0);
    return { nodes: [...drawn.values()], arrows: [...arrows.values()], height: top + rows * (HIGH + 22) + 12, spine, hiddenThreads, hiddenArrows: possible.size - arrows.size, hiddenGroups: rest.length - shown.length, restTop: top, hasRest: shown.length > 0 };
  };
  return { modelAt, layout };
})();
