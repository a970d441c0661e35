"use strict";
// The search: sections whose title or text has every word, those with words in the title first.
const root = document.body.dataset.root;
const lower = sections.map((s) => ({ title: (s.Title + " " + s.Page).toLowerCase(), text: s.Text.toLowerCase() }));
const most = 20;

const score = (i, words) => {
  let points = 0;
  for (const w of words) {
    const inTitle = lower[i].title.includes(w);
    if (!inTitle && !lower[i].text.includes(w)) return 0;
    points += inTitle ? 10 : 1;
  }
  return points;
};

const excerpt = (s, i, word) => {
  const at = Math.max(0, lower[i].text.indexOf(word) - 40);
  return s.Text.slice(at, at + 140);
};

document.getElementById("b9-find").addEventListener("input", (event) => {
  const words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
  const hits = document.getElementById("b9-hits");
  hits.replaceChildren();
  document.getElementById("b9-found").textContent = "";
  if (words.length === 0) return;
  const found = sections.map((s, i) => ({ s, i, points: score(i, words) })).filter((f) => f.points > 0).sort((a, b) => b.points - a.points || a.i - b.i);
  document.getElementById("b9-found").textContent = found.length + " found" + (found.length > most ? ", the first " + most : "");
  for (const { s, i } of found.slice(0, most)) {
    const item = document.createElement("li");
    const link = document.createElement("a");
    link.href = root + s.URL;
    link.textContent = s.Title === s.Page ? s.Title : s.Page + ": " + s.Title;
    const small = document.createElement("small");
    small.textContent = excerpt(s, i, words[0]);
    item.append(link, small);
    hits.append(item);
  }
});

// On a narrow screen the contents are folded.
if (innerWidth < 960) document.querySelector("nav details").open = false;
