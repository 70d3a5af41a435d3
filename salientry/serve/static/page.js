"use strict";

const at = (id) => document.getElementById(id);
let key = "", facts = null, picture = null, asked = 0;

async function ask(path, options = {}) {
  const headers = key ? { "X-API-Key": key } : {};
  const answer = await fetch(path, { ...options, headers: { ...headers, ...options.headers } });
  if (answer.ok) return answer;
  let said = {};
  try { said = await answer.clone().json(); } catch { /* no JSON: the status says enough */ }
  if (said.picture) return answer; // in the mode enforce: what is flagged has status 422
  const error = new Error(said.error || `the service answered ${answer.status}`);
  error.status = answer.status;
  throw error;
}

function element(tag, text, className) {
  const found = document.createElement(tag);
  if (text !== undefined) found.textContent = text;
  if (className) found.className = className;
  return found;
}

function options(select, pairs) {
  select.replaceChildren(...pairs.map(([value, text]) => {
    const found = element("option", text);
    found.value = value;
    return found;
  }));
}

function failed(error) {
  at("error").textContent = error.message;
  at("error").hidden = false;
  if (error.status === 401) at("unlock").hidden = false;
}

function percent(share) {
  const value = 100 * share;
  return `${value >= 10 ? Math.round(value) : Number(value.toPrecision(2))}\u00a0%`;
}

async function start() {
  try {
    facts = await (await ask("page.json")).json();
  } catch (error) {
    at("facts").textContent = "";
    failed(error);
    return;
  }
  at("unlock").hidden = true;
  at("error").hidden = true;
  const [channels, height, width] = facts.shape;
  const pictures = `${facts.classes} classes, pictures of ${width} × ${height} pixels, ${channels === 1 ? "grey" : "colour"}`;
  at("facts").textContent =
    `This guard flags at most ${percent(facts.level)} of ordinary pictures, with 95\u00a0% confidence. ` +
    `It looks at ${facts.looks_at.join(" and ")}. Its classifier: ${pictures}.`;
  options(at("kind"), Object.entries(facts.changes));
  const attacks = Object.entries(facts.attacks);
  at("attack").hidden = !attacks.length;
  at("no-attack").hidden = attacks.length > 0;
  options(at("name"), attacks.map(([name, attack]) => [name, attack.title]));
  budgets();
  at("maps").hidden = !facts.maps;
  await examples();
}

function budgets() {
  const attack = facts.attacks[at("name").value];
  const offered = attack ? attack.budgets : [];
  at("within").hidden = !offered.length;
  options(at("budget"), offered.map((n) => [n, String(n)]));
  if (offered.length) at("budget").value = offered[Math.floor(offered.length / 2)];
}

async function examples() {
  const buttons = await Promise.all(facts.examples.map(async (name, i) => {
    const blob = await (await ask(`examples/${i}.png`)).blob();
    const button = element("button"), image = element("img");
    image.src = URL.createObjectURL(blob);
    image.alt = "";
    button.type = "button";
    button.append(image, name);
    button.addEventListener("click", () => pick(blob, name));
    return button;
  }));
  at("examples").replaceChildren(...buttons);
}

function pick(blob, name) {
  picture = { blob, name };
  attempt("");
}

async function attempt(query, doing = "Looking") {
  if (!picture) return;
  const mine = ++asked;
  at("error").hidden = true;
  at("status").textContent = `${doing} …`;
  busy(true);
  const form = new FormData();
  form.append("picture", picture.blob, picture.name);
  try {
    const found = await (await ask(`try${query}`, { method: "POST", body: form })).json();
    if (mine === asked) show(found);
  } catch (error) {
    if (mine !== asked) return;
    at("status").textContent = "";
    failed(error);
  } finally {
    if (mine === asked) busy(false);
  }
}

function busy(now) {
  for (const id of ["attack", "change"]) at(id).querySelector("button").disabled = now || !picture;
}

function show(found) {
  const cards = [card("As it is", found.picture)];
  if (found.changed) {
    cards.push(difference(found.difference), card(found.changed.done, found.changed));
  }
  at("result").replaceChildren(...cards);
  overlays();
  const one = found.changed || found.picture;
  const before = found.picture.verdict.predicted, after = one.verdict.predicted;
  const moved = !found.changed ? "" : after === before ? "The answer stays the same" : `The answer changes from ${before} to ${after}`;
  const flagged = one.verdict.flagged ? "the guard flags it" : "the guard does not flag it";
  at("status").textContent = moved ? `${moved}, and ${flagged}.` : `${picture.name}: ${flagged}.`;
}

function frame(source, alt, map) {
  const found = element("div", undefined, "frame"), image = element("img");
  image.src = source;
  image.alt = alt;
  found.append(image);
  if (map) {
    const over = element("img", undefined, "map");
    over.src = map;
    over.alt = "where the classifier looks";
    found.append(over);
  }
  return found;
}

function card(title, one) {
  const found = element("article", undefined, "card"), said = one.verdict;
  found.append(element("h3", title), frame(one.image, title, one.map));
  const sure = one.probability === null ? "" : ` (${percent(one.probability)} sure)`;
  found.append(element("p", `The classifier says class ${said.predicted}${sure}.`, "says"));
  found.append(element("span", said.flagged ? "⚑ FLAGGED" : "✓ not flagged", said.flagged ? "flag yes" : "flag no"));
  found.append(element("p", `${percent(said.p_value)} of the calibration pictures are as suspicious or more.`, "note"));
  if (one.why) found.append(element("p", one.why));
  return found;
}

function difference(one) {
  const found = element("article", undefined, "card");
  found.append(element("h3", "What was changed"));
  const times = one.times < 1.05 ? "as large as it is" : `${Number(one.times.toPrecision(2))} times as large`;
  found.append(frame(one.image, `the change, ${times}`));
  found.append(element("p", `Shown ${times}; grey is no change. No value changes by more than ${one.most} of 255; L2 norm ${one.l2.toPrecision(2)}.`, "note"));
  return found;
}

function overlays() {
  for (const map of document.querySelectorAll(".map")) map.hidden = !at("overlay").checked;
}

at("file").addEventListener("change", (e) => e.target.files[0] && pick(e.target.files[0], e.target.files[0].name));
at("name").addEventListener("change", budgets);
at("overlay").addEventListener("change", overlays);
at("attack").addEventListener("submit", (e) => {
  e.preventDefault();
  const budget = at("within").hidden ? "" : `&budget=${at("budget").value}`;
  attempt(`?attack=${encodeURIComponent(at("name").value)}${budget}`, "Attacking");
});
at("change").addEventListener("submit", (e) => {
  e.preventDefault();
  attempt(`?change=${encodeURIComponent(at("kind").value)}`, "Changing");
});
at("unlock").addEventListener("submit", (e) => {
  e.preventDefault();
  key = at("key").value;
  start();
});
for (const [name, over] of [["dragover", true], ["dragleave", false], ["drop", false]]) {
  at("drop").addEventListener(name, (e) => {
    e.preventDefault();
    at("drop").classList.toggle("over", over);
    if (name === "drop" && e.dataTransfer.files[0]) pick(e.dataTransfer.files[0], e.dataTransfer.files[0].name);
  });
}
start();
