// The dialog that submits a job, or asks when it would run.
import { get, send, words } from "./api.js";
import { notice, openDialog } from "./dialog.js";
import { h, replace } from "./dom.js";
import { UNIT, duration, intensity, percent, pool, time, when } from "./format.js";

const URGENCIES = {
  urgent: "urgent: at once, whatever the grid",
  normal: "normal: may wait a little for a greener grid",
  flexible: "flexible: may wait for the greenest time before the deadline",
};
// Fields as the API names them, and the controls that show what is wrong with them.
const FIELDS = ["type", "urgency", "deadline", "expected_duration", "project", "payload"];

/** Open it. `like`: a job of which to submit another. */
export function openSubmit(like = null) {
  const aborting = new AbortController();
  const { signal } = aborting;
  const controls = {
    type: h("input", { id: "new-type", required: true, list: "new-types", autocomplete: "off", spellcheck: "false", value: like?.type ?? "", autofocus: true }),
    urgency: h("select", { id: "new-urgency" }, Object.entries(URGENCIES).map(([name, label]) => h("option", { value: name, selected: name === (like?.urgency ?? "normal") }, label))),
    deadline: h("input", { id: "new-deadline", placeholder: "6h, or 2026-01-31T18:00Z", autocomplete: "off", spellcheck: "false" }),
    expected_duration: h("input", { id: "new-duration", placeholder: "45m; else learned", autocomplete: "off", spellcheck: "false" }),
    project: h("input", { id: "new-project", placeholder: "default", autocomplete: "off", spellcheck: "false", value: like && like.project !== "default" ? like.project : "" }),
    payload: h("textarea", { id: "new-payload", rows: 4, spellcheck: "false", value: JSON.stringify(like?.payload ?? {}, null, 2) }),
  };
  const interruptible = h("input", { id: "new-interruptible", type: "checkbox", checked: like?.interruptible ?? false });
  const kinds = h("datalist", { id: "new-types" });
  const errors = {};
  const field = (name, label, hint) => {
    const control = controls[name];
    errors[name] = h("p", { class: "error", id: `${control.id}-error`, hidden: true });
    control.setAttribute("aria-describedby", errors[name].id);
    control.addEventListener("input", () => wrong(name, null));
    return h("div", { class: "field" }, h("label", { for: control.id }, label), control, hint, errors[name]);
  };
  const hint = h("p", { class: "muted small" });
  const failure = h("p", { class: "failure", role: "alert", hidden: true });
  const answer = h("div", { class: "preview", role: "status", hidden: true });
  const ask = h("button", { type: "button", onclick: () => act(preview) }, "When would it run?");
  const go = h("button", { class: "primary" }, "Submit");
  const form = h(
    "form",
    { novalidate: true, onsubmit: (event) => (event.preventDefault(), act(submit)) },
    field("type", "Type", [hint, kinds]),
    field("urgency", "Urgency"),
    h("div", { class: "pair" }, field("deadline", "Deadline (from now, or a time)"), field("expected_duration", "Expected duration")),
    field("project", "Project"),
    field("payload", "Payload (a JSON object)"),
    h("label", { class: "check" }, interruptible, "It may be suspended, and goes on from its checkpoints"),
    failure,
    answer,
    h("div", { class: "actions" }, h("button", { type: "button", onclick: () => dialog.close() }, "Close"), ask, go),
  );
  const dialog = openDialog("Submit a job", form);
  dialog.classList.add("submit");
  dialog.addEventListener("close", () => aborting.abort());
  // One job, however often the button is pressed after an answer that did not arrive.
  let home = null; // the zone that needs no naming
  let key = crypto.randomUUID?.() ?? String(Math.random()).slice(2);

  get("/types", { signal }).then(
    ({ types }) => {
      const described = new Map(types.map((each) => [each.name, each.description]));
      replace(kinds, types.map((each) => h("option", { value: each.name }, each.description)));
      const tell = () => replace(hint, described.get(controls.type.value) || `One of ${types.map((each) => each.name).join(", ")}`);
      controls.type.addEventListener("input", tell, { signal });
      tell();
    },
    () => {}, // a type can be typed in, too
  );
  get("/carbon", { signal }).then((carbon) => (home = carbon.zone), () => {});
  form.addEventListener("input", () => {
    key = crypto.randomUUID?.() ?? String(Math.random()).slice(2);
    answer.hidden = true;
  });

  function wrong(name, message) {
    errors[name].hidden = message === null;
    replace(errors[name], message ?? "");
    if (message === null) controls[name].removeAttribute("aria-invalid");
    else controls[name].setAttribute("aria-invalid", "true");
  }

  /** The job as the API takes it; null where something is wrong already. */
  function given() {
    const job = { type: controls.type.value.trim(), urgency: controls.urgency.value };
    for (const name of ["deadline", "expected_duration", "project"]) {
      const value = controls[name].value.trim();
      if (value) job[name] = /^\d+(\.\d+)?$/.test(value) && name !== "project" ? Number(value) : value;
    }
    if (interruptible.checked) job.interruptible = true;
    if (like && Object.keys(like.labels).length) job.labels = like.labels;
    if (!job.type) return refuse("type", "Name a type.");
    try {
      job.payload = JSON.parse(controls.payload.value.trim() || "{}");
    } catch (error) {
      return refuse("payload", `This is not JSON: ${error.message}.`);
    }
    if (job.payload === null || typeof job.payload !== "object" || Array.isArray(job.payload)) return refuse("payload", "A JSON object is needed, such as {\"rows\": 1000}.");
    return job;
  }

  function refuse(name, message) {
    wrong(name, message);
    controls[name].focus();
    return null;
  }

  async function act(what) {
    failure.hidden = true;
    FIELDS.forEach((name) => wrong(name, null));
    const job = given();
    if (job === null) return;
    ask.disabled = go.disabled = true;
    try {
      await what(job);
    } catch (error) {
      if (signal.aborted) return;
      const name = FIELDS.find((each) => error.field === each || error.field?.startsWith(`${each}.`));
      if (name) refuse(name, `${words(error)}.`);
      else {
        failure.hidden = false;
        replace(failure, `${what === submit ? "The job was not submitted" : "This cannot be told"}: ${words(error)}.`);
      }
    } finally {
      ask.disabled = go.disabled = false;
    }
  }

  async function submit(job) {
    const made = await send("POST", "/jobs", job, { headers: { "Idempotency-Key": key } });
    dialog.close();
    notice("The job was submitted.");
    location.hash = `#/jobs/${encodeURIComponent(made.id)}`;
  }

  async function preview(job) {
    const told = await send("POST", "/jobs?dry_run=true", job, { signal });
    answer.hidden = false;
    replace(answer, previewed(told, home));
    answer.scrollIntoView({ block: "nearest" });
  }
}

