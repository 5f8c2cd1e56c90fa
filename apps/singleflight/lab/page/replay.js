// SPDX-License-Identifier: Apache-2.0
// The two charts of a replay report, from the results in #data.
(() => {
  "use strict";
  const { digits, duration, ticks, roof } = chart;
  const runs = JSON.parse(document.getElementById("data").textContent).runs;

  const loads = () => {
    const end = Math.max(...runs.map((run) => run.wall_s), 1e-6);
    const top = roof(Math.max(...runs.map((run) => run.peak_loads), 1));
    const atTime = (run, i) => Math.min((i * run.series.interval_ms) / 1000, run.wall_s) / end;
    const steps = (run, values) =>
      values.flatMap((y, i) => [[atTime(run, i), y], [atTime(run, i + 1), y]]);
    const middles = (run, values) =>
      values.map((y, i) => [(atTime(run, i) + atTime(run, i + 1)) / 2, y]);
    return {
      label: "Loads in flight over time, for each protection", top,
      xLabel: "time since the run began (s)", yLabel: "loads in flight",
      yText: digits,
      xTicks: (width) =>
        ticks(end, width < 520 ? 5 : 9).map((s) => ({ x: s / end, text: digits(s) })),
      lines: runs.map((run, i) => ({
        i, points: middles(run, run.series.mean), band: steps(run, run.series.most),
      })),
      read: (x) => [`at ${digits(x * end)} s`].concat(runs.map((run) => {
        const i = Math.floor((x * end * 1000) / run.series.interval_ms);
        const { mean, most } = run.series;
        const state =
          i < mean.length ? `${digits(mean[i])} on average, ${most[i]} at most` : "finished";
        return `${run.protection}: ${state}`;
      })),
    };
  };

  const latency = () => {
    const all = runs.flatMap((run) => run.latencies);
    let low = Math.log10(Math.max(Math.min(...all.map((b) => b[0])), 1e-4));
    let high = Math.log10(Math.max(...all.map((b) => b[1]), 1e-3));
    if (!Number.isFinite(low) || high - low < 1) {  // only one delay: show a decade around it
      const middle = Number.isFinite(low) ? (low + high) / 2 : 0;
      low = middle - 0.5;
      high = middle + 0.5;
    }
    const bins = 56;
    const shares = runs.map((run) => {
      const share = new Array(bins).fill(0);
      for (const [from, to, count] of run.latencies) {
        const place = (Math.log10(Math.max((from + to) / 2, 1e-4)) - low) / (high - low);
        const bin = Math.min(Math.max(Math.floor(place * bins), 0), bins - 1);
        share[bin] += (100 * count) / Math.max(run.requests, 1);
      }
      return share;
    });
    const top = roof(Math.max(...shares.flat(), 1));
    // From the first bin that is not empty to the last.
    const steps = (share) => {
      const last = share.findLastIndex((y) => y > 0);
      const first = share.findIndex((y) => y > 0);
      const points = share.flatMap((y, i) =>
        (i < first || i > last ? [] : [[i / bins, y], [(i + 1) / bins, y]]));
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
      label: "Distribution of the requests' latency, for each protection", top,
      xLabel: "latency (logarithmic)", yLabel: "share of requests (%)",
      yText: digits, xTicks: () => xTicks,
      lines: shares.map((share, i) => ({ i, points: steps(share), band: steps(share) })),
      read: (x) => {
        const i = Math.min(Math.floor(x * bins), bins - 1);
        const edge = (n) => duration(10 ** (low + (n / bins) * (high - low)));
        return [
          `${edge(i)} to ${edge(i + 1)}`,
          ...runs.map((run, r) => `${run.protection}: ${digits(shares[r][i])} % of requests`),
        ];
      },
    };
  };

  chart.legend(runs.map((run) => run.protection));
  chart.show([["loads", loads()], ["latency", latency()]]);
})();
