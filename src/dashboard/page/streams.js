import { serverNow } from './api.js';
import { byId, el, keyedList, setClass, setText } from './dom.js';
import { accrued, amount, split } from './money.js';
import { newestBy } from './state.js';
import { ago, humanise, shortId, tone } from './words.js';

const ROWS_AT_MOST = 24;
const RUNNING = ['active', 'paused', 'draft'];

/** The table of payment streams, whose amounts grow between events at the rate of each stream. */
export function streamsView() {
  const count = byId('streams-count');
  const more = byId('streams-more');
  const list = keyedList(byId('streams'), createRow);

  return {
    flash: list.flash,
    show(streams) {
      const running = streams.filter((it) => RUNNING.includes(it.status));
      const over = streams.filter((it) => !RUNNING.includes(it.status)).sort(newestBy('updatedAt'));
      const shown = [...running, ...over].slice(0, ROWS_AT_MOST);
      list.show(shown, (it) => it.streamId);
      setText(count, `${streams.filter((it) => it.status === 'active').length} of ${streams.length} active`);
      const hidden = streams.length - shown.length;
      setText(more, streams.length === 0 ? 'No streams yet.' : hidden > 0 ? `and ${hidden} more` : '');
    },
    tick(now) {
      list.each((row) => row.tick(now));
    },
  };
}

function createRow(key) {
  const status = el('span', 'status');
  const whole = el('span', 'whole');
  const fraction = el('span', 'fraction');
  const sum = el('span', 'figure', whole, fraction);
  const rate = el('span', 'under');
  const last = el('span', 'figure');
  const when = el('span', 'under');
  const total = el('span', 'figure');
  const ends = el('span', 'under');
  const id = el('span', 'id', shortId(key));
  id.title = key;
  const head = el('th', '', id, status);
  head.scope = 'row';
  const node = el(
    'tr',
    '',
    head,
    el('td', 'number', sum, rate),
    el('td', 'number', last, when),
    el('td', 'number wide', total, ends),
  );
  let stream = null;
  let settlement = null;

  function tick(now) {
    const units = accrued(stream, now);
    const parts = units === null ? { whole: '–', fraction: '' } : split(units, 6);
    setText(whole, parts.whole);
    setText(fraction, parts.fraction);
    const what = settlement?.status === 'failed' ? 'failed' : settlement?.asset;
    setText(when, settlement ? `${what}, ${ago(settlement.finishedAt, now)}` : '');
  }

  return {
    node,
    tick,
    update(it) {
      stream = it;
      settlement = [...it.settlements].sort(newestBy('finishedAt'))[0] ?? null;
      setText(status, humanise(it.status));
      setClass(status, `status ${tone(it.status)}`);
      setText(rate, `${amount(it.ratePerSecond)}/s`);
      setText(last, settlement ? amount(settlement.amount, 6) : 'none yet');
      last.title = settlement?.failureCode ? humanise(settlement.failureCode) : (settlement?.txHash ?? '');
      setClass(last, settlement ? `figure ${settlement.status}` : 'figure none');
      setText(total, amount(it.totalAmount));
      setText(ends, it.endTime ? `until ${new Date(it.endTime).toLocaleDateString()}` : 'open end');
      tick(serverNow());
    },
  };
}