/** What would be decided, in words and numbers. */
function previewed(told, home) {
  const where = pool(told.zone === home ? told.pool : `${told.pool}@${told.zone}`);
  const now = told.would === "dispatch";
  const gain = told.intensity && told.expected_intensity !== undefined ? 1 - told.expected_intensity / told.intensity : 0;
  const facts = [
    told.intensity !== null && ["Grid now", `${intensity(told.intensity)} ${UNIT}${told.band ? `, ${told.band}` : ""}${told.simulated ? ", simulated" : ""}`],
    told.expected_intensity !== undefined && ["During the run", `${intensity(told.expected_intensity)} ${UNIT}${!now && Math.abs(gain) >= 0.005 ? `, ${percent(Math.abs(gain))} ${gain > 0 ? "less" : "more"} than now` : ""}`],
    ["Expected to run", `${duration(told.expected_ms)}, in 95 of 100 cases up to ${duration(told.longest_ms)}`],
    told.deadline && ["Deadline", `${time(told.deadline)} UTC`],
    told.latest_start && ["Latest start", `${time(told.latest_start)} UTC`],
  ].filter(Boolean);
  return [
    h("p", { class: "headline" }, now ? ["It would start now on ", where, "."] : ["It would wait, and start ", when(told.start), ` (${time(told.start)} UTC) on `, where, "."]),
    h("p", { class: "reason" }, told.reason),
    h("dl", { class: "facts" }, facts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))),
    h("p", { class: "muted small" }, "Nothing was submitted. It is decided anew with every change of the grid and of what else waits."),
  ];
}
