// The overview.
import { h, replace } from "./dom.js";

export async function open(root) {
  replace(root, h("h1", {}, "Overview"));
}
