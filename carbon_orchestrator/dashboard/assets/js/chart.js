// The carbon curve, drawn by uPlot: on the overview and on a job's page.
import { columns, extent, valueAt } from "./curve.js";
import { h, replace } from "./dom.js";
import { UNIT, intensity, shortDay, time } from "./format.js";

let library = null;

/** uPlot, or null where it is not installed. */
function load() {
  library ??= Promise.all([import("/assets/vendor/uPlot.esm.js"), style("/assets/vendor/uPlot.min.css")]).then(
    ([module]) => module.default,
    () => null,
  );
  return library;
}

/** A style sheet, once it holds. */
function style(href) {
  return new Promise((resolve, reject) => {
    document.head.append(h("link", { rel: "stylesheet", href, onload: resolve, onerror: reject }));
  });
}

const resolved = new Map();
const probe = h("span", { hidden: true });

/** A token of tokens.css as a colour that a canvas understands. */
function colour(token) {
  if (!resolved.has(token)) {
    if (!probe.isConnected) document.body.append(probe);
    probe.style.color = `var(${token})`;
    resolved.set(token, getComputedStyle(probe).color);
  }
  return resolved.get(token);
}

/**
 * A chart in `root`, until the signal. Gives `show(model)`:
 *   history, forecast: points {time, intensity, low?, high?}; now: ms; low, high: the thresholds, or null
 *   marks: [{at (ms), pool: "fast"|"eco"|null, jobs, planned, label}]: discs (FAST), diamonds (ECO) on
 *     the curve, hollow where planned, larger for more jobs
 *   lines: [{at (ms), label, tone: "accent"|"warn"|"bad"|"muted"}]: upright lines
 *   from, to: ms, optional: what is shown of the time
 * Where the library is missing, root says so and `show` draws nothing: tell the figures in a
 * table beside it, always.
 */
export async function carbonChart(root, signal) {
  root.classList.add("chart");
  const uPlot = await load();
  if (signal.aborted) return () => {};
  if (uPlot === null) {
    replace(root, h("p", { class: "empty" }, "The chart cannot be drawn: its library is not installed here (scripts/assets.sh puts it in). The figures are in the table below."));
    return () => {};
  }
  const tip = h("div", { class: "tip", hidden: true });
  let model = null;
  const plot = new uPlot(options(uPlot, () => model, (u) => point(u, model, tip)), [[], [], [], [], []], root);
  plot.over.append(tip);
  plot.over.addEventListener("mouseleave", () => (tip.hidden = true));
  const sized = new ResizeObserver(() => plot.setSize(size(root)));
  sized.observe(root);
  document.addEventListener("themechange", () => (resolved.clear(), plot.redraw(false)), { signal });
  signal.addEventListener("abort", () => (sized.disconnect(), plot.destroy()));
  return (next) => {
    model = next;
    const moments = [...next.marks.map((each) => each.at), ...next.lines.map((each) => each.at), next.from, next.to];
    const { x, past, ahead, low, high } = columns(next.history, next.forecast, next.now, moments.filter((at) => at !== undefined && at !== null));
    plot.setData([x, past, ahead, low, high]);
  };
}

const size = (root) => ({ width: Math.max(200, root.clientWidth), height: Math.max(160, root.clientHeight) });

