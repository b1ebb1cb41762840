"use strict";
{
  const heads = [...document.querySelectorAll("#videos thead th")];
  const body = document.querySelector("#videos tbody");
  const words = new Intl.Collator(undefined, { numeric: true });

  function sort(column, order) {
    const sign = order === "ascending" ? 1 : -1, number = heads[column].matches(".number");
    const value = row => row.children[column].dataset.value;
    const compare = number ? (a, b) => value(a) - value(b) : (a, b) => words.compare(value(a), value(b));
    // what has no class stays behind what has one
    const last = number ? () => 0 : (a, b) => (value(a) === "") - (value(b) === "");
    body.append(...[...body.rows].sort((a, b) => last(a, b) || sign * compare(a, b)));
    heads.forEach((head, i) => head.setAttribute("aria-sort", i === column ? order : "none"));
  }

  heads.forEach((head, column) => head.firstElementChild.addEventListener("click", () => {
    const first = head.matches(".number") ? "descending" : "ascending";
    const other = first === "ascending" ? "descending" : "ascending";
    sort(column, head.getAttribute("aria-sort") === first ? other : first);
  }));
}
