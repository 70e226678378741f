// Elements and keyed lists. All text goes into the page as text, never as markup.

/** Makes an element: attributes by name, listeners as `onclick` and the like. */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, String(value));
  }
  node.append(...children.flat().filter((child) => child != null && child !== false));
  return node;
}

const lists = new WeakMap();

/** Shows `items` in `parent`, in order, and keeps the elements of those that were there before. */
export function keyed(parent, items, key, make, update) {
  const before = lists.get(parent) ?? new Map();
  const now = new Map();
  let place = parent.firstElementChild;
  for (const item of items) {
    const node = before.get(key(item)) ?? make(item);
    update(node, item);
    now.set(key(item), node);
    if (node === place) place = place.nextElementSibling;
    else parent.insertBefore(node, place);
  }
  for (const [name, node] of before) if (!now.has(name)) node.remove();
  lists.set(parent, now);
}
