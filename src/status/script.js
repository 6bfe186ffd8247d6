// Refreshes what is below the heading, and asks before something is changed.
"use strict";

// Pages that do not refresh have none.
const label = document.getElementById("refresh");
const refreshes = label?.querySelector("input");
if (label) label.hidden = false;

async function refresh() {
  const answer = await fetch("/", { headers: { accept: "text/html" } });
  if (!answer.ok) throw new Error(answer.statusText);
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const [now, next] = [document.getElementById("status"), page.getElementById("status")];
  const focused = now.contains(document.activeElement) ? document.activeElement : null;
  const scrolled = [...now.querySelectorAll(".scroll")].map((region) => [region.scrollLeft, region.scrollTop]);
  const regions = [...now.querySelectorAll(".scroll")];
  const at = regions.indexOf(focused);
  now.replaceChildren(...next.childNodes);
  document.title = page.title;
  now.querySelectorAll(".scroll").forEach((region, index) => {
    if (scrolled[index]) [region.scrollLeft, region.scrollTop] = scrolled[index];
    if (index === at) region.focus({ preventScroll: true });
  });
  if (focused && focused.id) document.getElementById(focused.id)?.focus({ preventScroll: true });
}

setInterval(() => {
  if (!refreshes?.checked || document.hidden) return;
  refresh().then(
    () => document.body.classList.remove("stale"),
    () => document.body.classList.add("stale"),
  );
}, 2000);

document.addEventListener("submit", (event) => {
  const question = event.target.dataset.confirm;
  if (question && !window.confirm(question)) event.preventDefault();
});
