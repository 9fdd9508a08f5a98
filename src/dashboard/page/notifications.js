import { serverNow } from './api.js';
import { byId, el, keyedList, setClass, setText } from './dom.js';
import { newestBy } from './state.js';
import { ago, humanise, shortId } from './words.js';

const SHOWN_AT_MOST = 20;

/** The list of notifications, newest first, with a mark on those that nobody has read. */
export function notificationsView() {
  const count = byId('notifications-count');
  const more = byId('notifications-more');
  const list = keyedList(byId('notifications'), createRow);

  return {
    flash: list.flash,
    show(notifications) {
      const sorted = [...notifications].sort(newestBy('createdAt'));
      list.show(sorted.slice(0, SHOWN_AT_MOST), (it) => it.id);
      setText(count, `${notifications.filter((it) => !it.readAt).length} unread`);
      setText(more, notifications.length === 0 ? 'Nothing yet.' : '');
    },
    tick(now) {
      list.each((row) => row.tick(now));
    },
  };
}

function createRow() {
  const what = el('span', 'what');
  const about = el('span', 'id');
  const when = el('span', 'when');
  const mark = el('span', 'unseen');
  const node = el('li', 'note', el('span', 'line', what, mark), el('span', 'under', about, when));
  let note = null;

  function tick(now) {
    setText(when, ago(note.createdAt, now));
  }

  return {
    node,
    tick,
    update(it) {
      note = it;
      setClass(node, it.readAt ? 'note' : 'note unread');
      setText(mark, it.readAt ? '' : ' (unread)');
      setText(what, humanise(it.eventType));
      setText(about, it.escrowId ? `escrow ${shortId(it.escrowId)}` : '');
      tick(serverNow());
    },
  };
}
