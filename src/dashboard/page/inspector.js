import { byId, el, setText } from './dom.js';

const KEPT = 200;

/** The inspector: what came over the wire, newest first; filtered, paused, and copied as a curl line that gets it again. */
export function inspectorView() {
  const drawer = byId('drawer');
  const toggle = byId('drawer-toggle');
  const list = byId('raw');
  const pause = byId('raw-pause');
  const filter = byId('raw-filter');
  const empty = byId('raw-empty');
  const said = byId('raw-said');
  /** Events not drawn yet, oldest first. */
  let waiting = [];
  let paused = false;

  function show(open) {
    drawer.hidden = !open;
    toggle.setAttribute('aria-expanded', String(open));
    if (open) {
      draw();
      filter.focus();
    } else toggle.focus();
  }

  function draw() {
    if (paused) setText(pause, waiting.length > 0 ? `Resume (${waiting.length})` : 'Resume');
    if (drawer.hidden || paused || waiting.length === 0) return;
    const rows = document.createDocumentFragment();
    for (const event of waiting.reverse()) rows.append(row(event));
    waiting = [];
    list.prepend(rows);
    while (list.childElementCount > KEPT) list.lastElementChild.remove();
    sift();
  }

  function sift() {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const node of list.children) {
      node.hidden = !words.every((word) => node.dataset.text.includes(word));
      if (!node.hidden) shown += 1;
    }
    const all = list.childElementCount;
    setText(byId('raw-count'), words.length > 0 ? `${shown} of the last ${all}` : `the last ${all}`);
    byId('raw-count').hidden = all === 0;
    setText(empty, all === 0 ? 'Nothing has arrived since the page was opened.' : 'None of these match.');
    empty.hidden = shown > 0;
  }

  toggle.addEventListener('click', () => show(drawer.hidden));
  byId('drawer-close').addEventListener('click', () => show(false));
  filter.addEventListener('input', sift);
  document.addEventListener('keydown', (key) => {
    if (key.key === 'Escape' && !drawer.hidden) show(false);
  });
  pause.addEventListener('click', () => {
    paused = !paused;
    pause.setAttribute('aria-pressed', String(paused));
    setText(pause, paused ? 'Resume' : 'Pause');
    draw();
  });
  list.addEventListener('click', async ({ target }) => {
    const button = target.closest('button');
    if (!button) return;
    await navigator.clipboard.writeText(curl(button.dataset.id));
    setText(said, `Copied: event ${button.dataset.id} as curl`);
  });

  return {
    draw,
    add(event) {
      waiting.push(event);
      if (waiting.length > KEPT) waiting.shift();
    },
  };
}

/** Gets the event again, and what came after it, for whoever has a token. */
function curl(id) {
  const url = new URL('v1/events', location.href);
  return `curl -N -H "Authorization: Bearer $TOKEN" -H 'Last-Event-ID: ${id - 1}' '${url.origin}${url.pathname}'`;
}

function row(event) {
  const at = new Date(event.at);
  const time = el('time', '', at.toLocaleTimeString([], { hour12: false }));
  time.dateTime = at.toISOString();
  const data = JSON.stringify(event.data);
  const copy = el('button', 'copy', 'curl');
  copy.type = 'button';
  copy.dataset.id = String(event.id);
  copy.setAttribute('aria-label', `Copy event ${event.id} as curl`);
  const head = el(
    'span',
    'raw-head',
    el('span', 'raw-id', String(event.id)),
    el('span', 'raw-type', event.type),
    time,
    copy,
  );
  const node = el('li', event.live ? 'raw' : 'raw replayed', head, el('code', '', data));
  node.dataset.text = `${event.id} ${event.type} ${data}`.toLowerCase();
  return node;
}
