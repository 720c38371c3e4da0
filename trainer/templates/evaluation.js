"use strict";
// Tells what a cell of the matrix stands for, sorts the classes, and finds one by its name.
// Without it the page shows the matrix, and all classes from the commonest on.
const readout = document.querySelector(".readout");
const table = document.querySelector(".classes");
const rows = [...table.tBodies[0].rows];
const field = document.querySelector("#filter");

const pictures = (count) => `${count.toLocaleString("en")} ${count === 1 ? "picture" : "pictures"}`;
const figure = (text) => (text === "–" ? -1 : parseFloat(text.replaceAll(",", "")));
const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };

function share(part, whole) {
  if (part === 0 || part === whole) return part ? "100%" : "0%";
  return `${Math.min(Math.max(100 * part / whole, 0.1), 99.9).toFixed(1)}%`;
}

function tell(label, prediction, examples, count, least = 1) {
  const named = (name) => `\u2068${name}\u2069`;
  const counted = count || least === 1 ? `${count.toLocaleString("en")} (${share(count, examples)})` : `fewer than ${least}`;
  const said = label === prediction ? "recognised" : `taken for ${named(prediction)}`;
  readout.textContent = `Of ${pictures(examples)} of ${named(label)}, ${counted} ${count === 1 ? "is" : "are"} ${said}.`;
}

// Calls `move` with the row and column that arrow keys lead to, within `size` rows and columns.
function follow(element, size, move) {
  let [row, column] = [0, 0];
  element.tabIndex = 0;
  element.addEventListener("keydown", (event) => {
    const step = steps[event.key];
    if (!step) return;
    event.preventDefault();
    row = Math.min(Math.max(row + step[0], 0), size - 1);
    column = Math.min(Math.max(column + step[1], 0), size - 1);
    move(row, column);
  });
  return (at, under) => { [row, column] = [at, under]; move(row, column); };
}

function readGrid(grid) {
  const body = [...grid.tBodies[0].rows];
  const names = body.map((row) => row.cells[0].textContent);
  const number = (cell) => figure(cell.textContent || "0");
  const go = follow(grid, body.length, (row, column) => {
    grid.querySelectorAll(".at").forEach((element) => element.classList.remove("at"));
    const cell = body[row].cells[column + 1];
    cell.classList.add("at");
    cell.scrollIntoView({ block: "nearest", inline: "nearest" });
    tell(names[row], names[column], number(body[row].cells[names.length + 1]), number(cell));
  });
  const point = ({ target }) => {
    const cell = target.closest("tbody td:not(.sum)");
    if (cell) go(cell.parentElement.rowIndex - 1, cell.cellIndex - 1);
  };
  grid.addEventListener("pointerover", point);
  grid.addEventListener("pointerdown", point);
}

function readPixels(box) {
  const labels = new Map(rows.map((row) => [row.dataset.number, row]));
  const named = box.dataset.numbers.split(" ").map((number) => labels.get(number));
  const cells = box.dataset.cells.split(";").map((row) => new Map(row.split(",").map((cell) => cell.split(":").map(Number))));
  const least = Number(box.dataset.least);
  const lines = ["across", "down"].map((name) => box.appendChild(Object.assign(document.createElement("i"), { className: name })));
  const name = (row) => row.cells[0].textContent;
  const go = follow(box, named.length, (row, column) => {
    lines[0].style.top = `${100 * (row + 0.5) / named.length}%`;
    lines[1].style.left = `${100 * (column + 0.5) / named.length}%`;
    const examples = figure(named[row].cells[1].textContent);
    tell(name(named[row]), name(named[column]), examples, cells[row].get(column) ?? 0, least);
  });
  const point = (event) => {
    const area = box.querySelector("img").getBoundingClientRect();
    const place = (at, start, size) => Math.min(Math.max(Math.floor((at - start) / size * named.length), 0), named.length - 1);
    go(place(event.clientY, area.top, area.height), place(event.clientX, area.left, area.width));
  };
  box.addEventListener("pointermove", point);
  box.addEventListener("pointerdown", point);
}

function sortBy(heading, column, descending) {
  const value = (row) => (column ? figure(row.cells[column].firstChild.textContent) : row.cells[0].textContent);
  const compare = column ? (a, b) => a - b : (a, b) => a.localeCompare(b);
  const sorted = rows.map((row) => [value(row), row]).sort((a, b) => compare(a[0], b[0]));
  if (descending) sorted.reverse();
  table.tBodies[0].append(...sorted.map(([, row]) => row));
  table.querySelector("[aria-sort]").removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
}

[...table.tHead.rows[0].cells].forEach((heading, column) => {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = heading.textContent;
  heading.replaceChildren(button);
  button.addEventListener("click", () => {
    const order = heading.getAttribute("aria-sort");
    sortBy(heading, column, order ? order === "ascending" : column > 0);
  });
});

field.addEventListener("input", () => {
  const wanted = field.value.trim().toLowerCase();
  for (const row of rows) row.hidden = !row.cells[0].textContent.toLowerCase().includes(wanted);
  document.querySelector(".filter output").textContent = wanted && `${rows.filter((row) => !row.hidden).length} found`;
});
document.querySelector(".filter").hidden = rows.length < 12;

for (const grid of document.querySelectorAll(".confusion")) readGrid(grid);
for (const box of document.querySelectorAll(".pixels")) readPixels(box);
if (readout) readout.hidden = false;
