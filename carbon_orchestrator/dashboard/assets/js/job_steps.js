// A job's timeline as an ordered list: what happened, why, and by which numbers.
import { h, keyed, replace, text } from "./dom.js";
import { fullTime, time, when } from "./format.js";
import { happened, numbers, plainReason } from "./job_words.js";

/** Gives `show(job)`. */
export function jobSteps(root) {
  const list = h("ol", { class: "steps" });
  replace(root, list);
  return (job) =>
    keyed(
      list,
      job.timeline.map((step, i) => ({ ...step, i })),
      (step) => `${step.i} ${step.event}`,
      (step) => h("li", { dataset: { event: step.event } }, h("div", { class: "step-head" }, h("strong"), h("span", { class: "muted small" })), h("p"), h("dl", { class: "facts" })),
      (node, step) => {
        const said = JSON.stringify(step);
        if (node.said === said) return;
        node.said = said;
        const [head, reason, facts] = node.children;
        text(head.firstChild, happened(step));
        replace(head.lastChild, h("span", { title: fullTime(step.at) }, `${time(step.at)} UTC`), " · ", when(step.at));
        text(reason, plainReason(step.reason));
        reason.hidden = !step.reason;
        replace(facts, numbers(step).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
        facts.hidden = !facts.children.length;
      },
    );
}
