// Levels under the lanes, on the same time axis: bytes in each pipe against its capacity, messages in flight.
"use strict";
Q.tracks = (() => {
  const HIGH = 64, FEW = 6;
  let tracks = [], root;

  const steps = (time, value) => ({ time: Q.sums(time), value });
  const mount = (parent) => {
    root = parent;
    // Pipes that the verdict speaks of come first, then those that were fullest.
    const named = new Set(Q.view.graph.nodes.map((node) => node.key));
    const rank = (curve) => (named.has(`o${curve.id}`) ? 2 : 0) + curve.bytes.reduce((a, b) => Math.max(a, b), 0) / Math.max(curve.capacity[0], 1);
    for (const curve of [...Q.view.fill].sort((a, b) => rank(b) - rank(a))) {
      const capacity = Q.sums(curve.capacity);
      const name = curve.object >= 0 ? Q.objectName(curve.object) : curve.id;
      add(name, "bytes in the pipe", { ...steps(curve.time, curve.bytes), capacity, bytes: true, id: curve.id });
    }
    for (const pipe of Q.view.pipes) {
      if (pipe.max_depth < 2) continue;
      const name = pipe.object >= 0 ? Q.objectName(pipe.object) : pipe.object_id;
      add(name, "messages in flight", { ...steps(pipe.depth_time_ns, pipe.depth), id: pipe.object_id });
    }
    const rest = [...root.querySelectorAll(".track")].slice(FEW);
    for (const track of rest) track.hidden = true;
    if (rest.length) root.append(Q.el("button", { type: "button", class: "more", id: "all-tracks", text: `Show ${Q.number(rest.length)} more`, onclick: (event) => {
      for (const track of rest) track.hidden = false;
      event.target.remove();
      draw();
    } }));
    return tracks.length;
  };
  const add = (name, unit, curve) => {
    const canvas = Q.el("canvas", { class: "level", role: "img", "aria-label": `${name}: ${unit} over time` });
    const most = curve.value.reduce((a, b) => Math.max(a, b), 0);
    const capacity = curve.capacity ? curve.capacity.reduce((a, b) => Math.max(a, b), 0) : 0;
    const top = Math.max(most, capacity, 1) * 1.12;
    const detail = capacity > 0 ? `at most ${Q.number(most)} of ${Q.number(capacity)} bytes` : `${unit}, at most ${Q.number(most)}`;
    root.append(Q.el("div", { class: "track", "data-object": curve.id },
      Q.el("div", { class: "track-label" }, Q.el("b", { text: name, title: curve.id }), Q.el("span", { text: detail })), canvas));
    const track = { name, unit, curve, canvas, top, capacity };
    tracks.push(track);
    Q.gestures(canvas, { click: (px) => Q.set({ at: Q.clamp(Q.timeline.timeAt(px), 0, Q.view.span_ns) }), hover: (px, py, event) => hover(track, px, event), leave: () => Q.tip.hide() });
  };
  const hover = (track, px, event) => {
    const time = Q.timeline.timeAt(px);
    const row = Q.after(track.curve.time, time) - 1;
    const level = row >= 0 ? track.curve.value[row] : 0;
    const text = track.curve.bytes ? `${Q.number(level)} bytes` : Q.plural(level, "message");
    const room = track.curve.bytes && row >= 0 && track.curve.capacity[row] > 0 ? ` of ${Q.number(track.curve.capacity[row])}` : "";
    Q.tip.show(event, [Q.el("b", { text: track.name }), Q.el("div", { text: `${text}${room}` }), Q.el("div", { class: "dim", text: `at ${Q.moment(time)}` })]);
  };

  const draw = () => {
    for (const track of tracks) {
      if (track.canvas.parentNode.hidden) continue;
      const wide = Q.timeline.width();
      const context = Q.sized(track.canvas, wide, HIGH);
      const y = (value) => HIGH - 1 - (value / track.top) * (HIGH - 6);
      Q.timeline.grid(context, wide, HIGH);
      area(context, track, wide, y);
      if (track.curve.capacity) capacityLine(context, track, wide, y);
      context.fillStyle = Q.theme.accent;
      context.fillRect(Math.min(Math.round(Q.timeline.x(Q.state.at)), wide - 2), 0, 1.5, HIGH);
    }
  };
  // A column of pixels at a time, from its lowest to its highest level: thousands of corners as one stroked
  // path would take the browser a tenth of a second, these take it a hundredth of that.
  const area = (context, track, wide, y) => {
    const { time, value } = track.curve;
    let at = Math.max(Q.after(time, Q.state.t0) - 1, 0);
    let level = value[at];
    const from = Math.max(Math.floor(Q.timeline.x(time[at])), 0);
    // The last level holds until the end of the recording.
    const to = Math.min(Math.ceil(Q.timeline.x(Q.view.span_ns)), wide);
    const runs = [];
    for (let px = from; px < to; px++) {
      const until = Q.timeline.timeAt(px + 1);
      let [low, high] = [level, level];
      while (at + 1 < time.length && time[at + 1] < until) {
        level = value[++at];
        if (level < low) low = level;
        else if (level > high) high = level;
      }
      const last = runs[runs.length - 1];
      if (last && last.low === low && last.high === high && low === high) last.wide++;
      else runs.push({ px, low, high, wide: 1 });
    }
    const base = y(0);
    context.fillStyle = Q.theme.levelFill;
    for (const run of runs) context.fillRect(run.px, y(run.high), run.wide, base - y(run.high));
    context.fillStyle = Q.theme.level;
    for (const run of runs) context.fillRect(run.px, y(run.high) - 0.6, run.wide, y(run.low) - y(run.high) + 1.2);
  };
  const capacityLine = (context, track, wide, y) => {
    const { time, capacity } = track.curve;
    context.strokeStyle = Q.theme.stuck;
    context.lineWidth = 1;
    context.setLineDash([5, 4]);
    context.beginPath();
    for (let i = 0; i < time.length; i++) {
      if (capacity[i] <= 0) continue;
      const from = i === 0 ? 0 : Q.timeline.x(time[i]);
      // One piece as long as the capacity stays: dashes along thousands of pieces are slow.
      while (i + 1 < time.length && capacity[i + 1] === capacity[i]) i++;
      const to = i + 1 < time.length ? Q.timeline.x(time[i + 1]) : wide;
      if (to < 0 || from > wide) continue;
      const level = Math.round(y(capacity[i])) + 0.5;
      context.moveTo(Math.max(from, 0), level);
      context.lineTo(Math.min(to, wide), level);
    }
    context.stroke();
    context.setLineDash([]);
    context.fillStyle = Q.theme.stuck;
    context.font = "10px system-ui, sans-serif";
    const text = `capacity ${Q.number(track.capacity)}`;
    const at = Q.clamp(y(track.capacity) + 11, 10, HIGH - 4);
    context.globalAlpha = 0.8;
    const room = context.measureText(text).width;
    context.fillStyle = Q.theme.card;
    context.fillRect(2, at - 9, room + 4, 12);
    context.globalAlpha = 1;
    context.fillStyle = Q.theme.stuck;
    context.fillText(text, 4, at);
  };
  Q.onChange(() => draw());
  return { mount, draw };
})();
