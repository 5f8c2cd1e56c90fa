// SPDX-License-Identifier: Apache-2.0
// chart: the drawing functions that the report scripts share.
const chart = (() => {
  "use strict";
  const colour = (i) => `var(--series-${i % 5})`;
  const make = (name, attributes, text) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const key in attributes) element.setAttribute(key, attributes[key]);
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const digits = (value) => Number(value.toPrecision(3)).toLocaleString("en");
  const duration = (ms) =>
    ms < 1e-3 ? `${digits(ms * 1e6)} ns`
      : ms < 1 ? `${digits(ms * 1e3)} us`
      : ms < 1e3 ? `${digits(ms)} ms`
      : `${digits(ms / 1e3)} s`;

  // About `count` round numbers from 0 to `most`.
  const ticks = (most, count) => {
    const rough = most / count;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = power * [1, 2, 5, 10].find((m) => m * power >= rough);
    const values = [];
    for (let i = 0; i * step <= most * 1.0001; ++i) values.push(Number((i * step).toPrecision(6)));
    return values;
  };

  // The upper end of an axis: the first tick that `most` does not exceed.
  const roof = (most) => {
    const values = ticks(most, 5);
    const last = values[values.length - 1];
    return last >= most ? last : last + values[1];
  };

  // Writes the names of the lines above each chart, or above those that are selected.
  const legend = (names, selector = ".legend") => {
    for (const legend of document.querySelectorAll(selector)) {
      names.forEach((name, i) => {
        const item = document.createElement("span");
        const mark = document.createElement("span");
        mark.className = "mark";
        mark.style.background = colour(i);
        item.append(mark, name);
        legend.append(item);
      });
    }
  };

  // Draws a chart: x from 0 to 1, y from 0 to `top`; `lines` are {i, points, band, dots}; `read(x)`
  // returns the rows of the tip.
  const draw = (box, chart) => {
    const width = Math.max(box.clientWidth, 260);
    const height = width < 520 ? 240 : 300;
    const yTicks = ticks(chart.top, 5);
    const left = 34 + 7 * Math.max(...yTicks.map((y) => chart.yText(y).length));
    const right = 14, above = 12, below = 44;
    const px = (x) => left + x * (width - left - right);
    const py = (y) => height - below - (y / chart.top) * (height - above - below);
    const svg = make("svg", {
      viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": chart.label,
    });
    const line = (attributes) => svg.append(make("line", attributes));
    for (const y of yTicks) {
      line({ class: "grid", x1: left, x2: width - right, y1: py(y), y2: py(y) });
      svg.append(make("text", { x: left - 8, y: py(y) + 4, "text-anchor": "end" }, chart.yText(y)));
    }
    let free = -Infinity;  // a label that would touch the previous one is omitted
    for (const { x, text } of chart.xTicks(width)) {
      line({ class: "axis", x1: px(x), x2: px(x), y1: height - below, y2: height - below + 4 });
      const half = text.length * 3.6;
      if (px(x) - half < free || px(x) + half > width + 2) continue;
      free = px(x) + half + 8;
      svg.append(make("text", { x: px(x), y: height - below + 18, "text-anchor": "middle" }, text));
    }
    line({ class: "axis", x1: left, x2: width - right, y1: py(0), y2: py(0) });
    const middle = (height - below) / 2;
    svg.append(
      make("text", { x: (left + width - right) / 2, y: height - 6, "text-anchor": "middle" },
        chart.xLabel),
      make("text",
        { x: 14, y: middle, "text-anchor": "middle", transform: `rotate(-90 14 ${middle})` },
        chart.yLabel),
    );
    const place = ([x, y]) => `${px(x).toFixed(1)},${py(y).toFixed(1)}`;
    const path = (points) => points.map(place).join("L");
    for (const { i, points, band, dots } of chart.lines) {
      if (points.length === 0) continue;  // nothing was measured
      if (band) {
        const [first, last] = [px(band[0][0]), px(band[band.length - 1][0])];
        const area = `M${first},${py(0)}L${path(band)}L${last},${py(0)}Z`;
        svg.append(make("path", { d: area, fill: colour(i), "fill-opacity": 0.16 }));
      }
      svg.append(make("path", {
        class: "series", d: `M${path(points)}`, fill: "none", stroke: colour(i), "stroke-width": 2,
        "stroke-linejoin": "round",
      }));
      for (const [x, y] of dots ? points : []) {
        svg.append(make("circle", { cx: px(x), cy: py(y), r: 3, fill: colour(i) }));
      }
    }
    const cursor = make("line", {
      class: "cursor", y1: above, y2: height - below, visibility: "hidden",
    });
    svg.append(cursor);
    const tip = document.createElement("div");
    tip.className = "tip";
    tip.hidden = true;
    box.replaceChildren(svg, tip);
    svg.addEventListener("pointermove", (event) => {
      const at = (event.clientX - svg.getBoundingClientRect().left) * (width / svg.clientWidth);
      const x = (at - left) / (width - left - right);
      const outside = x < 0 || x > 1;
      tip.hidden = outside;
      cursor.setAttribute("visibility", outside ? "hidden" : "visible");
      if (outside) return;
      cursor.setAttribute("x1", at);
      cursor.setAttribute("x2", at);
      const rows = chart.read(x).map((row) =>
        Object.assign(document.createElement("div"), { textContent: row }));
      tip.replaceChildren(...rows);
      tip.style.left = `${at > width / 2 ? at - tip.offsetWidth - 10 : at + 10}px`;
    });
    svg.addEventListener("pointerleave", () => {
      tip.hidden = true;
      cursor.setAttribute("visibility", "hidden");
    });
  };

  // Draws each [id, chart] at the available width, and again when the width changes.
  const show = (charts) => {
    const all = () => charts.forEach(([id, chart]) => draw(document.getElementById(id), chart));
    const first = document.getElementById(charts[0][0]);
    let drawn = 0;
    new ResizeObserver(() => {
      const width = first.clientWidth;
      if (width !== drawn) all();
      drawn = width;
    }).observe(first);
    all();
    const shown = document.querySelectorAll(".chart svg").length;
    document.documentElement.dataset.charts = String(shown);
  };

  return { digits, duration, ticks, roof, legend, show };
})();
