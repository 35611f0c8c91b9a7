// The frame: pages by the address's hash, the clock, the theme, the API key, the banners.
import { hasKey, onKeyNeeded, setKey, words } from "./api.js";
import { showBanners } from "./banners.js";
import { gridNow, gridSpeed } from "./clock.js";
import { askKey } from "./dialog.js";
import { h, replace, text } from "./dom.js";
import { day, refreshTimes } from "./format.js";
import { followHealth, onHealth } from "./health.js";
import { onFeed } from "./live.js";

// By the first part of the hash, and what is shown where there is a second one.
const PAGES = {
  "": { title: "Overview", load: () => import("./overview.js") },
  jobs: { title: "Jobs", load: () => import("./jobs.js"), one: { title: "Job", load: () => import("./job.js") } },
  report: { title: "Report", load: () => import("./report.js") },
  letters: { title: "Dead letters", load: () => import("./letters.js") },
};

const $ = (id) => document.getElementById(id);
let leaving = new AbortController();

/** "#/jobs/ID?state=running": {name: "jobs", id: "ID", query: URLSearchParams}. */
function address() {
  const [path, query = ""] = location.hash.replace(/^#?\/?/, "").split("?");
  const [name, id = null] = path.split("/").map(decodeURIComponent);
  return { name, id, query: new URLSearchParams(query) };
}

async function show() {
  const { name, id, query } = address();
  const page = id && PAGES[name]?.one ? PAGES[name].one : PAGES[name];
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  for (const link of document.querySelectorAll("nav [data-page]")) {
    if (link.dataset.page === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${page?.title ?? "Not found"} · Carbon orchestrator`;
  const root = h("div", { class: `page page-${name || "overview"}` });
  replace($("page"), root);
  if (!page) {
    replace(root, h("h1", {}, "Not found"), h("p", { class: "empty" }, "There is no such page. ", h("a", { href: "#/" }, "Overview")));
    return;
  }
  try {
    const module = await page.load();
    if (!signal.aborted) await module.open(root, { id, query, signal });
  } catch (error) {
    if (!signal.aborted) replace(root, h("h1", {}, page.title), h("p", { class: "failure" }, `This page could not be opened: ${words(error)}.`));
  }
}

function tick() {
  const now = new Date(gridNow());
  const speed = gridSpeed() === 1 ? "" : ` · ${gridSpeed()}×`;
  text($("clock"), `${day(now.getTime())} ${now.toISOString().slice(11, 16)} UTC${speed}`);
  refreshTimes();
}

const THEMES = { "": "Auto", light: "Light", dark: "Dark" };

function theme(next) {
  const root = document.documentElement;
  if (next !== undefined) {
    if (next) root.dataset.theme = next;
    else delete root.dataset.theme;
    try {
      if (next) localStorage.setItem("theme", next);
      else localStorage.removeItem("theme");
    } catch {
      // It holds for this page, then.
    }
    document.dispatchEvent(new Event("themechange"));
  }
  const now = root.dataset.theme ?? "";
  text($("theme"), THEMES[now]);
  $("theme").setAttribute("aria-label", `Theme: ${THEMES[now]}. Change it`);
  return now;
}

/** Nothing moves once it is seen: the banners come first, or soon. */
const reveal = () => delete document.body.dataset.waiting;

function start() {
  const always = new AbortController().signal;
  onKeyNeeded((why) => {
    $("key").hidden = false;
    return askKey(why);
  });
  $("key").hidden = !hasKey();
  $("key").addEventListener("click", async () => {
    const key = await askKey("Whatever is shown here is asked for with this key.");
    if (key === null) return;
    setKey(key);
    health.refresh();
    show();
  });
  $("theme").addEventListener("click", () => {
    const order = Object.keys(THEMES);
    theme(order[(order.indexOf(theme()) + 1) % order.length]);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => document.dispatchEvent(new Event("themechange")));
  theme();
  $("submit").addEventListener("click", async () => (await import("./submit.js")).openSubmit());
  document.querySelector("[data-skip]").addEventListener("click", (event) => {
    event.preventDefault(); // the hash is the page's
    reveal(); // what is not seen takes no focus
    $("page").focus();
  });
  onFeed((state) => {
    $("feed").dataset.state = state;
    text($("feed"), { live: "live", away: "reconnecting", off: "polling" }[state]);
  });
  const health = followHealth(always);
  setTimeout(reveal, 1500);
  onHealth((latest, error) => {
    if (latest || error) reveal();
    showBanners($("banners"), latest, error);
    text($("version"), latest?.version ? `Version ${latest.version}` : "");
    tick();
  }, always);
  addEventListener("hashchange", async () => {
    await show();
    $("page").focus({ preventScroll: true });
    scrollTo(0, 0);
  });
  setInterval(tick, 1000);
  tick();
  show();
}

start();
