// The page, from its link to its last frame: session, snapshot, event stream, then whatever changes is drawn at the
// next frame, so that a thousand events in one batch cost one layout.
import { openSession, serverNow, snapshot } from './api.js';
import { connectionView } from './connection.js';
import { byId, setText } from './dom.js';
import { escrowsView } from './escrows.js';
import { createFeed, follow } from './feed.js';
import { inspectorView } from './inspector.js';
import { latencyPlot } from './latency.js';
import { createLine } from './line.js';
import { notificationsView } from './notifications.js';
import { ratePlot } from './plot.js';
import { createRehearsal } from './rehearsal.js';
import { streamsView } from './streams.js';
import { createSync } from './sync.js';
import { shortAddress, shortId } from './words.js';

const RECEIVED_KEPT = 20_000;

const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const calm = matchMedia('(prefers-reduced-motion: reduce)');

const views = { streams: streamsView(), escrows: escrowsView(), notifications: notificationsView() };
const inspector = inspectorView();
const connection = connectionView();
const plot = ratePlot(byId('plot'));
const latency = latencyPlot(byId('latency-plot'));
const line = createLine();

const received = [];
let total = 0;
let changed = true;
const flashing = new Set();

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

const listener = {
  onEvent(event) {
    received.push(event.id);
    if (received.length > RECEIVED_KEPT) received.shift();
    total += 1;
    changed = true;
    plot.count();
    latency.add(event);
    inspector.add(event);
    rehearsal.event(event);
    sync.event(event);
  },
  onReset(reset) {
    connection.resetBecause(reset.reason);
    rehearsal.abandon();
    sync.restart();
  },
  onOversize: () => sync.restart(),
  onStatus(status) {
    changed = true;
    rehearsal.status(status);
  },
  onClosed: () => end(),
};

const feed = createFeed(listener, line.fetch);
const rehearsal = createRehearsal({ line, feed, openWitness: (cursor) => follow(cursor) });

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
  inspector.draw();
}

function everySecond() {
  setText(byId('rate'), String(plot.tick()));
  setText(byId('latency'), latency.tick());
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
