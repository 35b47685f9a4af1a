// Tables that sort, a theme that the reader chooses, links that open what they lead to. A page reads the same without.
(() => {
  "use strict";
  const KEY = "biomeg-theme";
  const THEMES = ["auto", "light", "dark"];
  const root = document.documentElement;
  const switcher = document.createElement("button");
  let theme = "auto";

  // A browser may forbid storage to pages that are files; the choice then lasts as long as the page.
  const remembered = () => {
    try {
      return localStorage.getItem(KEY);
    } catch {
      return null;
    }
  };
  const remember = () => {
    try {
      localStorage.setItem(KEY, theme);
    } catch {}
  };
  const show = (wanted) => {
    theme = THEMES.includes(wanted) ? wanted : "auto";
    if (theme === "auto") root.removeAttribute("data-theme");
    else root.dataset.theme = theme;
    switcher.textContent = `Theme: ${theme}`;
  };
  show(remembered()); // before anything is painted
  // Chosen on another page: one that was gone back from, or one that is open beside this.
  for (const event of ["pageshow", "storage"]) addEventListener(event, () => show(remembered() ?? theme));
  switcher.type = "button";
  switcher.className = "theme";
  switcher.title = "auto, as the system has it; light; dark";
  switcher.addEventListener("click", () => {
    show(THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length]);
    remember();
  });

  const MISSING = /^[-\u2013\u2014]?$/;
  // A leading number, unless it is the start of a word, a date or a version: "84.6 (84.0 to 85.2)", "1,024", "-3e-05".
  const NUMBER = /^([+\-\u2212]?)(inf|(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+)(e[+-]?\d+)?(?![\w.,:\-])/i;
  const words = new Intl.Collator("en", { numeric: true });

  const number = (text) => {
    const [, sign, digits, power = ""] = NUMBER.exec(text) ?? [];
    if (digits === undefined) return NaN;
    const size = digits.toLowerCase() === "inf" ? Infinity : Number(digits.replaceAll(",", "") + power);
    return sign === "-" || sign === "\u2212" ? -size : size;
  };

  const sort = (table, heading) => {
    const descending = heading.getAttribute("aria-sort") === "ascending";
    const place = heading.cellIndex;
    const rows = [...table.tBodies[0].rows].map((row) => ({ row, text: row.cells[place].textContent.trim() }));
    const present = rows.filter(({ text }) => !MISSING.test(text));
    const missing = rows.filter(({ text }) => MISSING.test(text));
    for (const entry of present) entry.number = number(entry.text);
    const numeric = present.every((entry) => !Number.isNaN(entry.number));
    const order = numeric
      ? (a, b) => (a.number < b.number ? -1 : Number(a.number > b.number))
      : (a, b) => words.compare(a.text, b.text);
    present.sort(descending ? (a, b) => order(b, a) : order);
    for (const { row } of [...present, ...missing]) table.tBodies[0].append(row);
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
  };

  // Cells that span others have no place in a sorted table.
  const sortable = (table) => {
    if (table.tHead?.rows.length !== 1 || table.tBodies.length !== 1 || table.tBodies[0].rows.length < 2) return false;
    const rows = [table.tHead.rows[0], ...table.tBodies[0].rows];
    const plain = (cell) => cell.colSpan === 1 && cell.rowSpan === 1;
    return rows.every((row) => row.cells.length === rows[0].cells.length && [...row.cells].every(plain));
  };

  const makeSortable = (table) => {
    for (const heading of table.tHead.rows[0].cells) {
      if (heading.tagName !== "TH" || !heading.textContent.trim()) continue;
      const button = document.createElement("button");
      button.type = "button";
      button.append(...heading.childNodes);
      button.addEventListener("click", () => sort(table, heading));
      heading.append(button);
    }
  };

  const reveal = () => {
    let id = location.hash.slice(1);
    try {
      id = decodeURIComponent(id);
    } catch {}
    const target = document.getElementById(id);
    if (target?.tagName !== "DETAILS") return;
    target.open = true;
    target.scrollIntoView();
  };

  addEventListener("hashchange", reveal);
  document.addEventListener("DOMContentLoaded", () => {
    document.querySelector(".bar").append(switcher);
    for (const table of document.querySelectorAll("main table")) if (sortable(table)) makeSortable(table);
    reveal();
  });
})();
