// Elements, built safely: text is text, and nothing is ever parsed as markup.

/**
 * An element: h("p", {class: "muted", onclick: f, "aria-label": "…", dataset: {state: "ok"}}, "text", child).
 * Children: nodes, strings, numbers, arrays of them; null, undefined and false are left out.
 * `style` is an object, set by CSSOM ({"--share": "40%"}), as the content policy wants it.
 */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

const SVG = "http://www.w3.org/2000/svg";

/** The same for SVG. */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "dataset") Object.assign(node.dataset, value);
    else if (name === "style") for (const [key, each] of Object.entries(value)) node.style.setProperty(key, each);
    else if (name === "value" || name === "checked") node[name] = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...flat(children));
  return node;
}

function flat(children) {
  return children.flat(Infinity).filter((each) => each !== null && each !== undefined && each !== false);
}

/** Put these children in the place of those that are there. */
export function replace(node, ...children) {
  node.replaceChildren(...flat(children));
  return node;
}

/** Set the text, and touch nothing where it is the same (so selections and live regions keep quiet). */
export function text(node, value) {
  if (node.textContent !== value) node.textContent = value;
}

/**
 * Make the children of `parent` those of `items`, keeping the node of each key: focus, scroll and
 * open details survive, and the focus in one that goes is taken on by its neighbour. `make(item)`
 * gives a node, `update(node, item)` brings it up to date (also a new one).
 */
export function keyed(parent, items, key, make, update = () => {}) {
  const old = new Map([...parent.children].map((node) => [node.dataset.key, node]));
  let at = parent.firstElementChild;
  for (const item of items) {
    const name = String(key(item));
    let node = old.get(name);
    old.delete(name);
    if (!node) {
      node = make(item);
      node.dataset.key = name;
    }
    update(node, item);
    if (node === at) at = at.nextElementSibling;
    else parent.insertBefore(node, at);
  }
  for (const gone of old.values()) {
    const near = gone.nextElementSibling ?? gone.previousElementSibling;
    if (gone.contains(document.activeElement)) (near?.querySelector("a, button") ?? parent.closest("main"))?.focus();
    gone.remove();
  }
}
