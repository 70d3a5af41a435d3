
(() => {
  "use strict";
  const all = (q) => [...document.querySelectorAll(q)];
  const reveal = () => { const at = location.hash && document.getElementById(location.hash.slice(1)); for (let e = at; e; e = e.parentElement) if (e.tagName === "DETAILS") e.open = true; if (at) at.scrollIntoView(); };
  addEventListener("hashchange", reveal); reveal();
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = all("details:not([open])"); closed.forEach((d) => { d.open = true; });
  });
  addEventListener("afterprint", () => { closed.forEach((d) => { d.open = false; }); });

  const packed = document.getElementById("packed"), found = document.getElementById("found");
  if (!packed || !found) return;
  const put = (tag, parent, text) => { const e = document.createElement(tag); if (text !== undefined) e.textContent = text; parent.appendChild(e); return e; };
  const parse = (text) => text.trimEnd().split("\n").map((line) => [...(line + ",").matchAll(/("(?:[^"]|"")*"|[^,]*),/g)].map((m) => m[1].replace(/^"|"$/g, "").replaceAll('""', '"')));
  const quote = (v) => /[",]/.test(v) ? '"' + v.replaceAll('"', '""') + '"' : v;
  const table = put("table", found), head = put("thead", table), body = put("tbody", table), bar = found.previousElementSibling;
  const input = bar.querySelector("input"), said = bar.querySelector("output"), more = bar.querySelector(".more"), save = bar.querySelector(".save");
  let names = [], rows = [], chosen = [], shown = 0, by = -1, up = true;
  const draw = (n) => { for (const r of chosen.slice(shown, n)) { const tr = put("tr", body); r.forEach((v) => put("td", tr, v)); } shown = Math.min(n, chosen.length);
    said.textContent = `${shown.toLocaleString("en")} of ${chosen.length.toLocaleString("en")} shown`; more.hidden = shown === chosen.length; };
  const choose = () => { const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    chosen = rows.filter((r) => { const line = r.join(" ").toLowerCase(); return words.every((w) => line.includes(w)); });
    if (by >= 0) { const numbers = /^(value|low|high|n)$/.test(names[by]), key = (r) => numbers ? (r[by] === "" ? Infinity : +r[by]) : r[by];
      chosen = chosen.map((r) => [key(r), r]).sort((a, b) => (a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : 0) * (up ? 1 : -1)).map((p) => p[1]); }
    body.replaceChildren(); shown = 0; draw(100); };
  const start = async () => {
    const bytes = Uint8Array.from(atob(packed.textContent.trim()), (c) => c.charCodeAt(0));
    const text = await new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
    [names, ...rows] = parse(text);
    const tr = put("tr", head);
    names.forEach((n, k) => { put("button", put("th", tr), n).addEventListener("click", () => { up = by === k ? !up : true; by = k; choose(); }); });
    input.addEventListener("input", choose); more.addEventListener("click", () => draw(shown + 1000));
    save.addEventListener("click", () => { const a = document.createElement("a"), url = URL.createObjectURL(new Blob([[names, ...chosen].map((r) => r.map(quote).join(",")).join("\n") + "\n"], { type: "text/csv" }));
      a.href = url; a.download = "numbers.csv"; a.click(); URL.revokeObjectURL(url); });
    choose(); bar.hidden = false;
  };
  start();
})();
