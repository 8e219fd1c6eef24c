// Tables: sorted by their heads, shown in portions, and rows that lead into the timeline.
"use strict";
Q.table = ({ root, columns, rows, sort, portion = 100, choose, empty = "Nothing to show.", id }) => {
  let shown = portion, order = { ...sort }, current = rows;
  const head = Q.el("tr"), body = Q.el("tbody"), foot = Q.el("div", { class: "table-foot" });
  const more = Q.el("button", { type: "button", class: "more", onclick: () => { shown += portion * 5; draw(); } });
  const count = Q.el("span", { class: "shown-count" });
  foot.append(count, more);
  root.append(Q.el("div", { class: "sheet-scroll" }, Q.el("table", { id }, Q.el("thead", {}, head), body)), foot);
  const heads = columns.map((column, n) => {
    const cell = Q.el("th", { class: column.num ? "num" : "", scope: "col", title: column.title || null }, Q.el("button", { type: "button", onclick: () => {
      order = { column: n, down: order.column === n ? !order.down : Boolean(column.num) };
      draw();
    } }, column.name, Q.el("span", { class: "arrow", "aria-hidden": "true" })));
    head.append(cell);
    return cell;
  });
  const draw = () => {
    const { column, down } = order;
    const key = columns[column].key;
    const sorted = [...current].sort((a, b) => {
      const [x, y] = [key(a), key(b)];
      return (x < y ? -1 : x > y ? 1 : 0) * (down ? -1 : 1);
    });
    heads.forEach((cell, n) => {
      if (n === column) cell.setAttribute("aria-sort", down ? "descending" : "ascending");
      else cell.removeAttribute("aria-sort");
      cell.querySelector(".arrow").textContent = n === column ? (down ? " ↓" : " ↑") : "";
    });
    body.replaceChildren(...sorted.slice(0, shown).map((row) => {
      const line = Q.el("tr", choose ? { class: "choose", tabindex: "0", onclick: () => choose(row), onkeydown: (event) => { if (event.key === "Enter") choose(row); } } : {},
        ...columns.map((c) => Q.el("td", { class: c.num ? "num" : c.long ? "text" : "" }, ...[].concat(c.show(row)))));
      line.qrow = row;
      return line;
    }));
    if (!sorted.length) body.append(Q.el("tr", {}, Q.el("td", { colspan: columns.length, class: "dim", text: empty })));
    more.hidden = sorted.length <= shown;
    more.textContent = `Show ${Q.number(Math.min(portion * 5, sorted.length - shown))} more`;
    count.textContent = sorted.length > shown ? `${Q.number(shown)} of ${Q.number(sorted.length)}` : "";
    foot.hidden = sorted.length <= shown;
  };
  draw();
  return { draw, body, replace: (next) => { current = next; shown = portion; draw(); } };
};

