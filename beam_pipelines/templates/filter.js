"use strict";
// Shows only those classes whose name contains what is typed. Without it the page shows them all.
const box = document.querySelector(".filter");
const field = box.querySelector("input");
const named = [...document.querySelectorAll("[data-named]")].map((element) => ({
  element, name: element.querySelector(".label").textContent.toLowerCase(),
}));
field.addEventListener("input", () => {
  const wanted = field.value.trim().toLowerCase();
  for (const { element, name } of named) element.hidden = !name.includes(wanted);
  const found = named.filter(({ element }) => element.matches(".sheet") && !element.hidden).length;
  box.querySelector("output").textContent = wanted && `${found} found`;
});
box.hidden = false;
