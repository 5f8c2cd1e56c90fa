// SPDX-License-Identifier: Apache-2.0
// The two charts of a simulation report, from the results in #data.
(() => {
  "use strict";
  const { digits, roof } = chart;
  const { runs, hours, sweep } = JSON.parse(document.getElementById("data").textContent);
  // A run that was stopped has no loads by hour.
  const names = runs.filter((run) => run.complete).map((run) => run.protection);

  const byHour = () => {
    const middle = (i) => (i + 0.5) / hours.length;
    const loads = (name) => hours.map((hour) => hour.loads[name]);
    const nearest = (x) => Math.min(Math.floor(x * hours.length), hours.length - 1);
    return {
      label: "Loads in each hour of the log, for each protection",
      xLabel: "hour of the log", yLabel: "loads",
      top: roof(Math.max(...names.flatMap(loads), 1)),
      yText: digits,
      xTicks: () => hours.map((hour, i) => ({ x: middle(i), text: hour.start })),
      lines: names.map((name, i) => ({
        i, points: loads(name).map((y, hour) => [middle(hour), y]), dots: hours.length < 50,
      })),
      read: (x) => {
        const hour = hours[nearest(x)];
        return [
          `${hour.start}: ${hour.requests.toLocaleString("en")} requests`,
          ...names.map((name) => `${name}: ${hour.loads[name].toLocaleString("en")} loads`),
        ];
      },
    };
  };

  const bySettings = () => {
    const { ttls, capacities, saved } = sweep;
    const place = (i) => (i + 0.5) / ttls.length;
    const nearest = (x) => Math.min(Math.floor(x * ttls.length), ttls.length - 1);
    return {
      label: "Share of the loads that a cache saves, by ttl, for each capacity",
      xLabel: "ttl", yLabel: "loads saved (%)",
      top: Math.min(roof(Math.max(...saved.flat().map((share) => 100 * share), 1)), 100),
      yText: digits,
      xTicks: () => ttls.map((ttl, i) => ({ x: place(i), text: ttl })),
      lines: saved.map((row, i) => ({
        i, points: row.map((share, ttl) => [place(ttl), 100 * share]), dots: true,
      })),
      read: (x) => [
        `ttl: ${ttls[nearest(x)]}`,
        ...capacities.map((entries, i) =>
          `${entries.toLocaleString("en")} entries: ${(100 * saved[i][nearest(x)]).toFixed(1)} %`),
      ],
    };
  };

  chart.legend(names, ".legend:not(.capacities)");
  const charts = [["hours", byHour()]];
  if (sweep) {
    const shown = sweep.capacities.map((entries) => `${entries.toLocaleString("en")} entries`);
    chart.legend(shown, ".capacities");
    charts.push(["sweep", bySettings()]);
  }
  chart.show(charts);
})();