Q.tables = (() => {
  let waits, box;
  const num = (name, key, show, title) => ({ name, key, show: show || ((row) => Q.number(key(row))), num: true, title });
  const text = (name, show, long) => ({ name, key: (row) => show(row).toLowerCase(), show, long });

  const mountCalls = () => {
    const lane = (tid) => Q.laneOfKey(`t${tid}`);
    const name = (row) => (lane(row.tid) >= 0 ? Q.laneName(lane(row.tid)) : `thread ${row.tid}`);
    Q.table({ root: Q.id("calls-table"), id: "calls-rows", rows: Q.view.calls, sort: { column: 2, down: true }, portion: 15, empty: "No calls were kept.", columns: [
      text("thread", name, true), text("call", (row) => row.name), num("total", (row) => row.total_ns, (row) => Q.duration(row.total_ns), "entry to exit, waiting included"),
      num("calls", (row) => row.calls), num("mean", (row) => row.total_ns / row.calls, (row) => Q.duration(row.total_ns / row.calls)),
      num("longest", (row) => row.longest_ns, (row) => Q.duration(row.longest_ns)), num("errors", (row) => row.errors, (row) => (row.errors ? Q.number(row.errors) : "")),
      num("unfinished", (row) => row.unfinished, (row) => (row.unfinished ? Q.el("span", { class: "open", text: Q.number(row.unfinished) }) : ""), "had not returned at the end")] });
  };

  const mountWaits = () => {
    const w = Q.waits.columns;
    let typing = 0;
    box = Q.el("input", { type: "search", id: "waits-search", placeholder: "Search waits", "aria-label": "Search the table of waits", oninput: () => { clearTimeout(typing); typing = setTimeout(() => Q.set({ query: box.value }), 120); } });
    Q.id("waits-table").append(Q.el("div", { class: "bar" }, Q.el("label", { class: "grow" }, box), Q.el("span", { class: "count", id: "waits-count" })));
    const folded = Q.view.folded.waits;
    Q.id("waits-lead").textContent = `The filters of the timeline count here too. Choose a row to see it there.${folded ? ` ${Q.plural(folded, "short wait is", "short waits are")} folded into the timeline's density and not listed.` : ""}`;
    waits = Q.table({ root: Q.id("waits-table"), id: "waits-rows", rows: rowsNow(), sort: { column: 3, down: true }, portion: 20, empty: Q.waits.columns.size ? "No wait passes the filters." : "No thread waited in this recording.", choose: (row) => { Q.timeline.reveal(row); Q.id("timeline-figure").scrollIntoView({ block: "nearest" }); }, columns: [
      text("thread", (row) => Q.laneName(w.lane[row]), true),
      { name: "kind", key: (row) => Q.view.kinds[w.kind[row]].id, show: (row) => Q.el("span", { class: "numbers" }, Q.swatch(w.kind[row]), ` ${Q.view.kinds[w.kind[row]].id}`) },
      num("from", (row) => w.start[row], (row) => Q.moment(w.start[row])),
      num("lasted", (row) => w.dur[row], (row) => [Q.duration(w.dur[row]), w.open[row] ? Q.el("span", { class: `open${Q.stuckLanes.has(w.lane[row]) ? " stuck" : ""}`, text: " never ended" }) : ""]),
      text("object", (row) => Q.objectName(w.object[row]), true),
      { name: "woken by", key: (row) => (w.waker[row] >= 0 ? Q.laneName(w.waker[row]) : ""), show: (row) => (w.waker[row] >= 0 ? Q.laneName(w.waker[row]) : ""), long: true },
      { name: "call", key: (row) => Q.details.textOf(row), show: (row) => Q.el("code", { text: Q.details.textOf(row) }), long: true }] });
    count();
  };
  const rowsNow = () => {
    const rows = [];
    for (let row = 0; row < Q.waits.columns.size; row++) if (Q.waits.passes(row)) rows.push(row);
    return rows;
  };
  const count = () => {
    const some = waits ? rowsNow().length : 0;
    Q.id("waits-count").textContent = `${Q.number(some)} of ${Q.plural(Q.waits.columns.size, "wait")}`;
    if (document.activeElement !== box) box.value = Q.state.query;
  };

  const mountPipes = () => {
    const root = Q.id("pipes-table");
    const { pipes } = Q.view;
    if (!pipes.length) { root.append(Q.el("p", { class: "empty", text: "No message went through a pipe or queue." })); return; }
    const threads = (tids) => {
      const names = tids.map((tid) => Q.laneOfKey(`t${tid}`)).filter((n) => n >= 0).map(Q.shortName);
      return names.length > 2 ? `${names[0]} and ${names.length - 1} more` : names.join(", ");
    };
    const share = (part, ns) => (ns > 0 ? `${Q.percent(part)}, ${Q.duration(ns)}` : "never");
    const name = (row) => (row.object >= 0 ? Q.objectName(row.object) : row.object_id);
    Q.table({ root, id: "pipes-rows", rows: pipes, sort: { column: 3, down: true }, portion: 25, columns: [
      text("pipe or queue", name, true), text("from", (row) => threads(row.senders), true), text("to", (row) => threads(row.receivers), true),
      num("messages", (row) => row.messages, (row) => (row.complete === row.messages ? Q.number(row.messages) : [Q.number(row.messages), Q.el("span", { class: "open", text: `, ${Q.number(row.messages - row.complete)} not received whole` })])),
      num("bytes", (row) => row.body_bytes, (row) => Q.bytes(row.body_bytes), "bodies of the messages that arrived"),
      num("messages/s", (row) => row.rate_per_s, (row) => (row.complete ? Q.digits(row.rate_per_s) : "")), num("bytes/s", (row) => row.bytes_per_s, (row) => (row.complete ? Q.bytes(Math.round(row.bytes_per_s)) : "")),
      num("most in flight", (row) => row.max_depth, undefined, "messages begun by the sender and not yet read whole"),
      num("sender waited for room", (row) => row.for_room_share, (row) => share(row.for_room_share, row.waits_for_room_ns), "part of the recording"),
      num("reader waited for data", (row) => row.for_data_share, (row) => share(row.for_data_share, row.waits_for_data_ns), "part of the recording")] });
    const stages = [["send", "entry of the first write to exit of the last"], ["transit", "exit of the last write to exit of the last read; 0 if the reader had it before the write returned"], ["receive", "entry of the first read to exit of the last"]];
    const latencies = pipes.flatMap((pipe, place) => stages.map(([stage], n) => ({ name: name(pipe), stage, spread: pipe[stage], order: place * 3 + n })).filter((row) => row.spread));
    if (!latencies.length) { root.append(Q.el("p", { class: "empty", text: "No message was sent and received whole, so there are no latencies." })); return; }
    const at = (quantile, field) => num(quantile, (row) => row.spread[field], (row) => Q.duration(row.spread[field]));
    root.append(Q.el("h3", { class: "second", text: "Latency of messages" }), Q.el("p", { class: "dim", text: `${stages.map(([stage, meaning]) => `${stage}: ${meaning}`).join(". ")}.` }));
    Q.table({ root, id: "latency-rows", rows: latencies, sort: { column: 0, down: false }, portion: 30, columns: [
      { name: "pipe or queue", key: (row) => row.order, show: (row) => row.name, long: true }, { name: "stage", key: (row) => row.order, show: (row) => row.stage, long: true },
      at("p50", "p50_ns"), at("p95", "p95_ns"), at("p99", "p99_ns"), at("max", "max_ns")] });
  };

  const mountQuality = () => Q.id("quality-table").append(Q.el("dl", {}, ...Q.view.quality.flatMap(([name, value]) => [Q.el("dt", { text: name }), Q.el("dd", { text: value })])));

  const mark = () => {
    if (waits) for (const line of waits.body.children) line.classList.toggle("selected", line.qrow === Q.state.selected);
  };
  Q.onChange((change) => {
    if (!waits) return;
    if ("query" in change || change.hidden || change.offThreads || "shortest" in change || change.theme) { waits.replace(rowsNow()); count(); }
    if ("selected" in change) mark();
  });
  return { mount: () => { mountPipes(); mountCalls(); mountWaits(); mountQuality(); } };
})();
