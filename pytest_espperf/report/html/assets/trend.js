"use strict";
// Charts of gates over the sessions of a history, for the report of one session and for the page over all.
const trends = (() => {
  const KINDS = [
    ["in the baseline", "good", "circle"],
    ["accepted by a user", "good", "star"],
    ["pinned", "good", "square"],
    ["unclear", "warn", "diamond"],
    ["failed", "bad", "cross"],
    ["failed elsewhere", "plain", "ring"],
  ];
  const STEADY = 3;
  const MOST_MARKS = 40;

  const pct = (value) => `${value > 0 ? "+" : ""}${charts.number(value, 1)} %`;

  // "2026-01-31 23:59" in as much as is not the same for all: the day, of one day the time of day.
  const dates = (whens) => {
    const [from, to] = [whens[0], whens[whens.length - 1]];
    if (from.slice(0, 10) === to.slice(0, 10)) return whens.map((when) => when.slice(11));
    return whens.map((when) => when.slice(from.slice(0, 4) === to.slice(0, 4) ? 5 : 0, 10));
  };

  const AXES = {
    time: (sessions) => dates(sessions.map((one) => one.when)),
    commit: (sessions) => sessions.map((one) => one.commit || "-"),
    firmware: (sessions) => sessions.map((one) => one.firmware || "-"),
  };

  const notes = (gate, session, point) => {
    const value = `${charts.number(point.value, gate.digits)} ${gate.unit}`;
    const change = point.pct === null ? "" : `, ${pct(point.pct)} slower`;
    return [
      `${session.when}${session.tag ? `  ${session.tag}` : ""}`,
      value + change,
      point.baseline === null ? "" : `baseline ${charts.number(point.baseline, gate.digits)} ${gate.unit}`,
      point.word && point.word !== session.verdict ? `${point.word} (session: ${session.verdict})` : session.verdict,
      session.commit ? `commit ${session.commit}` : "",
      session.firmware ? `firmware ${session.firmware}` : "",
      point.opens ? point.opens : "",
      gate.steps[point.session] ? `a step began: ${gate.steps[point.session]}` : "",
      session.link ? "click for its report" : "",
    ].filter(Boolean);
  };

  // The spec of a chart for charts.draw: `points` are those of a gate that are shown, oldest first.
  const spec = (gate, points, sessions, axis = "time") => {
    const own = points.map((point) => sessions[point.session]);
    const values = (choose) => points.map((point) => (choose(point) ? point.value : null));
    let baseline = null, limit = null;
    const bases = [], limits = [];
    for (const point of points) {  // a session that was not compared has those before it, within its epoch
      if (point.opens) baseline = limit = null;
      if (point.baseline !== null) { baseline = point.baseline; limit = point.limit; }
      bases.push(baseline);
      limits.push(limit);
    }
    const series = [
      { name: "baseline", colour: "plain", draw: "steps", values: bases },
      { name: "fails from here", colour: "bad", draw: "steps", dash: [2, 3], values: limits, areaTo: 0 },
      { name: "history", colour: "good", draw: "line", values: values((one) => one.kind < STEADY), span: true, unnamed: true },
    ];
    KINDS.forEach(([name, colour, symbol], kind) => {
      const found = values((one) => one.kind === kind);
      if (found.some((value) => value !== null)) series.push({ name, colour, symbol, draw: "points", values: found });
    });
    const isThis = values((one) => sessions[one.session].this);
    if (isThis.some((value) => value !== null)) series.push({ name: "this session", colour: "now", symbol: "halo", draw: "points", values: isThis });
    const marks = [];
    points.forEach((point, place) => {
      const before = place ? own[place - 1].firmware : own[place].firmware;
      const step = gate.steps[point.session];
      if (step) marks.push({ at: place - 0.5, colour: "warn", strong: true, label: `step${own[place].commit ? ` at ${own[place].commit}` : ""}` });
      else if (point.opens) marks.push({ at: place - 0.5, colour: "plain", dash: true, strong: true, label: point.opens });
      else if (own[place].firmware && own[place].firmware !== before) {
        marks.push({ at: place - 0.5, colour: "line", label: own[place].firmware, isFirmware: true });
      }
    });
    const many = marks.length > MOST_MARKS;
    return {
      range: [-0.5, points.length - 0.5], labels: AXES[axis](own), marks: many ? marks.filter((one) => !one.isFirmware) : marks,
      panels: [{
        height: 240, unit: gate.unit, x: points.map((_, place) => place),
        series: series.filter((one) => one.values.some((value) => value !== null)).map((one, _, all) => (
          one.areaTo === undefined ? one : { ...one, areaTo: all.findIndex((other) => other.name === "baseline") })),
        notes: (place) => notes(gate, own[place], points[place]),
        open: (place) => { if (own[place].link) location.href = own[place].link; },
      }],
    };
  };

  // Rows of the page's data as objects with names.
  const named = (names, rows) => rows.map((row) => Object.fromEntries(names.map((name, place) => [name, row[place]])));
  const read = (data) => ({
    sessions: named(data.session_fields, data.sessions),
    gates: data.gates.map((gate) => ({
      ...gate, points: named(data.point_fields, gate.points), steps: Object.fromEntries(gate.changes || []) })),
  });

  return { pct, read, spec };
})();
