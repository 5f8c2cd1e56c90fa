// SPDX-License-Identifier: Apache-2.0
// The chart of a hit-ratio report, from the results in #data.
(() => {
  "use strict";
  const { digits, roof } = chart;
  const { capacities } = JSON.parse(document.getElementById("data").textContent);
  const caches = [["LRU", "lru"], ["loading_cache", "loading_cache"], ["optimum", "optimum"]];

  const hitRatio = () => {
    const sizes = capacities.map((each) => Math.log10(each.entries));
    let low = Math.min(...sizes);
    let high = Math.max(...sizes);
    if (high - low < 0.1) {  // one capacity, or close ones: show a decade around them
      low -= 0.5;
      high += 0.5;
    }
    const margin = 0.06 * (high - low);  // space for the outer labels
    low -= margin;
    high += margin;
    const place = (i) => (sizes[i] - low) / (high - low);
    const percent = (each, name) => 100 * each[name].ratio;
    return {
      label: "Hit ratio by capacity, for each cache",
      xLabel: "capacity in entries (logarithmic)", yLabel: "hit ratio (%)",
      top: Math.min(roof(Math.max(...capacities.map((each) => percent(each, "optimum")), 1)), 100),
      yText: digits,
      xTicks: () => capacities.map((each, i) => ({ x: place(i), text: digits(each.entries) })),
      lines: caches.map(([, name], line) => ({
        i: line, points: capacities.map((each, i) => [place(i), percent(each, name)]), dots: true,
      })),
      read: (x) => {
        const off = (i) => Math.abs(place(i) - x);
        const near = capacities.reduce((best, _, i) => (off(i) < off(best) ? i : best), 0);
        const each = capacities[near];
        return [
          `${each.entries.toLocaleString("en")} entries`,
          ...caches.map(([shown, name]) => `${shown}: ${percent(each, name).toFixed(1)} %`),
        ];
      },
    };
  };

  chart.legend(caches.map(([shown]) => shown));
  chart.show([["hit_ratio", hitRatio()]]);
})();