function options(uPlot, current, onCursor) {
  const stepped = uPlot.paths.stepped({ align: 1 });
  const axis = { stroke: () => colour("--muted"), grid: { stroke: () => colour("--line"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
  return {
    width: 600,
    height: 280,
    legend: { show: false },
    cursor: { drag: { x: false, y: false }, points: { show: false }, y: false },
    padding: [12, 20, 0, 0],
    tzDate: (s) => uPlot.tzDate(new Date(s * 1000), "Etc/UTC"),
    scales: {
      x: { range: (u, min, max) => [(current()?.from ?? min * 1000) / 1000, (current()?.to ?? max * 1000) / 1000] },
      y: { range: (u) => extent([...u.data.slice(1).flat(), current()?.low, current()?.high]) },
    },
    axes: [
      { ...axis, space: 64, values: (u, splits) => splits.map(tick), size: 28 },
      { ...axis, size: 44, values: (u, splits) => splits.map((each) => intensity(each)) },
    ],
    series: [
      {},
      { stroke: () => colour("--text"), width: 2, paths: stepped, points: { show: false } },
      { stroke: () => colour("--text"), width: 1.5, dash: [5, 4], paths: stepped, points: { show: false }, spanGaps: true },
      { stroke: "transparent", paths: stepped, points: { show: false }, spanGaps: true },
      { stroke: "transparent", paths: stepped, points: { show: false }, spanGaps: true },
    ],
    bands: [{ series: [4, 3], fill: () => colour("--band") }],
    hooks: {
      drawAxes: [(u) => current() && thresholds(u, current())],
      draw: [(u) => current() && foreground(u, current())],
      setCursor: [onCursor],
    },
  };
}

function tick(s) {
  const date = new Date(s * 1000);
  if (date.getUTCHours() || date.getUTCMinutes()) return date.toISOString().slice(11, 16);
  return shortDay(s * 1000);
}

function clipped(u, draw) {
  const { ctx } = u;
  ctx.save();
  ctx.beginPath();
  ctx.rect(u.bbox.left, u.bbox.top, u.bbox.width, u.bbox.height);
  ctx.clip();
  draw(ctx, devicePixelRatio);
  ctx.restore();
}

function thresholds(u, model) {
  clipped(u, (ctx, dpr) => {
    for (const [value, token, words, above] of [[model.low, "--good", "low below", false], [model.high, "--bad", "high from", true]]) {
      if (value === null || value === undefined) continue;
      const y = Math.round(u.valToPos(value, "y", true)) + 0.5;
      ctx.strokeStyle = ctx.fillStyle = colour(token);
      ctx.lineWidth = dpr;
      ctx.setLineDash([2 * dpr, 4 * dpr]);
      ctx.beginPath();
      ctx.moveTo(u.bbox.left, y);
      ctx.lineTo(u.bbox.left + u.bbox.width, y);
      ctx.stroke();
      ctx.font = `${11 * dpr}px system-ui, sans-serif`;
      ctx.textAlign = "left";
      ctx.textBaseline = above ? "bottom" : "top";
      write(ctx, dpr, `${words} ${intensity(value)}`, u.bbox.left + 6 * dpr, y + (above ? -3 : 3) * dpr);
    }
  });
}

/** Text that is read over lines, too. */
function write(ctx, dpr, words, x, y) {
  const own = ctx.strokeStyle;
  ctx.setLineDash([]);
  ctx.lineJoin = "round";
  ctx.lineWidth = 4 * dpr;
  ctx.strokeStyle = colour("--surface");
  ctx.strokeText(words, x, y);
  ctx.strokeStyle = own;
  ctx.fillText(words, x, y);
}

const TONES = { accent: "--accent", warn: "--warn", bad: "--bad", muted: "--muted" };

function foreground(u, model) {
  clipped(u, (ctx, dpr) => {
    const lines = [{ at: model.now, label: "now", tone: "accent", dash: [3, 3] }, ...model.lines];
    for (const line of lines) upright(u, ctx, dpr, line);
    lines.forEach((line, i) => label(u, ctx, dpr, line, i)); // over all lines
    for (const mark of model.marks) {
      const value = valueAt(model.history, model.forecast, model.now, mark.at);
      const { min, max } = u.scales.y;
      draw(ctx, dpr, mark, u.valToPos(mark.at / 1000, "x", true), u.valToPos(value ?? min + (max - min) / 20, "y", true));
    }
  });
}

const across = (u, at) => Math.round(u.valToPos(at / 1000, "x", true)) + 0.5;

function upright(u, ctx, dpr, { at, tone, dash = [] }) {
  const x = across(u, at);
  ctx.strokeStyle = colour(TONES[tone] ?? "--muted");
  ctx.lineWidth = dpr;
  ctx.setLineDash(dash.map((each) => each * dpr));
  ctx.beginPath();
  ctx.moveTo(x, u.bbox.top);
  ctx.lineTo(x, u.bbox.top + u.bbox.height);
  ctx.stroke();
}

function label(u, ctx, dpr, { at, label, tone }, level) {
  const x = across(u, at);
  const right = u.bbox.left + u.bbox.width;
  ctx.fillStyle = colour(TONES[tone] ?? "--muted");
  ctx.font = `${11 * dpr}px system-ui, sans-serif`;
  ctx.textBaseline = "top";
  ctx.textAlign = "left";
  const width = ctx.measureText(label).width + 4 * dpr;
  let left = x + 4 * dpr; // beside its line where there is room, else over it
  if (left + width > right) left = x - width;
  if (left < u.bbox.left) left = Math.max(u.bbox.left, right - width);
  write(ctx, dpr, label, left, u.bbox.top + (2 + 13 * (level % 6)) * dpr);
}

function draw(ctx, dpr, { pool, jobs = 1, planned }, x, y) {
  const r = Math.min(9, 4 + Math.log2(jobs)) * dpr;
  ctx.setLineDash([]);
  ctx.lineWidth = 1.75 * dpr;
  ctx.beginPath();
  if (pool === "eco") {
    ctx.moveTo(x, y - 1.2 * r);
    ctx.lineTo(x + 1.2 * r, y);
    ctx.lineTo(x, y + 1.2 * r);
    ctx.lineTo(x - 1.2 * r, y);
    ctx.closePath();
  } else {
    ctx.arc(x, y, r, 0, 2 * Math.PI);
  }
  const own = colour(pool === "eco" ? "--eco" : pool === "fast" ? "--fast" : "--muted");
  ctx.fillStyle = planned ? colour("--surface") : own;
  ctx.strokeStyle = planned ? own : colour("--surface");
  ctx.fill();
  ctx.stroke();
}

/** What lies under the pointer, in words. */
function point(u, model, tip) {
  const { left, idx } = u.cursor;
  tip.hidden = !model || idx === null || idx === undefined || left < 0;
  if (tip.hidden) return;
  const at = u.posToVal(left, "x") * 1000;
  const value = valueAt(model.history, model.forecast, model.now, at);
  const reach = (u.scales.x.max - u.scales.x.min) * 1000 * (12 / Math.max(1, u.over.clientWidth));
  const near = model.marks.filter((each) => Math.abs(each.at - at) < reach).slice(0, 4);
  replace(
    tip,
    h("strong", {}, `${time(at)} UTC`),
    h("div", {}, value === null ? "no value" : `${intensity(value)} ${UNIT}${at > model.now ? ", forecast" : ""}`),
    near.map((each) => h("div", { class: "pool", dataset: { pool: each.pool ?? "" } }, each.label)),
  );
  const right = left > u.over.clientWidth / 2;
  tip.style.left = right ? "auto" : `${left + 12}px`;
  tip.style.right = right ? `${u.over.clientWidth - left + 12}px` : "auto";
}
