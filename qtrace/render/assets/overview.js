// The range slider: the whole recording in small, with the part that the timeline shows as a window.
"use strict";
Q.overview = (() => {
  const HIGH = 40;
  const whole = document.createElement("canvas");
  let canvas, drag = null, painted = "";

  const mount = (root) => {
    canvas = Q.el("canvas", { class: "overview", tabindex: "0", role: "slider", "aria-label": "Shown range", "aria-valuemin": "0", "aria-valuemax": "100" });
    root.append(Q.el("div", { class: "track" }, Q.el("div", { class: "track-label" }, Q.el("b", { text: "Whole recording" }), Q.el("span", { class: "range-text" })), canvas));
    canvas.addEventListener("pointerdown", begin);
    canvas.addEventListener("pointermove", move);
    canvas.addEventListener("pointerup", () => { drag = null; });
    canvas.addEventListener("dblclick", () => Q.set({ t0: 0, t1: Q.view.span_ns }));
    canvas.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -0.1, ArrowRight: 0.1 }[event.key];
      if (step) { Q.pan(step); event.preventDefault(); event.stopPropagation(); }
    });
  };
  const time = (event) => {
    const box = canvas.getBoundingClientRect();
    return Q.clamp((event.clientX - box.left) / box.width, 0, 1) * Q.view.span_ns;
  };
  const begin = (event) => {
    canvas.setPointerCapture(event.pointerId);
    const at = time(event);
    const near = (8 / canvas.clientWidth) * Q.view.span_ns;
    const { t0, t1 } = Q.state;
    const whole = t1 - t0 >= Q.view.span_ns * 0.999;
    if (Math.abs(at - t0) < near) drag = { edge: "t0" };
    else if (Math.abs(at - t1) < near) drag = { edge: "t1" };
    else if (at > t0 && at < t1 && !whole) drag = { shift: at - t0 };
    else drag = { from: at };
  };
  const move = (event) => {
    const at = time(event);
    if (!drag) {
      const near = (8 / canvas.clientWidth) * Q.view.span_ns;
      canvas.style.cursor = Math.abs(at - Q.state.t0) < near || Math.abs(at - Q.state.t1) < near ? "ew-resize" : "crosshair";
      return;
    }
    const { t0, t1 } = Q.state;
    if (drag.edge === "t0") Q.set(Q.window(Math.min(at, t1 - Q.LEAST_NS), t1));
    else if (drag.edge === "t1") Q.set(Q.window(t0, Math.max(at, t0 + Q.LEAST_NS)));
    else if (drag.shift !== undefined) Q.set(Q.window(at - drag.shift, at - drag.shift + (t1 - t0)));
    else if (Math.abs(at - drag.from) > Q.view.span_ns / 200) Q.set(Q.window(Math.min(at, drag.from), Math.max(at, drag.from)));
  };

  // All lanes over all time change with the filters only, not with zoom and pan: painted once and kept.
  const paint = (wide) => {
    const { hidden, offThreads, query, shortest, unfolded } = Q.state;
    const now = [wide, devicePixelRatio, Q.isDark(), [...hidden], [...offThreads], [...unfolded], query, shortest].join("|");
    if (now === painted) return;
    painted = now;
    const context = Q.sized(whole, wide, HIGH);
    const kept = { t0: Q.state.t0, t1: Q.state.t1 };
    // A folded group is one line here too: a thousand lanes of dead workers would leave no room for the living.
    const lanes = Q.rows.build().rows.filter((row) => row.type !== "process").map((row) => (row.type === "lane" ? row.lane : row.lanes[0]));
    Object.assign(Q.state, { t0: 0, t1: Q.view.span_ns });
    const shown = Math.min(lanes.length, 18);
    const each = (HIGH - 4) / shown;
    for (let n = 0; n < shown; n++) Q.draw.lane(context, lanes[Math.floor((n * lanes.length) / shown)], 2 + n * each, Math.max(each - 1, 1.5), wide, true);
    Object.assign(Q.state, kept);
  };
  const draw = () => {
    const wide = Q.timeline.width();
    const kept = { t0: Q.state.t0, t1: Q.state.t1 };
    paint(wide);
    const context = Q.sized(canvas, wide, HIGH);
    context.drawImage(whole, 0, 0, wide, HIGH);
    const [from, to] = [(kept.t0 / Q.view.span_ns) * wide, (kept.t1 / Q.view.span_ns) * wide];
    context.fillStyle = Q.theme.veil;
    context.fillRect(0, 0, from, HIGH);
    context.fillRect(to, 0, wide - to, HIGH);
    context.strokeStyle = Q.theme.accent;
    context.lineWidth = 1;
    context.strokeRect(from + 0.5, 0.5, Math.max(to - from - 1, 2), HIGH - 1);
    context.fillStyle = Q.theme.accent;
    context.fillRect(Math.max(from - 1, 0), HIGH / 2 - 8, 3, 16);
    context.fillRect(Math.min(to - 2, wide - 3), HIGH / 2 - 8, 3, 16);
    canvas.setAttribute("aria-valuenow", Math.round((kept.t0 / Q.view.span_ns) * 100));
    canvas.setAttribute("aria-valuetext", `${Q.moment(kept.t0)} to ${Q.moment(kept.t1)}`);
    canvas.parentNode.querySelector(".range-text").textContent = `shows ${Q.duration(kept.t1 - kept.t0)} from ${Q.moment(kept.t0)}`;
  };
  Q.onChange(() => canvas && draw());
  return { mount, draw };
})();
