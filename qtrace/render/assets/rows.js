// Which lines the timeline has now: processes, threads, folded groups of idle workers.
"use strict";
Q.rows = (() => {
  const LANE = 20;
  const GAP = 3;
  const HEAD = 24;

  // Rows from the top; a lane keeps its row for as long as filters leave it.
  const build = () => {
    const { lanes, processes } = Q.view;
    const rows = [];
    let y = 4;
    const put = (row, height) => { rows.push({ ...row, y, height }); y += height + GAP; };
    const shown = lanes.map((lane, n) => n).filter((n) => !Q.state.offThreads.has(lanes[n].tid));
    const folded = new Map();
    for (const n of shown) {
      const group = lanes[n].fold;
      if (group >= 0 && !Q.state.unfolded.has(group)) folded.set(group, [...(folded.get(group) || []), n]);
    }
    // A process of one thread is one line: its name says enough.
    const threads = new Map();
    for (const n of shown) threads.set(lanes[n].process, (threads.get(lanes[n].process) || 0) + 1);
    let process = null, head = -1;
    const placed = new Set();
    for (const n of shown) {
      const lane = lanes[n];
      const group = folded.has(lane.fold) ? lane.fold : -1;
      if (group >= 0) {
        if (placed.has(group)) continue;
        placed.add(group);
        put({ type: "fold", group, lanes: folded.get(group), within: process }, LANE);
        continue;
      }
      const alone = (threads.get(lane.process) || 0) === 1;
      if (lane.process !== head && !alone && processes[lane.process]) {
        put({ type: "process", process: lane.process }, HEAD - GAP);
        head = lane.process;
      }
      process = lane.process;
      put({ type: "lane", lane: n, alone: alone && Boolean(processes[lane.process]) }, LANE);
    }
    return { rows, height: y + 4 };
  };

  const label = (row) => {
    const { lanes, processes } = Q.view;
    if (row.type === "process") {
      const process = processes[row.process];
      const depth = depthOf(process);
      return Q.el("div", { class: "row process", style: { top: `${row.y}px`, height: `${row.height}px`, paddingLeft: `${8 + depth * 10}px` }, title: `${process.name} (pid ${process.pid})\n${process.argv}\n${process.ending}` },
        Q.el("b", { text: Q.childName(process) }), Q.el("span", { class: "ids", text: `${process.pid}` }),
        process.ending ? Q.el("span", { class: "ending", text: ending(process) }) : null);
    }
    if (row.type === "fold") {
      const names = row.lanes.map((n) => Q.laneName(n));
      return Q.el("button", { class: "row fold", type: "button", "data-lanes": row.lanes.length, style: { top: `${row.y}px`, height: `${row.height}px` }, title: `${names.slice(0, 12).join("\n")}\nClick to unfold`,
        onclick: () => Q.set({ unfolded: new Set([...Q.state.unfolded, row.group]), rows: true }) },
        Q.el("span", { class: "name", text: `▸ ${Q.number(row.lanes.length)} ${lanes[row.lanes[0]].brief ? "short-lived" : "idle"}, like ${like(row)}` }));
    }
    const lane = lanes[row.lane];
    const stuck = Q.stuckLanes.has(row.lane);
    const step = Q.view.chain.findIndex((link) => link.lane === row.lane);
    const process = processes[lane.process];
    return Q.el("div", { class: `row lane${stuck ? " stuck" : ""}`, "data-tid": lane.tid, "data-lane": row.lane, style: { top: `${row.y}px`, height: `${row.height}px`, paddingLeft: `${(row.alone ? 8 : 18) + (process ? depthOf(process) : 0) * 10}px` }, title: `${Q.laneName(row.lane)} (tid ${lane.tid}, ${lane.role})${row.alone ? `\n${process.argv}\n${process.ending}` : ""}` },
      step >= 0 ? Q.el("span", { class: "step", text: step + 1, title: "place in the chain" }) : null,
      row.alone ? Q.el("b", { class: "name", text: Q.childName(process) }) : Q.el("span", { class: "name", text: lane.name }),
      row.alone && process.ending ? Q.el("span", { class: "ending", text: ending(process) }) : null, Q.el("span", { class: "ids", text: lane.tid }));
  };
  const ending = (process) => process.ending.replace("killed by ", "");
  // Of threads of the process that they stand under the thread's name says more, of others the process's.
  const like = (row) => {
    const lane = Q.view.lanes[row.lanes[0]];
    const process = Q.view.processes[lane.process];
    return process && lane.process !== row.within ? Q.childName(process) : lane.name;
  };
  const depthOf = (process) => {
    Q.childName(process);
    let depth = 0;
    for (let up = process; depth < 6; depth++) {
      const parent = Q.byPid.get(up.ppid);
      if (!parent || parent === up) break;
      up = parent;
    }
    return depth;
  };
  return { build, label };
})();
