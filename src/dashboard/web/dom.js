// The few things that a page needs of the DOM.

/** An element: `h('button', { class: 'chip', onclick }, 'text', child)`. Text is always text, never markup. */
export function h(tag, attributes = {}, ...children) {
  const [name, space] = tag.startsWith('svg:')
    ? [tag.slice(4), 'http://www.w3.org/2000/svg']
    : [tag, 'http://www.w3.org/1999/xhtml'];
  const element = document.createElementNS(space, name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith('on')) element.addEventListener(key.slice(2), value);
    else if (value !== undefined && value !== null && value !== false) element.setAttribute(key, value === true ? '' : value);
  }
  element.append(...children.filter((child) => child !== undefined && child !== null && child !== false));
  return element;
}

/** Change the text of an element only if it differs, so that nothing flickers. */
export function say(element, text) {
  if (element && element.textContent !== text) element.textContent = text;
}

/** Make the children of `parent` those of `rows`, keeping elements (and the focus in them) by key. */
export function reconcile(parent, rows, key, make, update) {
  for (const child of [...parent.children]) if (child.dataset.key === undefined) child.remove();
  const held = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  rows.forEach((row, at) => {
    const name = key(row);
    let child = held.get(name);
    held.delete(name);
    if (!child) {
      child = make(row);
      child.dataset.key = name;
    }
    update(child, row, at);
    if (parent.children[at] !== child) parent.insertBefore(child, parent.children[at] ?? null);
  });
  held.forEach((child) => child.remove());
}

/** Call `act` for a tap, and with `true` for a tap that adds: with Ctrl or Command, or a long one. */
export function onTap(element, act) {
  let timer;
  let long = false;
  const stop = () => clearTimeout(timer);
  element.addEventListener('pointerdown', () => {
    long = false;
    timer = setTimeout(() => {
      long = true;
      navigator.vibrate?.(12);
    }, LONG_MS);
  });
  for (const name of ['pointerup', 'pointerleave', 'pointercancel']) element.addEventListener(name, stop);
  element.addEventListener('contextmenu', (event) => long && event.preventDefault());
  element.addEventListener('click', (event) => {
    act(event.ctrlKey || event.metaKey || long);
    long = false;
  });
}

/** How long a finger rests to add instead of replace. */
const LONG_MS = 450;
