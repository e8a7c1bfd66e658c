"use strict";
// Filters over what the page holds: all of it is there without this script, too.
const field = (id) => document.getElementById(id);
const all = (selector, inside = document) => [...inside.querySelectorAll(selector)];
const panels = all(".panel");
const [dataset, ipc, chosenClass, method, size] =
  ["dataset", "ipc", "class", "method", "size"].map(field);

function current() {
  return panels.find((p) => p.dataset.dataset === dataset.value && p.dataset.ipc === ipc.value);
}

// Each data set has classes of its own.
function listClasses() {
  const kept = chosenClass.value;
  const names = all(".class", current()).map((section, c) => {
    const option = new Option(section.querySelector(".name").textContent, section.dataset.class);
    option.selected = kept === String(c);
    return option;
  });
  chosenClass.replaceChildren(new Option("all", ""), ...names);
  if (!names.some((option) => option.selected)) chosenClass.value = "";
}

function show() {
  const here = current();
  for (const panel of panels) panel.hidden = panel !== here;
  for (const section of all(".class", here)) {
    section.hidden = chosenClass.value !== "" && section.dataset.class !== chosenClass.value;
  }
  for (const section of all("[data-method]", here)) {
    section.hidden = method.value !== "" && section.dataset.method !== method.value;
  }
  const root = document.documentElement;
  root.dataset.size = size.value;
  root.classList.toggle("without-modes", !field("modes").checked);
  root.classList.toggle("without-reals", !field("reals").checked);
  const images = all("img.made", here);
  const shown = images.filter((image) => !image.closest("[hidden]")).length;
  field("count").value = `${shown} of ${images.length} images`;
  field("previous").disabled = chosenClass.selectedIndex === 0;
  field("next").disabled = chosenClass.selectedIndex === chosenClass.options.length - 1;
}

function step(by) {
  chosenClass.selectedIndex += by;
  show();
}

for (const list of [dataset, ipc]) {
  list.addEventListener("change", () => { listClasses(); show(); });
}
field("controls").addEventListener("change", show);
field("controls").addEventListener("submit", (event) => event.preventDefault());
field("previous").addEventListener("click", () => step(-1));
field("next").addEventListener("click", () => step(1));
for (const id of ["modes", "reals"]) {
  field(id).parentElement.hidden = !document.querySelector(id === "modes" ? "img.mode" : "img.near");
}
if (innerWidth >= 1200) size.value = "2";  // ten in a row
field("controls").hidden = false;
listClasses();
show();
