// Keeps a page true while it is looked at. Every page is whole without this file: it only saves the reload.
//
// The server alone draws. When it says that something changed, or on `data-every`, the same address is read again and
// what differs is carried over into the page that is open, so that focus, selection and scrolling stay where they are.

const ANNOUNCE_EVERY_MS = 10_000;
const LEAST_PAUSE_MS = 700;
const TRY_AGAIN_MS = 5_000;

const content = document.getElementById("content");
const live = document.getElementById("live");
const announcement = document.getElementById("announcement");

let events = null;
let timer = null;
let reading = false;
let readAgain = false;
let announcedAt = performance.now();
let announced = content.querySelector("[data-announce]")?.dataset.announce;

function follow() {
  const url = content.dataset.events;
  const every = Number(content.dataset.every);
  if (document.hidden || (!url && !every)) {
    rest();
    return;
  }
  if (url && !events) {
    events = new EventSource(url);
    events.addEventListener("open", () => say(true));
    events.addEventListener("progress", refresh);
    events.addEventListener("end", refresh);
    events.addEventListener("error", () => {
      say(false);
      // The browser tries again by itself, unless the answer was no stream.
      if (events?.readyState === EventSource.CLOSED) {
        rest();
        timer = setTimeout(refresh, TRY_AGAIN_MS);
      }
    });
  }
  if (every && timer === null) {
    timer = setTimeout(refresh, every);
  }
}

// A hidden page holds no connection: browsers allow six to a server, and one for each forgotten tab would use them up.
function rest() {
  events?.close();
  events = null;
  clearTimeout(timer);
  timer = null;
  live.hidden = true;
}

function say(isLive) {
  live.hidden = false;
  live.classList.toggle("lost", !isLive);
  live.textContent = isLive ? "live" : "not connected, trying again";
}

async function refresh() {
  if (reading) {
    readAgain = true;
    return;
  }
  reading = true;
  clearTimeout(timer);
  timer = null;
  try {
    await read();
  } catch {
    say(false);
    timer = setTimeout(refresh, TRY_AGAIN_MS);
  }
  await new Promise((resolve) => setTimeout(resolve, LEAST_PAUSE_MS));
  reading = false;
  if (readAgain) {
    readAgain = false;
    refresh();
  }
}

async function read() {
  const response = await fetch(location.href, { cache: "no-store", headers: { accept: "text/html" } });
  // An outage must not take away what is shown; a job that was deleted must.
  if (response.status >= 500) {
    throw new Error(`HTTP ${response.status}`);
  }
  const next = new DOMParser().parseFromString(await response.text(), "text/html");
  document.title = next.title;
  carry(content, next.getElementById("content"));
  say(true);
  announce();
  follow();
}

// Makes `old` the same as `next`, touching only what differs.
function carry(old, next) {
  for (const { name } of [...old.attributes]) {
    if (!next.hasAttribute(name) && name !== "open") old.removeAttribute(name);
  }
  for (const { name, value } of next.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  const kept = new Map([...old.children].filter((child) => child.id).map((child) => [child.id, child]));
  let place = old.firstChild;
  for (const wanted of [...next.childNodes]) {
    const known = kept.get(wanted.id);
    if (known && known !== place) {
      old.insertBefore(known, place);
      place = known;
    }
    if (place && isSame(place, wanted)) {
      if (place.nodeType === Node.ELEMENT_NODE) carry(place, wanted);
      else if (place.data !== wanted.data) place.data = wanted.data;
      place = place.nextSibling;
    } else {
      old.insertBefore(document.importNode(wanted, true), place);
    }
  }
  while (place) {
    const rest = place.nextSibling;
    place.remove();
    place = rest;
  }
}

function isSame(old, next) {
  return old.nodeName === next.nodeName && (old.id ?? "") === (next.id ?? "");
}

// A screen reader is told now and then, not at every item; of the end it is told at once.
function announce() {
  const told = content.querySelector("[data-announce]")?.dataset.announce;
  const isEnd = !content.dataset.events;
  if (!told || told === announced || (!isEnd && performance.now() - announcedAt < ANNOUNCE_EVERY_MS)) return;
  announcement.textContent = announced = told;
  announcedAt = performance.now();
}

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") content.querySelector(".asked[open]")?.removeAttribute("open");
});
document.addEventListener("visibilitychange", () => (document.hidden ? rest() : refresh()));
follow();
