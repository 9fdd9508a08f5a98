import { serverNow } from './api.js';
import { byId, el, keyedList, setClass, setText } from './dom.js';
import { amount, toUnits } from './money.js';
import { newestBy } from './state.js';
import { ago, humanise, shortId, tone } from './words.js';

const CARDS_AT_MOST = 18;
const OPEN = ['disputed', 'active', 'pending'];
const ROLES = ['buyer', 'seller', 'arbitrator'];

/** The cards of escrows: how much has been released, who has accepted, and whether there is a dispute. */
export function escrowsView() {
  const count = byId('escrows-count');
  const more = byId('escrows-more');
  const list = keyedList(byId('escrows'), createCard);

  return {
    flash: list.flash,
    show(escrows) {
      const open = escrows.filter((it) => OPEN.includes(it.status));
      const over = escrows.filter((it) => !OPEN.includes(it.status)).sort(newestBy('updatedAt'));
      const shown = [...open, ...over].slice(0, CARDS_AT_MOST);
      list.show(shown, (it) => it.escrowId);
      setText(count, `${open.length} of ${escrows.length} open`);
      const hidden = escrows.length - shown.length;
      setText(more, escrows.length === 0 ? 'No escrows yet.' : hidden > 0 ? `and ${hidden} more` : '');
    },
    tick(now) {
      list.each((row) => row.tick(now));
    },
  };
}

function createCard(key) {
  const id = el('span', 'id', shortId(key));
  id.title = key;
  const status = el('span', 'status');
  const released = el('span', 'whole');
  const of = el('span', 'of');
  const bar = el('progress');
  bar.setAttribute('aria-label', 'released');
  const milestones = el('span', 'milestones');
  const when = el('span', 'when');
  const parties = el('ul', 'parties');
  const partyList = keyedList(parties, createParty);
  const dispute = el('p', 'dispute');
  const node = el(
    'li',
    'card',
    el('h3', '', id, status),
    el('p', 'figure', released, of),
    bar,
    el('p', 'under', milestones, when),
    parties,
    dispute,
  );
  let escrow = null;

  function tick(now) {
    setText(when, ago(escrow.updatedAt, now));
  }

  return {
    node,
    tick,
    update(it) {
      escrow = it;
      setText(status, humanise(it.status));
      setClass(status, `status ${tone(it.status)}`);
      setText(released, amount(it.releasedAmount));
      setText(of, ` of ${amount(it.amount)} ${it.asset ?? ''}`);
      bar.max = 1;
      bar.value = share(it);
      setText(milestones, milestonesInWords(it.milestones.length));
      const byRole = [...it.parties].sort((a, b) => ROLES.indexOf(a.role) - ROLES.indexOf(b.role));
      partyList.show(byRole, (party) => party.partyId);
      setText(dispute, it.dispute ? disputeInWords(it.dispute) : '');
      setClass(dispute, it.dispute?.status === 'resolved' ? 'dispute resolved' : 'dispute');
      dispute.hidden = !it.dispute;
      tick(serverNow());
    },
  };
}

function createParty() {
  const node = el('li');
  return {
    node,
    update(party) {
      setText(node, party.role);
      setClass(node, `party ${tone(party.status)}`);
      node.title = `${party.role}: ${party.status}`;
      node.append(el('span', 'unseen', `: ${party.status}`));
    },
  };
}

function share(escrow) {
  const whole = toUnits(escrow.amount) ?? 0n;
  const part = toUnits(escrow.releasedAmount) ?? 0n;
  return whole > 0n ? Number((part * 1000n) / whole) / 1000 : 0;
}

function milestonesInWords(count) {
  if (count === 0) return 'no milestone released';
  return `${count} ${count === 1 ? 'milestone' : 'milestones'} released`;
}

function disputeInWords(dispute) {
  if (dispute.status !== 'resolved') {
    const by = dispute.filedByRole ? ` by the ${dispute.filedByRole}` : '';
    return `Disputed${by}, ${humanise(dispute.status)}`;
  }
  if (dispute.outcome !== 'split') return `Dispute resolved: ${humanise(dispute.outcome)}`;
  return `Dispute resolved: split, seller ${percent(dispute.sellerPercent)}, buyer ${percent(dispute.buyerPercent)}`;
}

function percent(value) {
  return value === null || value === undefined ? '–' : `${Number(value)}%`;
}
