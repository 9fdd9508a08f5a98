import { byId, el, setText } from './dom.js';

const KEPT = 200;

/** The drawer of raw events: what came over the wire, newest first. */
export function drawerView() {
  const drawer = byId('drawer');
  const toggle = byId('drawer-toggle');
  const list = byId('raw');
  const pause = byId('raw-pause');
  const empty = byId('raw-empty');
  /** Events not drawn yet, oldest first. */
  let waiting = [];
  let paused = false;

  function show(open) {
    drawer.hidden = !open;
    toggle.setAttribute('aria-expanded', String(open));
    if (open) draw();
    else toggle.focus();
  }

  function draw() {
    if (drawer.hidden || paused || waiting.length === 0) return;
    const rows = document.createDocumentFragment();
    for (const event of waiting.reverse()) rows.append(row(event));
    waiting = [];
    list.prepend(rows);
    while (list.childElementCount > KEPT) list.lastElementChild.remove();
    empty.hidden = true;
  }

  toggle.addEventListener('click', () => show(drawer.hidden));
  byId('drawer-close').addEventListener('click', () => show(false));
  document.addEventListener('keydown', (key) => {
    if (key.key === 'Escape' && !drawer.hidden) show(false);
  });
  pause.addEventListener('click', () => {
    paused = !paused;
    pause.setAttribute('aria-pressed', String(paused));
    setText(pause, paused ? 'Resume' : 'Pause');
    draw();
  });

  return {
    draw,
    add(event) {
      waiting.push(event);
      if (waiting.length > KEPT) waiting.shift();
    },
  };
}

function row(event) {
  const at = new Date(event.at);
  const time = el('time', '', at.toLocaleTimeString([], { hour12: false }));
  time.dateTime = at.toISOString();
  return el(
    'li',
    'raw',
    el('span', 'raw-head', el('span', 'raw-id', String(event.id)), el('span', 'raw-type', event.type), time),
    el('code', '', JSON.stringify(event.data)),
  );
}
