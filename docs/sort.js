// Tables of numbers are sorted by the column whose head is clicked, or chosen with the keyboard; once more turns it round.
(() => {
  "use strict";
  const FEWEST = 4; // rows
  // ".833 [.698, .925], .3" is .833, "2.7 x" 2.7, "1,497" 1497, "−.003" -.003; what holds no number comes last.
  const value = (cell) => {
    const text = (cell ? cell.textContent : "").trim().replace("−", "-");
    const found = text.match(/^[<±+]?(-?(?:\d[\d,]*)?\.?\d+)/);
    return found ? Number(found[1].replace(/,/g, "")) : NaN;
  };
  const order = (rows, column, down) => {
    const numbers = rows.filter((r) => !Number.isNaN(value(r.cells[column]))).length > rows.length / 2;
    const known = rows.map((row) => [numbers ? value(row.cells[column]) : row.cells[column].textContent.trim().toLowerCase(), row]);
    const compare = ([a], [b]) => {
      if (numbers && (Number.isNaN(a) || Number.isNaN(b))) return Number.isNaN(a) - Number.isNaN(b);
      return (a < b ? -1 : a > b ? 1 : 0) * (down ? -1 : 1);
    };
    return known.sort(compare).map(([, row]) => row);
  };
  const prepare = (table) => {
    const body = table.tBodies[0];
    const heads = table.tHead && table.tHead.rows.length === 1 ? Array.from(table.tHead.rows[0].cells) : [];
    if (!body || body.rows.length < FEWEST || body.querySelector("[colspan], [rowspan]")) return;
    const firsts = Array.from(body.rows, (r) => r.cells[0].textContent.trim());
    if (firsts.some((t) => t === "" || t === "″")) return; // rows that go on with the row above
    heads.forEach((head, column) => {
      if (!head.textContent.trim()) return;
      const act = () => {
        const down = head.getAttribute("aria-sort") !== "descending";
        heads.forEach((h) => h.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        body.append(...order(Array.from(body.rows), column, down));
      };
      head.tabIndex = 0;
      head.title = "Sort by this column";
      head.style.cursor = "pointer";
      head.addEventListener("click", act);
      head.addEventListener("keydown", (e) => {
        if (e.key === "Enter" || e.key === " ") { e.preventDefault(); act(); }
      });
    });
  };
  const all = () => document.querySelectorAll("article table, main table").forEach(prepare);
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", all); else all();
})();
