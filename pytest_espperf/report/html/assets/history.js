"use strict";
// The page over a history: its filters, which stand in the address so that they can be sent, charts and sessions.
(() => {
  const MOST_ROWS = 100;
  const data = JSON.parse(document.getElementById("trends").textContent);
  const { sessions, gates } = trends.read(data);
  const form = document.querySelector(".filters");
  const place = document.getElementById("charts");
  const rows = document.querySelector("#sessions tbody");
  let pending = null;

  const chosen = () => Object.fromEntries([...new FormData(form)]);

  // The points of a gate that the filters leave, oldest first.
  const left = (gate, filters) => {
    const found = gate.points.filter((point) => !filters.verdict
      || point.word === filters.verdict || sessions[point.session].verdict === filters.verdict);
    return filters.newest ? found.slice(-Number(filters.newest)) : found;
  };

  const figure = (gate, points, filters) => {
    const made = charts.element("figure");
    const caption = charts.element("figcaption");
    const last = points[points.length - 1];
    caption.append(charts.element("b", "", `${gate.profile}:${gate.metric}`), " ",
      charts.element("span", "quiet", `${gate.label}${gate.unit ? ` in ${gate.unit}` : ""}; ${gate.better === "higher" ? "more" : "less"} is better; newest ${charts.number(last.value, gate.digits)}`));
    const host = charts.element("div", "chart");
    host.style.minHeight = "265px";
    host.setAttribute("role", "img");
    host.setAttribute("aria-label", `History of ${gate.profile}:${gate.metric}, ${points.length} sessions`);
    host.draw = () => charts.draw(host, trends.spec(gate, points, sessions, filters.axis || "time"));
    made.append(caption, host);
    return made;
  };

  const drawCharts = (filters) => {
    if (pending) pending.stop();
    for (const host of place.querySelectorAll(".chart")) charts.remove(host);
    place.replaceChildren();
    const boards = new Map();
    let count = 0;
    for (const gate of gates) {
      if (filters.board && gate.board !== filters.board) continue;
      if (filters.profile && gate.profile !== filters.profile) continue;
      if (filters.metric && gate.metric !== filters.metric) continue;
      const points = left(gate, filters);
      if (!points.length) continue;
      if (!boards.has(gate.board)) {
        const grid = charts.element("div", "grid");
        place.append(charts.element("h3", "", gate.board || "no board"), grid);
        boards.set(gate.board, grid);
      }
      boards.get(gate.board).append(figure(gate, points, filters));
      count += 1;
    }
    form.querySelector("output").textContent = `${count} of ${gates.length} gates`;
    if (!count) place.append(charts.element("p", "", gates.length ? "No gate matches these filters." : "There is no session with figures yet."));
    pending = charts.whenSeen([...place.querySelectorAll(".chart")], (host) => host.draw());
  };

  const cell = (text, name, link) => {
    const made = charts.element("td", name);
    made.setAttribute("role", "cell");
    if (link) {
      const anchor = charts.element("a", "", text);
      anchor.href = link;
      made.append(anchor);
    } else made.textContent = text;
    return made;
  };

  const drawSessions = (filters) => {
    const with_profile = filters.profile && new Set(gates.filter((gate) => gate.profile === filters.profile)
      .flatMap((gate) => gate.points.map((point) => point.session)));
    const found = [];
    sessions.forEach((one, index) => {
      if (filters.board && one.board !== filters.board) return;
      if (filters.verdict && one.verdict !== filters.verdict) return;
      if (with_profile && !with_profile.has(index)) return;
      found.push(one);
    });
    rows.replaceChildren(...found.slice(-MOST_ROWS).reverse().map((one) => {
      const row = charts.element("tr", data.moods[one.verdict] || "plain");
      row.setAttribute("role", "row");
      const time = charts.element("th", "", one.when);
      time.setAttribute("role", "rowheader");
      time.scope = "row";
      const verdict = cell("", "verdict-of");
      const pill = charts.element("span", "pill");
      pill.append(...cell(one.verdict, "", one.link).childNodes);
      verdict.append(pill);
      row.append(time, verdict, cell(one.worst_pct === null ? "-" : trends.pct(one.worst_pct), "value"),
        cell(one.board), cell(one.tag || "-"), cell(one.commit || "-"), cell(one.firmware || "-"), cell(one.id));
      return row;
    }));
    document.getElementById("more").textContent = found.length > MOST_ROWS
      ? `The newest ${MOST_ROWS} of ${charts.number(found.length, 0)} sessions.` : "";
  };

  const draw = () => {
    const filters = chosen();
    drawCharts(filters);
    drawSessions(filters);
  };

  const restore = () => {
    const wanted = new URLSearchParams(location.hash.slice(1));
    for (const select of form.querySelectorAll("select")) {
      const value = wanted.get(select.name) || "";
      select.value = [...select.options].some((option) => option.value === value) ? value : "";
    }
    draw();
  };

  form.addEventListener("change", () => {
    const kept = new URLSearchParams(Object.entries(chosen()).filter(([, value]) => value));
    window.history.replaceState(null, "", `#${kept}`);
    draw();
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  addEventListener("hashchange", () => { if (location.hash.includes("=") || !location.hash) restore(); });
  addEventListener("load", restore);
  charts.forPaper(() => { if (pending) pending.all(); });
})();
