import { byId, setClass, setText } from './dom.js';
import { reasonInWords, span } from './words.js';

const WORDS = {
  connecting: ['Connecting', 'warn'],
  replaying: ['Catching up', 'warn'],
  live: ['Live', 'live'],
  reconnecting: ['Reconnecting', 'warn'],
  closed: ['Reconnecting', 'warn'],
  ended: ['Session ended', 'bad'],
};

const HINT = 'open the link that the service printed';

/** The connection state. Its word is announced to screen readers; how long it has lasted is not, or it would talk every second. */
export function connectionView() {
  const pill = byId('connection');
  const word = byId('connection-word');
  const detail = byId('connection-detail');
  let ended = false;
  let note = '';

  function show(feed) {
    const [text, tone] = WORDS[ended ? 'ended' : feed.state];
    setText(word, text);
    setClass(pill, `pill ${tone}`);
    tick(feed);
  }

  function tick(feed) {
    if (ended) return setText(detail, HINT);
    if (feed.state === 'live') return setText(detail, note);
    const why = feed.reason ? `, ${reasonInWords(feed.reason)}` : '';
    setText(detail, `for ${span(Date.now() - feed.since)}${why}`);
  }

  return {
    show,
    tick,
    /** @param {boolean} never whether there was no session to begin with; the page then says what to do in its middle */
    end(never) {
      ended = true;
      pill.hidden = never;
      setText(word, WORDS.ended[0]);
      setClass(pill, 'pill bad');
      setText(detail, HINT);
    },
    /** A reset is not an error, but whoever watches should know that the page started over. */
    resetBecause(reason) {
      note = `state taken again at ${new Date().toLocaleTimeString()} (${reason})`;
    },
  };
}
