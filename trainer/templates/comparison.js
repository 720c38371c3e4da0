"use strict";
// Tells the values of all runs where the pointer is, or where arrow keys lead, and hides runs whose button is pressed.
// Without it the page shows all curves.
const charts = [...document.querySelectorAll("svg.curves")].map((chart) => ({
  chart,
  curves: [...chart.querySelectorAll(".plot path")].map((path) => ({
    run: path.dataset.run,
    spots: path.getAttribute("d").slice(1).split(/[L ]/).map((spot) => spot.split(",").map(Number)),
  })),
}));
const buttons = [...document.querySelectorAll(".legend.runs button")];
const reading = document.querySelector(".reading");
const hidden = new Set();
const guide = document.createElementNS("http://www.w3.org/2000/svg", "line");
guide.classList.add("at");
guide.setAttribute("y1", "0");
guide.setAttribute("y2", "100%");
let current = null;

function value(chart, fromTop) {
  const [low, high] = [Number(chart.dataset.low), Number(chart.dataset.high)];
  const share = 1 - fromTop / 100;
  return chart.dataset.scale === "logarithmic" ? low * (high / low) ** share : low + share * (high - low);
}

function nearest(spots, x) {
  return spots.reduce((best, spot) => (Math.abs(spot[0] - x) < Math.abs(best[0] - x) ? spot : best));
}

function told(number) {
  return number !== 0 && Math.abs(number) < 0.001 ? number.toExponential(2) : number.toFixed(4);
}

function show(where, x) {
  current = where && { where, x };
  for (const button of buttons) button.querySelector("output").textContent = "";
  guide.remove();
  reading.textContent = "";
  if (!where) return;
  const { chart, curves } = where;
  const shown = curves.filter(({ run, spots }) => !hidden.has(run) && x <= spots.at(-1)[0] + 1);
  for (const { run, spots } of shown) {
    const button = buttons.find(({ dataset }) => dataset.run === run);
    button.querySelector("output").textContent = told(value(chart, nearest(spots, x)[1]));
  }
  guide.setAttribute("x1", `${x}%`);
  guide.setAttribute("x2", `${x}%`);
  chart.append(guide);
  const at = Math.round((x / 100) * Number(chart.dataset.across)).toLocaleString("en");
  reading.textContent = `${chart.getAttribute("aria-label")}, after ${at} ${chart.dataset.by}`;
}

for (const where of charts) {
  const { chart } = where;
  const stops = [...new Set(where.curves.flatMap(({ spots }) => spots.map(([x]) => x)))].sort((one, other) => one - other);
  const underPointer = (event) => {
    const box = chart.getBoundingClientRect();
    show(where, Math.min(100, Math.max(0, (100 * (event.clientX - box.left)) / box.width)));
  };
  chart.tabIndex = 0;
  chart.addEventListener("pointermove", underPointer);
  chart.addEventListener("pointerdown", underPointer);
  chart.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && show(null));
  chart.addEventListener("focus", () => chart.matches(":focus-visible") && show(where, stops.at(-1)));
  chart.addEventListener("blur", () => show(null));
  chart.addEventListener("keydown", (event) => {
    const x = current?.where === where ? current.x : stops.at(-1);
    const next = { ArrowLeft: stops.findLast((stop) => stop < x), ArrowRight: stops.find((stop) => stop > x) }[event.key];
    if (event.key === "Escape") show(null);
    if (next === undefined) return;
    event.preventDefault();
    show(where, next);
  });
}

for (const button of buttons) {
  button.disabled = false;
  button.addEventListener("click", () => {
    const { run } = button.dataset;
    if (!hidden.delete(run)) hidden.add(run);
    button.setAttribute("aria-pressed", String(!hidden.has(run)));
    for (const part of document.querySelectorAll(`svg.curves [data-run="${run}"]`)) part.toggleAttribute("hidden", hidden.has(run));
    if (current) show(current.where, current.x);
  });
}
reading.hidden = false;
