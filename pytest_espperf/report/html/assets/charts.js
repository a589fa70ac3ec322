"use strict";
// Draws charts with uPlot from data that charts.py and trend.js make. Colours are variables of page.css, so that
// a chart follows light and dark; all of its text is set as text, never as markup.
const charts = (() => {
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const number = (value, digits) => value.toLocaleString("en-US", digits === undefined
    ? { maximumSignificantDigits: 4 } : { minimumFractionDigits: digits, maximumFractionDigits: digits });
  const element = (tag, name, text) => {
    const made = document.createElement(tag);
    if (name) made.className = name;
    if (text !== undefined) made.textContent = text;
    return made;
  };

  const SHAPES = {
    circle: "M-1 0a1 1 0 1 0 2 0a1 1 0 1 0 -2 0Z",
    ring: "M-1 0a1 1 0 1 0 2 0a1 1 0 1 0 -2 0Z",
    halo: "M-2.2 0a2.2 2.2 0 1 0 4.4 0a2.2 2.2 0 1 0 -4.4 0Z",
    square: "M-.9 -.9H.9V.9H-.9Z",
    diamond: "M0 -1.25L1.25 0L0 1.25L-1.25 0Z",
    cross: "M-1 -1L1 1M-1 1L1 -1",
    star: "M0 -1.5L.44 -.6L1.43 -.46L.71 .23L.88 1.21L0 .75L-.88 1.21L-.71 .23L-1.43 -.46L-.44 -.6Z",
  };
  const OUTLINED = new Set(["ring", "halo", "cross"]);

  // A swatch of a line, a bar, a band or a symbol for the legend.
  const swatch = (series) => {
    const space = "http://www.w3.org/2000/svg";
    const image = document.createElementNS(space, "svg");
    image.setAttribute("viewBox", "0 0 24 12");
    image.setAttribute("aria-hidden", "true");
    const path = document.createElementNS(space, "path");
    const colour = `var(--${series.colour})`;
    if (series.draw === "points") {
      path.setAttribute("d", SHAPES[series.symbol]);
      path.setAttribute("transform", `translate(12 6) scale(${series.symbol === "halo" ? 2.4 : 3.5})`);
      path.setAttribute("fill", OUTLINED.has(series.symbol) ? "none" : colour);
      if (OUTLINED.has(series.symbol)) path.setAttribute("stroke-width", ".5");
    } else if (series.draw === "bars") {
      path.setAttribute("d", "M6 12V3h5V12ZM13 12V1h5V12Z");
      path.setAttribute("fill", colour);
    } else {
      path.setAttribute("d", "M0 6H24");
      path.setAttribute("stroke-width", series.width || 1);
      path.setAttribute("stroke-dasharray", (series.dash || []).join(" "));
    }
    if (series.draw !== "bars") path.setAttribute("stroke", colour);
    image.append(path);
    return image;
  };

  const legend = (panel) => {
    const list = element("ul", "keys");
    for (const series of panel.series.filter((one) => !one.unnamed)) {
      const entry = element("li");
      entry.append(swatch(series), element("span", "", series.name));
      list.append(entry);
    }
    return list;
  };

  // A range in which a change looks as large as it is: at least a fifth of the value, never a thousandth.
  const range = (panel) => {
    const values = panel.series.flatMap((series) => series.values)
      .filter((value) => value !== null && (!panel.log || value > 0));
    if (!values.length) return panel.log ? [1, 10] : [0, 1];
    let least = values[0], most = values[0];
    for (const value of values) { least = Math.min(least, value); most = Math.max(most, value); }
    if (panel.log) return [least / 1.2, most * 1.2];
    if (panel.zero) return [Math.min(0, least), Math.max(most, panel.least || 0) * 1.08 || 1];
    const size = Math.max(Math.abs(least), Math.abs(most)) || 1;
    const room = Math.max((most - least) * 0.08, (0.2 * size - (most - least)) / 2);
    return [least >= 0 ? Math.max(0, least - room) : least - room, most + room];
  };

  const decades = (low, high) => {
    const found = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += 1) {
      for (const digit of [1, 2, 5]) {
        const value = digit * 10 ** power;
        if (value >= low && value <= high) found.push(value);
      }
    }
    return found;
  };

  // Steps of a list of labels that leave room for each of them.
  const thinned = (labels, low, high, width) => {
    const first = Math.max(0, Math.ceil(low)), last = Math.min(labels.length - 1, Math.floor(high));
    const longest = labels.reduce((most, label) => Math.max(most, label.length), 1);
    const step = Math.max(1, Math.ceil((last - first + 1) * (longest * 7 + 12) / Math.max(width, 1)));
    const found = [];
    for (let place = first; place <= last; place += step) found.push(place);
    return found;
  };

  const clipped = (u, draw) => {
    const { ctx, bbox } = u;
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    draw(ctx, devicePixelRatio, bbox);
    ctx.restore();
  };

  const drawBehind = (u, spec, panel) => clipped(u, (ctx, ratio, bbox) => {
    for (const shade of spec.shades || []) {
      const from = u.valToPos(shade.from, "x", true), to = u.valToPos(shade.to, "x", true);
      ctx.globalAlpha = 0.18;
      ctx.fillStyle = css(shade.colour);
      ctx.fillRect(from, bbox.top, to - from, bbox.height);
      ctx.globalAlpha = 1;
    }
    for (const series of panel.series) {
      if (series.draw === "bars") drawBars(u, ctx, panel, series);
      if (series.draw === "steps") drawSteps(u, ctx, ratio, panel, series);
    }
  });

  const drawBars = (u, ctx, panel, series) => {
    ctx.fillStyle = css(series.colour);
    const ground = u.valToPos(0, "y", true);
    panel.x.forEach((at, index) => {
      if (!series.values[index]) return;
      const left = u.valToPos(at - series.widths[index] / 2, "x", true);
      const right = u.valToPos(at + series.widths[index] / 2, "x", true);
      const top = u.valToPos(series.values[index], "y", true);
      ctx.fillRect(left, top, Math.max(1, right - left - (right - left > 6 ? 1 : 0)), ground - top);
    });
  };

  // Each session's own value from half a step before it to half a step behind; with an area to another series.
  const drawSteps = (u, ctx, ratio, panel, series) => {
    const pos = (value) => u.valToPos(value, "y", true);
    ctx.strokeStyle = ctx.fillStyle = css(series.colour);
    ctx.lineWidth = ratio * (series.width || 1);
    ctx.setLineDash((series.dash || []).map((length) => length * ratio));
    const other = series.areaTo === undefined ? null : panel.series[series.areaTo].values;
    const line = new Path2D();
    let broken = true;
    panel.x.forEach((at, index) => {
      const value = series.values[index];
      if (value === null) { broken = true; return; }
      const left = u.valToPos(at - 0.5, "x", true), right = u.valToPos(at + 0.5, "x", true);
      if (broken) line.moveTo(left, pos(value)); else line.lineTo(left, pos(value));
      line.lineTo(right, pos(value));
      broken = false;
      if (other && other[index] !== null) {
        ctx.globalAlpha = 0.12;
        ctx.fillRect(left, pos(value), right - left, pos(other[index]) - pos(value));
        ctx.globalAlpha = 1;
      }
    });
    ctx.stroke(line);
    ctx.setLineDash([]);
  };

  const drawInFront = (u, spec, panel, first) => clipped(u, (ctx, ratio, bbox) => {
    ctx.font = `${11 * ratio}px system-ui, sans-serif`;
    ctx.textAlign = "left";
    ctx.textBaseline = "alphabetic";
    for (const mark of spec.marks || []) {
      const at = u.valToPos(mark.at, "x", true);
      ctx.strokeStyle = ctx.fillStyle = css(mark.colour);
      ctx.lineWidth = ratio * (mark.strong ? 1.5 : 1);
      ctx.setLineDash(mark.dash ? [4 * ratio, 3 * ratio] : []);
      ctx.beginPath();
      ctx.moveTo(at, bbox.top);
      ctx.lineTo(at, bbox.top + bbox.height);
      ctx.stroke();
      ctx.setLineDash([]);
      if (first && mark.label) {
        ctx.save();
        ctx.fillStyle = css(mark.colour === "line" ? "quiet" : mark.colour);
        const left = !mark.upright && at + 3 * ratio + ctx.measureText(mark.label).width > bbox.left + bbox.width;
        ctx.textAlign = left ? "right" : "left";  // there is no room on the right of the last sessions
        ctx.translate(at + (left ? -3 : 3) * ratio, bbox.top + (mark.upright ? bbox.height * 0.7 : 12 * ratio));
        if (mark.upright) { ctx.rotate(-Math.PI / 2); ctx.translate(0, 10 * ratio); }
        ctx.fillText(mark.label, 0, 0);
        ctx.restore();
      }
    }
    const small = panel.x.length > 200;
    for (const series of panel.series.filter((one) => one.draw === "points")) {
      const path = new Path2D(SHAPES[series.symbol]);
      const size = ratio * (small ? 3 : 4);
      ctx.strokeStyle = ctx.fillStyle = css(series.colour);
      ctx.lineWidth = 0.5;
      panel.x.forEach((at, index) => {
        if (series.values[index] === null) return;
        ctx.save();
        ctx.translate(u.valToPos(at, "x", true), u.valToPos(series.values[index], "y", true));
        ctx.scale(size, size);
        if (OUTLINED.has(series.symbol)) ctx.stroke(path); else ctx.fill(path);
        ctx.restore();
      });
    }
  });

  // What stands under the pointer, in words.
  const words = (spec, panel, index) => {
    if (panel.notes) return panel.notes(index);
    const head = panel.names ? panel.names[index] : `${number(panel.x[index])} ${spec.unit || ""}`;
    return [head, ...panel.series.flatMap((series) => {
      const value = series.values[index];
      if (value === null || value === undefined) return [];
      const exact = series.exact ? series.exact[index] : `${number(value)} ${panel.unit}`;
      return [`${series.name}: ${exact}`];
    })];
  };

  const pointAt = (u, spec, panel, tip) => {
    const { idx, left, top } = u.cursor;
    if (idx === null || idx === undefined || left < 0) { tip.hidden = true; return; }
    const lines = words(spec, panel, idx);
    tip.replaceChildren(...lines.map((line) => element("div", "", line)));
    tip.hidden = false;
    const over = u.over;
    const room = over.clientWidth - tip.offsetWidth;
    tip.style.left = `${over.offsetLeft + Math.max(0, Math.min(left + 12, room))}px`;
    tip.style.top = `${over.offsetTop + Math.max(0, Math.min(top + 12, over.clientHeight - tip.offsetHeight))}px`;
  };

  const axes = (spec, panel, isLast) => {
    const common = {
      stroke: () => css("quiet"), font: "12px system-ui, sans-serif", labelFont: "12px system-ui, sans-serif",
      grid: { stroke: () => css("grid"), width: 1 }, ticks: { stroke: () => css("line"), width: 1, size: 4 }, gap: 4,
    };
    const across = { ...common, size: isLast ? 26 : 8, label: isLast ? spec.label : undefined, labelSize: 18 };
    if (!isLast) across.values = (_, splits) => splits.map(() => "");
    else if (spec.ticks) across.values = (_, splits) => splits.map((at) => spec.ticks.find((one) => one[0] === at)[1]);
    else if (spec.labels) across.values = (_, splits) => splits.map((at) => spec.labels[at]);
    if (spec.ticks) across.splits = (_, axis, low, high) => spec.ticks.map((one) => one[0]).filter((at) => at >= low && at <= high);
    if (spec.labels) across.splits = (u, axis, low, high) => thinned(spec.labels, low, high, u.over.clientWidth || u.width);
    const upright = {
      ...common, label: panel.unit, labelSize: 18,
      size: (_, values) => 14 + 7 * Math.max(2, ...(values || []).map((one) => String(one).length)),
      values: (_, splits) => splits.map((value) => number(value)),
    };
    if (panel.log) {
      upright.splits = (_, axis, low, high) => decades(low, high);
      upright.filter = (_, splits) => splits;
    }
    return [across, upright];
  };

  let drawn = 0;

  const plot = (host, spec, panel, number_, width, key) => {
    const box = element("div", "panel");
    const tip = element("div", "tip");
    tip.hidden = true;
    host.append(legend(panel), box);
    const isLast = number_ === spec.panels.length - 1;
    const reach = spec.range || [panel.x[0], panel.x[panel.x.length - 1]];
    const ends = [panel.x[0], panel.x[panel.x.length - 1]];
    const span = range(panel);
    const u = new uPlot({
      width, height: panel.height, legend: { show: false },
      cursor: { y: false, points: { show: !panel.notes }, drag: { x: true, y: false }, sync: spec.panels.length > 1 ? { key } : undefined },
      scales: {
        // All of it at first, and again after a double click; what is dragged over in between.
        x: { time: false, range: (_, low, high) => (panel.x.length < 2 || (low === ends[0] && high === ends[1]) ? reach : [low, high]) },
        y: { distr: panel.log ? 3 : 1, range: () => span },
      },
      axes: axes(spec, panel, isLast),
      series: [{}, ...panel.series.map((series) => ({
        label: series.name, spanGaps: Boolean(series.span), width: series.width || 1, dash: series.dash,
        stroke: () => css(series.colour), points: { show: Boolean(series.dots), size: 5, fill: () => css(series.colour) },
        paths: series.draw === "line" ? undefined : () => null,
      }))],
      hooks: {
        drawAxes: [(self) => drawBehind(self, spec, panel)],
        draw: [(self) => drawInFront(self, spec, panel, number_ === 0)],
        setCursor: [(self) => pointAt(self, spec, panel, tip)],
      },
    }, [panel.x, ...panel.series.map((series) => series.values)], box);
    box.append(tip);
    if (panel.open) u.over.addEventListener("click", () => { if (u.cursor.idx !== null) panel.open(u.cursor.idx); });
    return u;
  };

  // Draw a chart into an element, in place of the one that is there.
  const draw = (host, spec) => {
    remove(host);
    const width = Math.max(200, host.clientWidth);
    drawn += 1;
    host.plots = spec.panels.map((panel, index) => plot(host, spec, panel, index, width, `chart-${drawn}`));
    sizes.observe(host);
  };

  const remove = (host) => {
    for (const u of host.plots || []) u.destroy();
    host.plots = [];
    host.replaceChildren();
  };

  const sizes = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      const width = Math.max(200, target.clientWidth);
      for (const u of target.plots || []) if (u.width !== width) u.setSize({ width, height: u.height });
    }
  });

  const repaint = () => {
    for (const host of document.querySelectorAll(".chart")) for (const u of host.plots || []) u.redraw(false);
  };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);

  // Draw each of some charts when it comes near, and the others one by one while nothing else is to be done: a
  // page of dozens of charts opens at once, and a picture of the whole page has all of them.
  const whenSeen = (hosts, drawOne) => {
    const todo = new Set(hosts);
    const one = (host) => { if (todo.delete(host)) { near.unobserve(host); drawOne(host); } };
    const near = new IntersectionObserver((entries) => {
      for (const entry of entries) if (entry.isIntersecting) one(entry.target);
    }, { rootMargin: "800px" });
    hosts.forEach((host) => near.observe(host));
    const idle = window.requestIdleCallback || ((run) => setTimeout(run, 200));
    const rest = () => {
      const [host] = todo;
      if (host && host.isConnected) { one(host); idle(rest); }
    };
    idle(rest);
    return { all: () => [...todo].forEach(one), stop: () => { todo.clear(); near.disconnect(); } };
  };

  // On paper all charts and tables are there, in the colours of paper.
  const forPaper = (drawAll) => {
    let opened = [];
    addEventListener("beforeprint", () => {
      opened = [...document.querySelectorAll("details:not([open])")];
      opened.forEach((one) => { one.open = true; });
      drawAll();
      repaint();
    });
    addEventListener("afterprint", () => {
      opened.forEach((one) => { one.open = false; });
      repaint();
    });
  };

  return { draw, element, forPaper, number, remove, whenSeen };
})();
