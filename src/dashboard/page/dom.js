// The little that is needed of a view library. Everything goes in as text nodes: nothing that comes from the
// service is ever read as markup.

/**
 * @param {string} tag
 * @param {string} [className]
 * @param {...(Node | string)} children
 */
export function el(tag, className, ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...children);
  return node;
}

/** @param {string} id @returns {HTMLElement} */
export function byId(id) {
  const node = document.getElementById(id);
  if (!node) throw new Error(`the page has no #${id}`);
  return node;
}

/** Writes text only where it changed, so that selections survive and nothing is laid out in vain. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function setClass(node, className) {
  if (node.className !== className) node.className = className;
}

/**
 * A list whose rows keep their elements while their data changes.
 * @param {HTMLElement} parent
 * @param {(key: string) => { node: HTMLElement, update(item: any): void }} create
 */
export function keyedList(parent, create) {
  const rows = new Map();
  return {
    /** @param {any[]} items in the order to show @param {(item: any) => string} keyOf */
    show(items, keyOf) {
      const gone = new Set(rows.keys());
      let place = parent.firstElementChild;
      for (const item of items) {
        const key = keyOf(item);
        gone.delete(key);
        if (!rows.has(key)) rows.set(key, { ...create(key), shown: null });
        const row = rows.get(key);
        if (row.shown !== item) row.update(item);
        row.shown = item;
        if (row.node === place) place = place.nextElementSibling;
        else parent.insertBefore(row.node, place);
      }
      for (const key of gone) {
        rows.get(key).node.remove();
        rows.delete(key);
      }
    },
    /** Draws the eye to a row for a second. Two equal animations take turns, since setting the same one does not restart it. */
    flash(key) {
      const node = rows.get(key)?.node;
      if (node) node.dataset.flash = node.dataset.flash === 'a' ? 'b' : 'a';
    },
    each(visit) {
      for (const row of rows.values()) visit(row);
    },
  };
}
