// Cancelling a job, once it is confirmed.
import { send, words } from "./api.js";
import { confirm, notice } from "./dialog.js";
import { h } from "./dom.js";

/** States that nothing follows. */
export const ENDED = new Set(["completed", "failed", "cancelled", "rejected", "expired"]);

export async function cancelJob(job) {
  const sure = await confirm({
    title: "Cancel this job?",
    body: [
      h("p", {}, job.state === "running" ? "It runs. Its handler is asked to stop, and what it has not saved is lost." : "It will not be run."),
      h("p", { class: "muted small" }, `${job.type}, project ${job.project}: `, h("span", { class: "mono" }, job.id)),
    ],
    action: "Cancel the job",
    danger: true,
  });
  if (!sure) return;
  try {
    await send("DELETE", `/jobs/${encodeURIComponent(job.id)}`);
    notice("The job will be cancelled.");
  } catch (error) {
    notice(`The job was not cancelled: ${words(error)}.`, "bad");
  }
}
