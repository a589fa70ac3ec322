"use strict";
(() => {
  const charts = [...document.querySelectorAll(".chart")];
  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  const colours = (layout) => {
    const axis = { gridcolor: style("--grid"), linecolor: style("--line"), tickcolor: style("--line"), zerolinecolor: style("--grid") };
    const changed = {
      "font.color": style("--text"),
      "hoverlabel.bgcolor": style("--raised"),
      "hoverlabel.bordercolor": style("--line"),
      "hoverlabel.font.color": style("--text"),
      "legend.bgcolor": "rgba(0,0,0,0)",
    };
    for (const key of Object.keys(layout).filter((one) => /^[xy]axis\d*$/.test(one))) {
      for (const [name, value] of Object.entries(axis)) changed[`${key}.${name}`] = value;
    }
    return changed;
  };

  const draw = (chart) => {
    if (chart.dataset.drawn) return Promise.resolve();
    chart.dataset.drawn = "yes";
    const figure = JSON.parse(chart.nextElementSibling.textContent);
    const layout = { ...figure.layout, autosize: true };
    delete layout.width;
    const config = { responsive: true, displaylogo: false, displayModeBar: false, scrollZoom: false };
    return Plotly.newPlot(chart, figure.data, layout, config).then(() => Plotly.relayout(chart, colours(layout)));
  };

  const recolour = () => {
    for (const chart of charts) if (chart.dataset.drawn) Plotly.relayout(chart, colours(chart.layout));
  };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);

  // What is far below is drawn when it comes near: a page of dozens of charts opens at once.
  const near = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting) {
        near.unobserve(entry.target);
        draw(entry.target);
      }
    }
  }, { rootMargin: "800px" });
  charts.forEach((chart) => near.observe(chart));

  // The others follow one by one while nothing else is to be done: a picture of the whole page has them, too.
  const idle = window.requestIdleCallback || ((run) => setTimeout(run, 200));
  const rest = () => {
    const chart = charts.find((one) => !one.dataset.drawn);
    if (chart) draw(chart).then(() => idle(rest));
  };
  addEventListener("load", () => idle(rest));

  let opened = [];
  const forPaper = () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    opened.forEach((one) => { one.open = true; });
    return Promise.all(charts.map(draw)).then(recolour);
  };
  addEventListener("beforeprint", forPaper);
  addEventListener("afterprint", () => {
    opened.forEach((one) => { one.open = false; });
    recolour();
  });
  if (location.hash === "#all") forPaper();
})();
