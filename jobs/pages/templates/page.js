"use strict";
(() => {
  const said = document.getElementById("said");

  const copy = async (text, button) => {
    let isDone = true;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const box = document.createElement("textarea");
      box.value = text;
      document.body.append(box);
      box.select();
      isDone = document.execCommand("copy");
      box.remove();
    }
    const word = button.dataset.word ?? (button.dataset.word = button.textContent);
    button.textContent = isDone ? "Copied" : "Not copied";
    said.textContent = isDone ? "Copied to the clipboard" : "The browser did not let it be copied";
    clearTimeout(button.timer);
    button.timer = setTimeout(() => { button.textContent = word; said.textContent = ""; }, 1600);
  };
  window.copyText = copy;

  for (const button of document.querySelectorAll("button[data-copy]")) {
    button.addEventListener("click", () => copy(button.dataset.copy, button));
  }

  const shown = (cell) => cell.textContent.trim();
  const exact = (cell) => cell.dataset.v ?? (cell.classList.contains("num") ? shown(cell).replaceAll(",", "") : shown(cell));

  const order = (place, isNumber, sign) => (one, other) => {
    const [a, b] = [exact(one.cells[place]), exact(other.cells[place])];
    if (a === "—" || b === "—") return (a === "—") - (b === "—"); // what is unknown comes last, either way
    return sign * (isNumber ? Number(a) - Number(b) : a.localeCompare(b, undefined, { numeric: true }));
  };

  for (const holder of document.querySelectorAll("[data-table]")) {
    const name = holder.dataset.table;
    const table = holder.querySelector("table");
    const body = table.tBodies[0];
    const rows = [...body.rows];
    const heads = [...table.tHead.rows[0].cells];

    heads.forEach((head, place) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const isNumber = head.classList.contains("num");
        const before = head.getAttribute("aria-sort");
        const now = before ? (before === "ascending" ? "descending" : "ascending") : isNumber ? "descending" : "ascending";
        for (const other of heads) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", now);
        rows.sort(order(place, isNumber, now === "ascending" ? 1 : -1));
        body.append(...rows);
      });
    });

    const tools = document.createElement("div");
    tools.className = "tools";
    if (rows.length > 8) {
      const count = document.createElement("span");
      count.className = "count";
      const tell = (left) => { count.textContent = left === rows.length ? `${left} rows` : `${left} of ${rows.length} rows`; };
      tell(rows.length);
      const filter = document.createElement("input");
      filter.type = "search";
      filter.placeholder = "Filter";
      filter.setAttribute("aria-label", `Filter ${name}`);
      filter.addEventListener("input", () => {
        const words = filter.value.toLowerCase().split(/\s+/);
        let left = 0;
        for (const row of rows) {
          const text = row.textContent.toLowerCase();
          row.hidden = !words.every((word) => text.includes(word));
          left += !row.hidden;
        }
        tell(left);
      });
      tools.append(count, filter);
    }
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Copy";
    button.setAttribute("aria-label", `Copy ${name} as a table`);
    button.addEventListener("click", () => {
      const lines = [heads.map(shown), ...rows.filter((row) => !row.hidden).map((row) => [...row.cells].map(exact))];
      copy(lines.map((line) => line.map((text) => (text === "—" ? "" : text.replace(/[\t\n\r]+/g, " "))).join("\t")).join("\n") + "\n", button);
    });
    tools.append(button);
    holder.prepend(tools);
  }
})();
