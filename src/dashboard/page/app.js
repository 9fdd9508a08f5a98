// The page, from its link to its last frame: session, snapshot, event stream, then whatever changes is drawn at the
// next frame, so that a thousand events in one batch cost one layout.
import { openSession, serverNow, snapshot } from './api.js';
import { connectionView } from './connection.js';
import { byId, setText } from './dom.js';
import { drawerView } from './drawer.js';
import { escrowsView } from './escrows.js';
import { createFeed } from './feed.js';
import { notificationsView } from './notifications.js';
import { ratePlot } from './plot.js';
import { streamsView } from './streams.js';
import { createSync } from './sync.js';
import { shortAddress, shortId } from './words.js';

const RECEIVED_KEPT = 20_000;
const REOPEN_AT_MOST_MS = 30_000;

const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const calm = matchMedia('(prefers-reduced-motion: reduce)');

const views = { streams: streamsView(), escrows: escrowsView(), notifications: notificationsView() };
const drawer = drawerView();
const connection = connectionView();
const plot = ratePlot(byId('plot'));

const received = [];
let total = 0;
let changed = true;
const flashing = new Set();
let reopenAfter = 1_000;

const sync = createSync({
  wait,
  snapshot: async (topic) => {
    const taken = await snapshot(topic);
    if (!topic) introduce(Object.keys(taken.topics));
    return taken;
  },
  changed(id) {
    changed = true;
    if (id) flashing.add(id);
  },
  refused: () => end(),
});

const feed = createFeed({
  onEvent(event) {
    received.push(event.id);
    if (received.length > RECEIVED_KEPT) received.shift();
    total += 1;
    changed = true;
    plot.count();
    drawer.add(event);
    sync.event(event);
  },
  onReset(reset) {
    connection.resetBecause(reset.reason);
    sync.restart();
  },
  onChange() {
    changed = true;
    if (feed.state === 'live') reopenAfter = 1_000;
  },
  onClosed: reopen,
});

/** For tests, and for the curious: what has been received, and up to where. */
window.settlewire = {
  received,
  get cursor() {
    return feed.cursor;
  },
  get state() {
    return feed.state;
  },
  get duplicates() {
    return feed.duplicates;
  },
  get data() {
    return sync.state;
  },
};

/** The stream was refused. Either the session is over, or something in between had a bad moment. */
async function reopen() {
  await wait(reopenAfter);
  reopenAfter = Math.min(reopenAfter * 2, REOPEN_AT_MOST_MS);
  try {
    await snapshot();
    feed.open(feed.cursor);
  } catch (error) {
    if (error.final) end();
    else reopen();
  }
}

function end() {
  feed.close();
  const never = byId('board').hidden;
  connection.end(never);
  byId('gate').hidden = !never;
  byId('drawer-toggle').hidden = never;
  byId('board').classList.add('stale');
}

function introduce(topics) {
  const user = topics.find((it) => it.startsWith('user:'))?.slice(5);
  const wallet = topics.find((it) => it.startsWith('wallet:'))?.slice(7);
  const who = byId('who');
  setText(who, wallet ? shortAddress(wallet) : user ? `user ${shortId(user)}` : '');
  who.title = [user, wallet].filter(Boolean).join(' · ');
}

function draw() {
  requestAnimationFrame(draw);
  if (!changed) return;
  changed = false;
  const { streams, escrows, notifications } = sync.state;
  views.streams.show([...streams.values()]);
  views.escrows.show([...escrows.values()]);
  views.notifications.show([...notifications.values()]);
  for (const id of flashing) for (const view of Object.values(views)) view.flash(id);
  flashing.clear();
  setText(byId('cursor'), String(feed.cursor));
  setText(byId('received'), total.toLocaleString());
  setText(byId('duplicates'), String(feed.duplicates));
  byId('duplicates').classList.toggle('bad', feed.duplicates > 0);
  connection.show(feed);
  drawer.draw();
}

function everySecond() {
  setText(byId('rate'), String(plot.tick()));
  const now = serverNow();
  for (const view of Object.values(views)) view.tick(now);
  connection.tick(feed);
}

async function start() {
  try {
    await openSession();
  } catch (error) {
    if (error.final) return end();
    throw error;
  }
  const cursor = await sync.restart();
  if (cursor === null) return;
  byId('board').hidden = false;
  feed.open(cursor);
}

setInterval(everySecond, 1_000);
setInterval(() => {
  if (!calm.matches && !document.hidden) views.streams.tick(serverNow());
}, 100);
requestAnimationFrame(draw);
start();
