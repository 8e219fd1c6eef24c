// Zoom and pan with mouse, wheel, touch and keys, the same over lanes, axis and level curves.
"use strict";
Q.LEAST_NS = 2_000;
Q.window = (t0, t1) => {
  const span = Q.clamp(t1 - t0, Math.min(Q.LEAST_NS, Q.view.span_ns), Q.view.span_ns);
  const middle = (t0 + t1) / 2;
  const from = Q.clamp(middle - span / 2, 0, Q.view.span_ns - span);
  return { t0: from, t1: from + span };
};
Q.zoom = (factor, around = (Q.state.t0 + Q.state.t1) / 2) => {
  const { t0, t1 } = Q.state;
  const span = Q.clamp((t1 - t0) * factor, Math.min(Q.LEAST_NS, Q.view.span_ns), Q.view.span_ns);
  const share = (around - t0) / (t1 - t0);
  Q.set(Q.window(around - span * share, around + span * (1 - share)));
};
Q.pan = (share) => {
  const step = (Q.state.t1 - Q.state.t0) * share;
  Q.set(Q.window(Q.state.t0 + step, Q.state.t1 + step));
};
Q.gutter = () => parseFloat(getComputedStyle(document.documentElement).getPropertyValue("--gutter")) || 0;

Q.gestures = (canvas, on) => {
  const pointers = new Map();
  let start = null, moved = false;
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  canvas.addEventListener("wheel", (event) => {
    const [px] = at(event);
    // The plain wheel scrolls the page; with Ctrl, Meta or Alt it zooms, sideways it pans.
    if (event.ctrlKey || event.metaKey || event.altKey) {
      event.preventDefault();
      Q.zoom(Math.exp(Q.clamp(event.deltaY, -200, 200) * 0.004), Q.timeline.timeAt(px));
    } else if (Math.abs(event.deltaX) > Math.abs(event.deltaY) || event.shiftKey) {
      event.preventDefault();
      Q.pan((event.deltaX || event.deltaY) / Q.timeline.width());
    }
  }, { passive: false });
  canvas.addEventListener("pointerdown", (event) => {
    pointers.set(event.pointerId, at(event)[0]);
    canvas.setPointerCapture(event.pointerId);
    moved = false;
    start = { x: at(event)[0], t0: Q.state.t0, t1: Q.state.t1, apart: apart() };
  });
  const apart = () => {
    const places = [...pointers.values()];
    return places.length > 1 ? Math.abs(places[0] - places[1]) : 0;
  };
  canvas.addEventListener("pointermove", (event) => {
    const [px, py] = at(event);
    if (!pointers.has(event.pointerId)) { if (on.hover && event.pointerType !== "touch") on.hover(px, py, event); return; }
    pointers.set(event.pointerId, px);
    if (pointers.size > 1 && start.apart) {
      const places = [...pointers.values()];
      const middle = (places[0] + places[1]) / 2;
      const span = (start.t1 - start.t0) * (start.apart / Math.max(apart(), 10));
      const anchor = start.t0 + (middle / Q.timeline.width()) * (start.t1 - start.t0);
      moved = true;
      Q.set(Q.window(anchor - span * (middle / Q.timeline.width()), anchor + span * (1 - middle / Q.timeline.width())));
      return;
    }
    if (Math.abs(px - start.x) > 4) moved = true;
    if (!moved) return;
    if (Q.tip) Q.tip.hide();
    const shift = ((start.x - px) / Q.timeline.width()) * (start.t1 - start.t0);
    Q.set(Q.window(start.t0 + shift, start.t1 + shift));
  });
  const up = (event) => {
    const known = pointers.delete(event.pointerId);
    if (known && !moved && event.type === "pointerup" && on.click) on.click(...at(event), event);
  };
  canvas.addEventListener("pointerup", up);
  canvas.addEventListener("pointercancel", up);
  canvas.addEventListener("dblclick", (event) => Q.zoom(0.25, Q.timeline.timeAt(at(event)[0])));
  if (on.leave) canvas.addEventListener("pointerleave", on.leave);
};
