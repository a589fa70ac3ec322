"use strict";
(() => {
  const hosts = [...document.querySelectorAll(".chart")];
  const read = (host) => JSON.parse(host.nextElementSibling.textContent);
  const history = document.getElementById("trends");
  const known = history ? trends.read(JSON.parse(history.textContent)) : null;
  const drawOne = (host) => {
    const gate = host.dataset.gate;
    charts.draw(host, gate === undefined ? read(host) : trends.spec(known.gates[gate], known.gates[gate].points, known.sessions));
  };
  addEventListener("load", () => charts.forPaper(charts.whenSeen(hosts, drawOne).all));
})();
