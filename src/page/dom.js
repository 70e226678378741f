// Elements, keyed lists and sparklines. All text goes into the page as text, never as markup.

/** Makes an element: attributes by name, listeners as `onclick` and the like. @type {MakeElement} */
export const el = (tag, attributes = {}, ...children) => {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, String(value));
  }
  node.append(...kept(children.flat()));
  return node;
};

/** @param {Child[]} children */
function kept(children) {
  return children.flatMap((child) => (child == null || child === false ? [] : [child instanceof Node ? child : String(child)]));
}

/** Replaces what is in `parent`. @param {Element} parent @param {...(Child | Child[])} children */
export function fill(parent, ...children) {
  parent.replaceChildren(...kept(children.flat()));
}

/** Sets the text of an element, if it is another one. @param {Element} node @param {string | number} text */
export function say(node, text) {
  if (node.textContent !== String(text)) node.textContent = String(text);
}

/** @type {WeakMap<Element, Map<string, HTMLElement>>} */
const lists = new WeakMap();

/** Shows `items` in `parent`, in order, and keeps the elements of those that were there before. @type {Keyed} */
export const keyed = (parent, items, key, make, update) => {
  const before = lists.get(parent) ?? new Map();
  const now = new Map();
  let place = parent.firstElementChild;
  for (const item of items) {
    const name = key(item);
    if (now.has(name)) continue;
    const node = before.get(name) ?? make(item);
    update?.(node, item);
    now.set(name, node);
    if (node === place) place = node.nextElementSibling;
    else parent.insertBefore(node, place);
  }
  for (const [name, node] of before) if (!now.has(name)) node.remove();
  lists.set(parent, now);
};

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 120;
const HEIGHT = 32;

/** Makes an element of SVG. @type {MakeSvg} */
export const svg = (tag, attributes, ...children) => {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, String(value));
  node.append(...children);
  return node;
};

/** A sparkline with a line for each kind, drawn from zero to the largest value. The first one is filled. @param {string[]} kinds classes of the lines */
export function spark(kinds) {
  const area = svg("path", { class: `area ${kinds[0]}` });
  const lines = kinds.map((kind) => svg("path", { class: `line ${kind}` }));
  const node = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", class: "spark", "aria-hidden": "true" }, area, ...lines);
  /** @param {(number | null)[][]} series the newest at the end; null is a gap */
  const draw = (series) => {
    const top = Math.max(1, ...series.flat().map((value) => value ?? 0));
    series.forEach((values, at) => {
      const step = WIDTH / Math.max(1, values.length - 1);
      let path = "";
      values.forEach((value, place) => {
        if (value === null) return;
        const isFirst = path === "" || values[place - 1] === null;
        path += `${isFirst ? "M" : "L"}${(place * step).toFixed(1)} ${(HEIGHT - 2 - (value / top) * (HEIGHT - 4)).toFixed(1)}`;
      });
      lines[at]?.setAttribute("d", path);
      if (at === 0) area.setAttribute("d", values.includes(null) || path === "" ? "" : `${path}L${WIDTH} ${HEIGHT}L0 ${HEIGHT}Z`);
    });
  };
  return { node, draw };
}
