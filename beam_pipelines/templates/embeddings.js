"use strict";
// Lights up classes, and shows the picture of the point under the pointer or of the one that arrow keys lead to.
// Without it the page shows the points, and their titles.
const plane = document.querySelector(".plane");
const chart = plane.querySelector("svg");
const seen = plane.querySelector(".seen");
const picture = seen.querySelector("img");
const reach = 24; // pixels
let current = null;
let chosen = "";

const points = [...chart.querySelectorAll("circle")].map((circle) => {
  const title = circle.querySelector("title");
  const [label, key, split] = title.textContent.split("\n");
  const [left, top, width, height] = circle.dataset.tile.split(" ");
  title.remove();
  return { circle, label, key, split, left, top, width, height };
});

const place = ({ circle }) => ({ x: circle.cx.baseVal.value, y: circle.cy.baseVal.value });

function show(point) {
  if (point === current) return;
  current?.circle.classList.remove("current");
  current = point;
  seen.hidden = !point;
  if (!point) return;
  point.circle.classList.add("current");
  for (const name of ["label", "key", "split"]) seen.querySelector(`.${name}`).textContent = point[name];
  picture.hidden = point.width === "0";
  picture.style.width = `${point.width}px`;
  picture.style.height = `${point.height}px`;
  picture.style.objectPosition = `-${point.left}px -${point.top}px`;
  const { x, y } = place(point);
  const besides = x + 14 + seen.offsetWidth <= plane.clientWidth ? x + 14 : x - 14 - seen.offsetWidth;
  seen.style.left = `${Math.max(0, Math.min(besides, plane.clientWidth - seen.offsetWidth))}px`;
  seen.style.top = `${Math.max(0, Math.min(y + 10, plane.clientHeight - seen.offsetHeight))}px`;
}

function lit() {
  return chart.matches(".faded") ? points.filter(({ circle }) => circle.matches(".lit")) : points;
}

function best(candidates, distance, limit = Infinity) {
  let [found, least] = [null, limit];
  for (const point of candidates) {
    const far = distance(place(point));
    if (far < least) [found, least] = [point, far];
  }
  return found;
}

function underPointer(event) {
  const box = chart.getBoundingClientRect();
  const [x, y] = [event.clientX - box.left, event.clientY - box.top];
  show(best(lit(), (at) => Math.hypot(at.x - x, at.y - y), reach));
}

function beyond(dx, dy) {
  const from = place(current);
  return best(lit(), (at) => {
    const along = (at.x - from.x) * dx + (at.y - from.y) * dy;
    const aside = Math.abs((at.x - from.x) * dy - (at.y - from.y) * dx);
    return along > 0 ? along + 2 * aside : Infinity;
  });
}

function light(selector) {
  chart.classList.toggle("faded", selector !== "");
  for (const { circle } of points) circle.classList.toggle("lit", selector !== "" && circle.matches(selector));
}

chart.addEventListener("pointermove", underPointer);
chart.addEventListener("pointerdown", underPointer);
chart.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && show(null));
chart.addEventListener("focus", () => chart.matches(":focus-visible") && show(current ?? lit()[0] ?? null));
chart.addEventListener("blur", () => show(null));
chart.addEventListener("keydown", (event) => {
  const direction = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (event.key === "Escape") show(null);
  if (!direction) return;
  event.preventDefault();
  show((current && beyond(...direction)) ?? current ?? lit()[0] ?? null);
});
chart.tabIndex = 0;

const entries = [...document.querySelectorAll(".classes button")];
const chooser = document.querySelector(".chooser");
const choice = chooser?.querySelector("select");

function choose(selector) {
  chosen = selector;
  for (const entry of entries) entry.setAttribute("aria-pressed", entry.dataset.points === chosen);
  if (choice) choice.value = [...choice.options].some(({ value }) => value === chosen) ? chosen : "";
  light(chosen);
}

for (const entry of entries) {
  entry.disabled = false;
  entry.addEventListener("click", () => choose(chosen === entry.dataset.points ? "" : entry.dataset.points));
  entry.addEventListener("pointerenter", () => light(entry.dataset.points));
  entry.addEventListener("pointerleave", () => light(chosen));
}
choice?.addEventListener("change", () => choose(choice.value));
if (chooser) chooser.hidden = false;
choose("");
