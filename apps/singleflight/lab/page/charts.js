// SPDX-License-Identifier: Apache-2.0
// Draws the two charts from the figures in #data, at the width there is, and again when that changes.
(() => {
  "use strict";
  const runs = JSON.parse(document.getElementById("data").textContent).runs;
  const colour = (i) => `var(--series-${i % 5})`;
  const make = (name, attributes, text) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const key in attributes) element.setAttribute(key, attributes[key]);
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const digits = (value) => Number(value.toPrecision(3)).toLocaleString("en");
  const duration = (ms) =>
    ms < 1e-3 ? `${digits(ms * 1e6)} ns` : ms < 1 ? `${digits(ms * 1e3)} us` : ms < 1e3 ? `${digits(ms)} ms` : `${digits(ms / 1e3)} s`;

  // About `count` round numbers from 0 to `most`.
  const ticks = (most, count) => {
    const rough = most / count;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = power * [1, 2, 5, 10].find((m) => m * power >= rough);
    const values = [];
    for (let i = 0; i * step <= most * 1.0001; ++i) values.push(Number((i * step).toPrecision(6)));
    return values;
  };

  // The first of them that `most` does not exceed: the upper end of an axis.
  const roof = (most) => {
    const values = ticks(most, 5);
    const last = values[values.length - 1];
    return last >= most ? last : last + values[1];
  };

  for (const legend of document.querySelectorAll(".legend")) {
    runs.forEach((run, i) => {
      const item = document.createElement("span");
      const mark = document.createElement("span");
      mark.className = "mark";
      mark.style.background = colour(i);
      item.append(mark, run.protection);
      legend.append(item);
    });
  }

  // A chart: x from 0 to 1 by `toX`, y from 0 to `top`; `lines` as {i, points, band}; `read(x)` gives the tip's rows.
  const draw = (box, chart) => {
    const width = Math.max(box.clientWidth, 260);
    const height = width < 520 ? 240 : 300;
    const yTicks = ticks(chart.top, 5);
    const left = 34 + 7 * Math.max(...yTicks.map((y) => chart.yText(y).length));
    const right = 14, above = 12, below = 44;
    const px = (x) => left + x * (width - left - right);
    const py = (y) => height - below - (y / chart.top) * (height - above - below);
    const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": chart.label });
    for (const y of yTicks) {
      svg.append(make("line", { class: "grid", x1: left, x2: width - right, y1: py(y), y2: py(y) }));
      svg.append(make("text", { x: left - 8, y: py(y) + 4, "text-anchor": "end" }, chart.yText(y)));
    }
    let free = -Infinity;  // labels that would touch the one before are left out
    for (const { x, text } of chart.xTicks(width)) {
      svg.append(make("line", { class: "axis", x1: px(x), x2: px(x), y1: height - below, y2: height - below + 4 }));
      const half = text.length * 3.6;
      if (px(x) - half < free || px(x) + half > width + 2) continue;
      free = px(x) + half + 8;
      svg.append(make("text", { x: px(x), y: height - below + 18, "text-anchor": "middle" }, text));
    }
    svg.append(make("line", { class: "axis", x1: left, x2: width - right, y1: py(0), y2: py(0) }));
    svg.append(make("text", { x: (left + width - right) / 2, y: height - 6, "text-anchor": "middle" }, chart.xLabel));
    svg.append(make("text", { x: 14, y: (height - below) / 2, "text-anchor": "middle", transform: `rotate(-90 14 ${(height - below) / 2})` }, chart.yLabel));
    const path = (points) => points.map(([x, y]) => `${px(x).toFixed(1)},${py(y).toFixed(1)}`).join("L");
    for (const { i, points, band } of chart.lines) {
      if (points.length === 0) continue;  // nothing was measured
      const area = `M${px(band[0][0])},${py(0)}L${path(band)}L${px(band[band.length - 1][0])},${py(0)}Z`;
      svg.append(make("path", { d: area, fill: colour(i), "fill-opacity": 0.16 }));
      svg.append(make("path", { class: "series", d: `M${path(points)}`, fill: "none", stroke: colour(i), "stroke-width": 2, "stroke-linejoin": "round" }));
    }
    const cursor = make("line", { class: "cursor", y1: above, y2: height - below, visibility: "hidden" });
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
      tip.replaceChildren(...chart.read(x).map((row) => Object.assign(document.createElement("div"), { textContent: row })));
      tip.style.left = `${at > width / 2 ? at - tip.offsetWidth - 10 : at + 10}px`;
    });
    svg.addEventListener("pointerleave", () => { tip.hidden = true; cursor.setAttribute("visibility", "hidden"); });
  };

  const loads = () => {
    const end = Math.max(...runs.map((run) => run.wall_s), 1e-6);
    const top = roof(Math.max(...runs.map((run) => run.peak_loads), 1));
    const atTime = (run, i) => Math.min((i * run.series.interval_ms) / 1000, run.wall_s) / end;
    const steps = (run, values) => values.flatMap((y, i) => [[atTime(run, i), y], [atTime(run, i + 1), y]]);
    const middles = (run, values) => values.map((y, i) => [(atTime(run, i) + atTime(run, i + 1)) / 2, y]);
    return {
      label: "Loads in flight over time, for each protection", top, xLabel: "time since the run began (s)", yLabel: "loads in flight",
      yText: digits,
      xTicks: (width) => ticks(end, width < 520 ? 5 : 9).map((s) => ({ x: s / end, text: digits(s) })),
      lines: runs.map((run, i) => ({ i, points: middles(run, run.series.mean), band: steps(run, run.series.most) })),
      read: (x) => [`at ${digits(x * end)} s`].concat(runs.map((run) => {
        const i = Math.floor((x * end * 1000) / run.series.interval_ms);
        return i < run.series.mean.length ? `${run.protection}: ${digits(run.series.mean[i])} on average, ${run.series.most[i]} at most` : `${run.protection}: over`;
      })),
    };
  };

  const latency = () => {
    const all = runs.flatMap((run) => run.latencies);
    let low = Math.log10(Math.max(Math.min(...all.map((b) => b[0])), 1e-4));
    let high = Math.log10(Math.max(...all.map((b) => b[1]), 1e-3));
    if (!Number.isFinite(low) || high - low < 1) {  // a delay alone: show a decade around it
      const middle = Number.isFinite(low) ? (low + high) / 2 : 0;
      low = middle - 0.5;
      high = middle + 0.5;
    }
    const bins = 56;
    const shares = runs.map((run) => {
      const share = new Array(bins).fill(0);
      for (const [from, to, count] of run.latencies) {
        const place = (Math.log10(Math.max((from + to) / 2, 1e-4)) - low) / (high - low);
        share[Math.min(Math.max(Math.floor(place * bins), 0), bins - 1)] += (100 * count) / Math.max(run.requests, 1);
      }
      return share;
    });
    const top = roof(Math.max(...shares.flat(), 1));
    // From the first bin that holds something to the last.
    const steps = (share) => {
      const last = share.findLastIndex((y) => y > 0);
      const first = share.findIndex((y) => y > 0);
      const points = share.flatMap((y, i) => (i < first || i > last ? [] : [[i / bins, y], [(i + 1) / bins, y]]));
      return first < 0 ? [] : [[first / bins, 0], ...points, [(last + 1) / bins, 0]];
    };
    const xTicks = [];
    for (let power = Math.floor(low); power <= high; ++power) {
      for (const m of [1, 2, 5]) {
        const x = (power + Math.log10(m) - low) / (high - low);
        if (x >= 0 && x <= 1) xTicks.push({ x, text: duration(m * 10 ** power) });
      }
    }
    return {
      label: "Distribution of the requests' latency, for each protection", top, xLabel: "latency (logarithmic)", yLabel: "share of requests (%)",
      yText: digits, xTicks: () => xTicks,
      lines: shares.map((share, i) => ({ i, points: steps(share), band: steps(share) })),
      read: (x) => {
        const i = Math.min(Math.floor(x * bins), bins - 1);
        const edge = (n) => duration(10 ** (low + (n / bins) * (high - low)));
        return [`${edge(i)} to ${edge(i + 1)}`].concat(runs.map((run, r) => `${run.protection}: ${digits(shares[r][i])} % of requests`));
      },
    };
  };

  const charts = [["loads", loads()], ["latency", latency()]];
  const all = () => charts.forEach(([id, chart]) => draw(document.getElementById(id), chart));
  let drawn = 0;
  new ResizeObserver(() => {
    const width = document.getElementById("loads").clientWidth;
    if (width !== drawn) all();
    drawn = width;
  }).observe(document.getElementById("loads"));
  all();
  document.documentElement.dataset.charts = String(document.querySelectorAll(".chart svg").length);
})();
