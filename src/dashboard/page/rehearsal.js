// A reconnect with replay, step by step: the line is cut, a witness on a line of its own counts what the page misses, the line
// is mended, and what comes back is held against what the witness saw.
import { byId, el, setClass, setText } from './dom.js';
import { humanise, reasonInWords, span } from './words.js';

/** Squares drawn; the counts go on. */
const DRAWN = 240;
const LABELS = { idle: 'Cut the line', cut: 'Mend the line', mended: 'Mending…', done: 'Cut it again' };

/**
 * @param {{ line: { cut(): void, mend(): void }, feed: { cursor: number, duplicates: number },
 *   openWitness(cursor: number): { on(type: string, listener: (it: any) => void): void, close(): void } }} need
 */
export function createRehearsal({ line, feed, openWitness }) {
  const button = byId('line-button');
  const steps = Object.fromEntries(
    ['cut', 'missed', 'back', 'replayed'].map((it) => [it, byId(`step-${it}`)]),
  );
  const squares = byId('line-squares');
  const verdict = byId('line-verdict');
  let stage = 'idle';
  let run = null;

  button.addEventListener('click', () => {
    if (stage === 'cut') mend();
    else if (stage !== 'mended') cut();
  });

  function become(next) {
    stage = next;
    setText(button, LABELS[next]);
    button.setAttribute('aria-disabled', String(next === 'mended'));
    byId('line').dataset.stage = next;
  }

  function cut() {
    run = {
      from: feed.cursor,
      at: Date.now(),
      duplicates: feed.duplicates,
      attempts: 0,
      missed: new Map(),
      back: [],
      caughtUp: null,
      sessionAt: 0,
    };
    squares.replaceChildren();
    setText(verdict, '');
    byId('line-steps').hidden = false;
    squares.hidden = false;
    describe();
    line.cut();
    run.witness = openWitness(run.from);
    run.witness.on('event', miss);
    become('cut');
    tell(
      'cut',
      'done',
      `after event ${run.from}, at ${new Date().toLocaleTimeString([], { hour12: false })}`,
    );
    tell('missed', 'now', 'nothing yet');
    tell('back', '', '');
    tell('replayed', '', '');
  }

  function mend() {
    line.mend();
    become('mended');
    tell('missed', 'done', missedInWords());
    tell('back', 'now', 'at the next attempt');
  }

  function miss({ id, type }) {
    if (run.caughtUp !== null && id > run.caughtUp) return;
    run.missed.set(id, { type, square: square(id, type) });
    describe();
    if (stage === 'cut') tell('missed', 'now', missedInWords());
    if (run.back.includes(id)) fill(id);
    judge();
  }

  function square(id, type) {
    if (squares.childElementCount >= DRAWN) return null;
    const node = el('i');
    node.title = `${id} ${type}`;
    squares.append(node);
    return node;
  }

  function fill(id) {
    const missed = run.missed.get(id);
    if (missed?.square) setClass(missed.square, 'back');
    describe();
  }

  function describe() {
    const back = run.back.length;
    squares.setAttribute('aria-label', `${events(run.missed.size)} missed, ${back} of them back`);
  }

  function missedInWords() {
    const { size } = run.missed;
    if (size === 0) return 'nothing yet';
    const counts = new Map();
    for (const { type } of run.missed.values()) counts.set(type, (counts.get(type) ?? 0) + 1);
    const [top, ...others] = [...counts]
      .sort((a, b) => b[1] - a[1])
      .map(([type, n]) => `${n} ${humanise(type)}`);
    const more = others.length > 1 ? ' and others' : others.length === 1 ? `, ${others[0]}` : '';
    return `${events(size)}: ${top}${more}`;
  }

  function judge() {
    if (stage !== 'mended' || run.caughtUp === null) return;
    const { missed, back } = run;
    // The witness has not had yet what the page has had: it will.
    if (back.some((id) => !missed.has(id))) return;
    const lost = missed.size - back.length;
    const twice = feed.duplicates - run.duplicates;
    const inOrder = back.every((id, index) => index === 0 || id > back[index - 1]);
    run.witness.close();
    become('done');
    const took = Math.max(1, Math.round(run.caughtUpAt - run.sessionAt));
    tell('missed', 'done', missed.size === 0 ? 'nothing' : missedInWords());
    tell('replayed', lost > 0 ? 'bad' : 'done', `${back.length} of ${missed.size}, in ${took} ms`);
    setClass(verdict, lost + twice > 0 || !inOrder ? 'verdict bad' : 'verdict');
    setText(verdict, verdictInWords(missed.size, lost, twice, inOrder));
  }

  function verdictInWords(size, lost, twice, inOrder) {
    if (size === 0) return 'Nothing happened while the line was cut.';
    if (lost > 0) return `${lost} of ${size} did not come back.`;
    if (twice > 0) return `${twice} came twice.`;
    if (!inOrder) return 'They came out of order.';
    if (size === 1) return 'The one missed event came back.';
    return `All ${size} missed events came back, in order, none twice.`;
  }

  function tell(name, state, text) {
    const step = steps[name];
    step.dataset.state = state;
    setText(step.querySelector('p'), text);
  }

  return {
    /** @param {{ id: number }} event that the page got */
    event({ id }) {
      if (stage !== 'mended' || run.caughtUp !== null) return;
      run.back.push(id);
      fill(id);
      tell('replayed', 'now', `${run.back.length} of ${run.missed.size}`);
    },
    status({ state, reason, retryInMs }) {
      if (stage !== 'cut' && stage !== 'mended') return;
      if (state === 'waiting') {
        run.attempts += 1;
        const times = run.attempts === 1 ? '' : `${run.attempts} attempts, `;
        tell('back', 'now', `${times}again in ${(retryInMs / 1000).toFixed(1)} s`);
        byId('step-back').title = reasonInWords(reason);
      } else if (state === 'replaying' && stage === 'mended') {
        run.sessionAt = performance.now();
        byId('step-back').title = '';
        tell('back', 'done', `after ${span(Date.now() - run.at)}, with Last-Event-ID ${run.from}`);
        tell('replayed', 'now', `0 of ${run.missed.size}`);
      } else if (state === 'live' && stage === 'mended') {
        run.caughtUp = feed.cursor;
        run.caughtUpAt = performance.now();
        for (const [id, { square: node }] of run.missed)
          if (id > run.caughtUp) {
            run.missed.delete(id);
            node?.remove();
          }
        judge();
      }
    },
    /** The page takes everything anew: what came back cannot be told event by event. */
    abandon() {
      if (stage !== 'cut' && stage !== 'mended') return;
      run.witness.close();
      line.mend();
      become('done');
      setClass(verdict, 'verdict');
      setText(verdict, 'The state was taken again instead: the history could not be replayed.');
    },
  };
}

function events(count) {
  return count === 1 ? '1 event' : `${count} events`;
}
